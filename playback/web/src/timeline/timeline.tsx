// The timeline: names on the left, a canvas of rows on the right; pointer, wheel, pinch and keys move and zoom it.

import { type Signal, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { byName, now, second, streams } from "../lib/node";
import { condition, toneOf } from "../lib/terms";
import { colours, theme } from "../lib/theme";
import { dayClock, offset, parseTime } from "../lib/time";
import { words } from "../lib/words";
import { TimelineData } from "./data";
import { COLOURS, draw, type Palette, ROW_PX, RULER_PX } from "./draw";
import { Hover } from "./hover";
import { clampView, type View, zoomed } from "./scale";

const CLICK_PX = 4;
const GRIP_PX = 9; // around a mark's flag on the ruler
const FIND_FROM = 8;
const RENEW_MS = 4000;
const PIXELS_MIN = 300;
const AROUND_ROWS = 20; // asked for beyond those in sight

const t = words({
  timeline: ["Timeline", "Dòng thời gian"],
  moment: ["Moment on the timeline", "Thời điểm trên dòng thời gian"],
  nowhere: ["no moment chosen", "chưa chọn thời điểm"],
  find: ["Find a stream", "Tìm luồng"],
  watch: ["Watch {stream}", "Xem {stream}"],
});

export interface Marks { start: number | null; end: number | null }

interface Shown {
  names: string[];
  chosen: string[];
  find: Signal<string>;
  total: number; // streams there are, of which `names` are those found
  view: Signal<View>;
  head: Signal<number | null>;
  marks: Signal<Marks>;
  data: TimelineData;
  onSeek: (ms: number, stream: string | null) => void;
  onChoose: (names: string[]) => void;
  most: number;
}

export function Timeline(props: Shown) {
  const { names, chosen, view, head, marks, data, onChoose, most, find, total } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const hover = useSignal<{ x: number; y: number } | null>(null);
  const palette = useRef<Palette | null>(null);
  const frame = useRef(0);
  const latest = useRef(props);
  latest.current = props;

  const redraw = useMemo(() => () => {
    frame.current ||= requestAnimationFrame(() => {
      frame.current = 0;
      if (!canvas.current) return;
      palette.current ??= colours(COLOURS);
      const { names: drawn, chosen: watched } = latest.current;
      draw(canvas.current, {
        view: view.peek(), names: drawn, chosen: new Set(watched), rows: data.rows, holds: data.holds,
        newest: new Map(streams.peek().filter((one) => one.state === "recording").map((one) => [one.id, parseTime(one.last_frame) || 0])),
        scroll: scroller.current?.scrollTop ?? 0, head: head.peek(), now: now(), marks: marks.peek(), hover: hover.peek(),
      }, palette.current);
    });
  }, []);
  useSignalEffect(() => { void theme.value; palette.current = null; redraw(); });
  useSignalEffect(() => { void [view.value, head.value, marks.value, hover.value, data.version.value, second.value]; redraw(); });
  const want = () => {
    const { names: all, chosen: watched } = latest.current;
    const first = Math.max(0, Math.floor((scroller.current?.scrollTop ?? 0) / ROW_PX) - AROUND_ROWS);
    const inSight = all.slice(first, first + Math.ceil((canvas.current?.clientHeight ?? 0) / ROW_PX) + 2 * AROUND_ROWS);
    data.want(view.peek(), Math.max(PIXELS_MIN, canvas.current?.clientWidth ?? 0), [...new Set([...watched.filter((name) => all.includes(name)), ...inSight])]);
  };
  useSignalEffect(() => { void view.value; want(); });
  useEffect(() => { want(); redraw(); }, [names.join(), chosen.join()]);
  useEffect(() => {
    const size = new ResizeObserver(() => { redraw(); want(); });
    size.observe(canvas.current!);
    void data.loadHolds();
    const timer = setInterval(() => {
      if (!document.hidden && view.peek().end > now() - 60_000) data.renew();
    }, RENEW_MS);
    return () => { size.disconnect(); clearInterval(timer); data.stop(); cancelAnimationFrame(frame.current); frame.current = 0; };
  }, []);

  const place = (event: { clientX: number; clientY: number }) => {
    const box = canvas.current!.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top, width: box.width };
  };
  const moment = (x: number, width: number) => view.peek().start + (x / width) * (view.peek().end - view.peek().start);
  const streamAt = (y: number): string | null =>
    y < RULER_PX ? null : latest.current.names[Math.floor((y - RULER_PX + scroller.current!.scrollTop) / ROW_PX)] ?? null;

  useEffect(() => attachWheel(canvas.current!, view, place), []);
  usePointers(canvas, { view, hover, marks, place, moment, streamAt, onSeek: (ms, stream) => latest.current.onSeek(ms, stream) });

  const current = head.value;
  return <section class="timeline" aria-label={t("timeline")}>
    <div class="tl-scroll" ref={scroller} onScroll={() => { redraw(); want(); }} style={{ "--needed": `${RULER_PX + names.length * ROW_PX}px` }}>
      <div class="tl-names">
        <div class="tl-find" style={{ height: `${RULER_PX}px` }}>
          {(total > FIND_FROM || find.value) && <input type="search" placeholder={t("find")} aria-label={t("find")} autocomplete="off" value={find.value}
            onInput={(event) => { find.value = event.currentTarget.value; }} />}
        </div>
        {names.map((name) => {
          const on = chosen.includes(name);
          const stream = byName.value.get(name);
          return <label key={name} class={`tl-name${on ? " on" : ""}`} style={{ height: `${ROW_PX}px` }} title={stream ? `${name}: ${condition(stream)}` : name}>
            <input type="checkbox" checked={on} disabled={!on && chosen.length >= most} aria-label={t("watch", { stream: name })}
              onChange={() => onChoose(on ? chosen.filter((other) => other !== name) : [...chosen, name])} />
            <span class={`dot ${toneOf(stream?.state ?? "")}`} /><span class="name">{name}</span>
          </label>;
        })}
      </div>
      <canvas id="timeline" ref={canvas} class="tl-canvas" tabIndex={0} role="slider" aria-label={t("moment")}
        aria-valuemin={Math.floor(view.value.start / 1000)} aria-valuemax={Math.ceil(view.value.end / 1000)}
        aria-valuenow={Math.round((current ?? view.value.end) / 1000)}
        aria-valuetext={current === null ? t("nowhere") : `${dayClock(current)} ${offset(current)}`} />
    </div>
    <Hover at={hover} data={data} moment={moment} streamAt={streamAt} canvas={canvas} />
  </section>;
}

