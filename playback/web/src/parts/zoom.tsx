// How much time the timeline shows: usual lengths, earlier and later, and what is in view.

import type { Signal } from "@preact/signals";
import { now } from "../lib/node";
import { clock, DAY, day, dayClock, HOUR, MINUTE, offset } from "../lib/time";
import { words } from "../lib/words";
import { clampView, type View } from "../timeline/scale";

const t = words({
  shown: ["Time shown", "Khoảng thời gian"],
  minute: ["1 min", "1 phút"], ten: ["10 min", "10 phút"], hour: ["1 h", "1 giờ"], six: ["6 h", "6 giờ"], day: ["Day", "Ngày"], week: ["Week", "Tuần"], month: ["30 days", "30 ngày"],
  earlier: ["Earlier", "Trước"], later: ["Later", "Sau"], now: ["Now", "Bây giờ"],
});
const LENGTHS: [Parameters<typeof t>[0], number][] = [
  ["minute", MINUTE], ["ten", 10 * MINUTE], ["hour", HOUR], ["six", 6 * HOUR], ["day", DAY], ["week", 7 * DAY], ["month", 30 * DAY],
];

export function ZoomBar({ view, head }: { view: Signal<View>; head: Signal<number | null> }) {
  const { start, end } = view.value;
  const span = end - start;
  const same = day(start) === day(end);
  const fine = span < 3 * MINUTE;
  const cut = (text: string) => fine ? text : text.slice(0, -3);
  const move = (by: number) => { view.value = clampView(start + by * span, end + by * span, now()); };
  const show = (length: number) => {
    const at = head.peek() ?? now() + length * 0.04 - length / 2;
    view.value = clampView(at - length / 2, at + length / 2, now());
  };
  return <div class="zoom">
    <span class="span">{cut(dayClock(start))} – {same ? cut(clock(end)) : cut(dayClock(end))} <small>{offset(end)}</small></span>
    <div class="switch" role="group" aria-label={t("shown")}>
      {LENGTHS.map(([name, length]) => <button key={name} type="button" aria-pressed={Math.abs(span / length - 1) < 0.02} onClick={() => show(length)}>{t(name)}</button>)}
    </div>
    <button type="button" aria-label={t("earlier")} title={t("earlier")} onClick={() => move(-0.5)}>‹</button>
    <button type="button" aria-label={t("later")} title={t("later")} onClick={() => move(0.5)}>›</button>
    <button id="now" type="button" onClick={() => { view.value = clampView(now() - span * 0.96, now() + span * 0.04, now()); }}>{t("now")}</button>
  </div>;
}
