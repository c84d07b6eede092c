// What lies under the pointer: the time, why nothing is there, what is held, and a small picture.
// Kept true: one picture is asked for at a time, when the pointer rests; at most some dozens are kept.

import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { frameUrl, request } from "../lib/api";
import { causeOf } from "../lib/terms";
import { clock, dayClock, lasting, parseTime, SECOND } from "../lib/time";
import { words } from "../lib/words";
import type { TimelineData } from "./data";

const REST_MS = 120;
const KEPT = 48;
const WIDTH_PX = 192;

const t = words({
  packets: ["{n} packets", "{n} gói"],
  hold: ["held for {owner}: {reason}", "giữ cho {owner}: {reason}"],
  fresh: ["not yet safe on disk", "chưa an toàn trên đĩa"],
  nothing: ["nothing recorded", "không có bản ghi"],
});

interface Under {
  at: Signal<{ x: number; y: number } | null>;
  data: TimelineData;
  moment: (x: number, width: number) => number;
  streamAt: (y: number) => string | null;
  canvas: { current: HTMLCanvasElement | null };
}

const pictures = new Map<string, string>();

function keep(key: string, url: string): void {
  pictures.set(key, url);
  while (pictures.size > KEPT) {
    const [oldest, old] = pictures.entries().next().value!;
    pictures.delete(oldest);
    URL.revokeObjectURL(old);
  }
}

export function Hover({ at, data, moment, streamAt, canvas }: Under) {
  const picture = useSignal("");
  const asking = useRef<AbortController | null>(null);
  const point = at.value;
  const width = canvas.current?.clientWidth ?? 1;
  const ms = point ? moment(point.x, width) : 0;
  const stream = point ? streamAt(point.y) : null;
  const row = stream ? data.rows.get(stream) : undefined;
  const gap = row && data.at(row.gaps, ms);
  const recorded = row && !gap && data.at(row.spans, ms);
  const step = Math.max(SECOND, (moment(8, width) - moment(0, width))); // eight pixels share a picture
  const key = recorded ? `${stream} ${Math.floor(ms / step) * step}` : "";
  useEffect(() => {
    asking.current?.abort();
    picture.value = pictures.get(key) ?? "";
    if (!key || picture.value) return;
    const ending = asking.current = new AbortController();
    const timer = setTimeout(() => void request(frameUrl(stream!, ms, { exact: "false", width: WIDTH_PX }), { signal: ending.signal })
      .then(async (answer) => {
        const url = URL.createObjectURL(await answer.blob());
        keep(key, url);
        if (!ending.signal.aborted && Math.abs(parseTime(answer.headers.get("Keyreel-Time")) - ms) < 60_000 + step) picture.value = url;
      }).catch(() => {}), REST_MS);
    return () => { clearTimeout(timer); ending.abort(); };
  }, [key]);
  if (!point) return null;
  const hold = data.holds.find((one) => stream && one.streams.has(stream) && one.start <= ms && ms < one.end);
  const fine = moment(1, width) - moment(0, width) < 100;
  const left = Math.min(Math.max(point.x, 100), Math.max(width - 100, 100));
  return <div class="hover" aria-hidden="true" style={{ left: `${left + (canvas.current?.offsetLeft ?? 0)}px` }}>
    {picture.value && <img src={picture.value} alt="" />}
    <b>{dayClock(ms, fine)}</b>
    {gap && <span class="why">{causeOf(gap.cause)}<small>{clock(gap.start)} – {clock(gap.end)} · {lasting(gap.end - gap.start)}
      {gap.packets ? ` · ${t("packets", { n: gap.packets })}` : ""}</small></span>}
    {row && !gap && !recorded && <span class="why">{ms > row.durable && row.durable ? t("fresh") : t("nothing")}</span>}
    {hold && <span class="why">{t("hold", { owner: hold.owner, reason: hold.reason })}</span>}
  </div>;
}