/** A mark is dragged up to the other one, not past it. */
function draggedMark({ start, end }: Marks, which: "start" | "end", to: number): Marks {
  return which === "start" ? { start: Math.min(to, (end ?? Infinity) - 1), end } : { start, end: Math.max(to, (start ?? -Infinity) + 1) };
}

type Place = (event: { clientX: number; clientY: number }) => { x: number; y: number; width: number };

/** Wheel: zoom around the pointer; with shift or sideways: pan. */
function attachWheel(canvas: HTMLCanvasElement, view: Signal<View>, place: Place): () => void {
  const turn = (event: WheelEvent) => {
    event.preventDefault();
    const { x, width } = place(event);
    const { start, end } = view.peek();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const sideways = event.shiftKey ? event.deltaX || event.deltaY : Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
    if (sideways) {
      const by = ((sideways * lines) / width) * (end - start);
      view.value = clampView(start + by, end + by, now());
    } else {
      const factor = Math.exp(Math.max(-240, Math.min(240, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.0022));
      view.value = zoomed(view.peek(), factor, start + (x / width) * (end - start), now());
    }
  };
  canvas.addEventListener("wheel", turn, { passive: false });
  return () => canvas.removeEventListener("wheel", turn);
}

interface Pointing {
  marks: Signal<Marks>;
  view: Signal<View>;
  hover: Signal<{ x: number; y: number } | null>;
  place: Place;
  moment: (x: number, width: number) => number;
  streamAt: (y: number) => string | null;
  onSeek: (ms: number, stream: string | null) => void;
}

/** One pointer: a click seeks, a drag pans, on the ruler it scrubs or takes a mark along. Two: pinch. */
function usePointers(canvas: { current: HTMLCanvasElement | null }, { view, hover, marks, place, moment, streamAt, onSeek }: Pointing): void {
  useEffect(() => {
    const element = canvas.current!;
    const down = new Map<number, number>();
    let began: { x: number; view: View; ruler: boolean; mark: "start" | "end" | null; moved: boolean } | null = null;
    let pinch: { apart: number; view: View } | null = null;
    const gripped = (x: number, y: number, width: number): "start" | "end" | null => {
      const { start, end } = view.peek();
      const near = (mark: number | null) => mark !== null && y < RULER_PX && Math.abs(((mark - start) / (end - start)) * width - x) < GRIP_PX;
      return near(marks.peek().start) ? "start" : near(marks.peek().end) ? "end" : null;
    };
    const press = (event: PointerEvent) => {
      if (event.button) return;
      const { x, y, width } = place(event);
      element.setPointerCapture(event.pointerId);
      down.set(event.pointerId, x);
      began = { x, view: view.peek(), ruler: y < RULER_PX, mark: gripped(x, y, width), moved: down.size > 1 };
      const [a, b] = [...down.values()];
      pinch = b === undefined ? null : { apart: Math.max(20, Math.abs(a! - b)), view: view.peek() };
    };
    const move = (event: PointerEvent) => {
      const { x, y, width } = place(event);
      element.style.cursor = began?.mark || gripped(x, y, width) ? "ew-resize" : "";
      hover.value = event.pointerType === "mouse" && !down.size ? { x, y } : null;
      if (!down.has(event.pointerId) || !began) return;
      down.set(event.pointerId, x);
      const [a, b] = [...down.values()];
      if (pinch && b !== undefined) {
        const middle = pinch.view.start + ((a! + b) / 2 / width) * (pinch.view.end - pinch.view.start);
        view.value = zoomed(pinch.view, pinch.apart / Math.max(20, Math.abs(a! - b)), middle, now());
        return;
      }
      if (Math.abs(x - began.x) > CLICK_PX) began.moved = true;
      if (!began.moved) return;
      if (began.mark) { marks.value = draggedMark(marks.peek(), began.mark, moment(x, width)); return; }
      if (began.ruler) { onSeek(moment(x, width), null); return; }
      const by = ((began.x - x) / width) * (began.view.end - began.view.start);
      view.value = clampView(began.view.start + by, began.view.end + by, now());
    };
    const lift = (event: PointerEvent) => {
      const { x, y, width } = place(event);
      if (down.delete(event.pointerId) && began && !began.moved && event.type === "pointerup") onSeek(moment(x, width), streamAt(y));
      if (!down.size) began = pinch = null;
    };
    const leave = () => { hover.value = null; };
    const events: [string, (event: never) => void][] = [
      ["pointerdown", press], ["pointermove", move], ["pointerup", lift], ["pointercancel", lift], ["pointerleave", leave],
    ];
    for (const [name, call] of events) element.addEventListener(name, call as EventListener);
    return () => { for (const [name, call] of events) element.removeEventListener(name, call as EventListener); };
  }, []);
}
