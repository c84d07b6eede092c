// The gaps in view of one stream as a list, for keyboard and screen reader; and what the colours mean.

import type { Signal } from "@preact/signals";
import { causeOf } from "../lib/terms";
import { dayClock, lasting } from "../lib/time";
import { words } from "../lib/words";
import type { TimelineData } from "../timeline/data";
import type { View } from "../timeline/scale";

const LISTED = 200;
const BEFORE_MS = 5000;

const t = words({
  none: ["No gaps in view", "Không có khoảng trống"],
  one: ["1 gap in view", "1 khoảng trống"],
  many: ["{n} gaps in view", "{n} khoảng trống"],
  of: ["of {stream}", "của {stream}"],
  packets: ["{n} packets", "{n} gói"],
  recorded: ["recorded", "đã ghi"], fresh: ["not yet safe", "chưa an toàn"], gap: ["no connection", "mất kết nối"],
  loss: ["lost", "mất"], quiet: ["not recorded", "không ghi"], hold: ["held", "giữ lại"],
});

export function Gaps({ data, view, stream, onSeek }: { data: TimelineData; view: Signal<View>; stream: string; onSeek: (ms: number) => void }) {
  void data.version.value;
  const { start, end } = view.value;
  const gaps = (data.rows.get(stream)?.gaps ?? []).filter((gap) => gap.end > start && gap.start < end);
  return <div class="gaps">
    <details>
      <summary>{gaps.length === 0 ? t("none") : gaps.length === 1 ? t("one") : t("many", { n: gaps.length })} {stream && <small>{t("of", { stream })}</small>}</summary>
      <ul>{gaps.slice(-LISTED).reverse().map((gap) => <li key={gap.start}>
        <button type="button" onClick={() => onSeek(gap.start - BEFORE_MS)}>
          {dayClock(gap.start)} · {lasting(gap.end - gap.start)} · {causeOf(gap.cause)}{gap.packets ? ` · ${t("packets", { n: gap.packets })}` : ""}
        </button>
      </li>)}</ul>
    </details>
    <p class="legend" aria-hidden="true">
      {(["recorded", "fresh", "gap", "loss", "quiet", "hold"] as const).map((key) => <span key={key}><i class={`k k-${key}`} />{t(key)}</span>)}
    </p>
  </div>;
}
