// Figures over time as lines, drawn as SVG so that colours follow the theme. What was not told is a hole in the line. Pointer
// and arrow keys read single figures; a screen reader hears them as a slider's value.

import { useSignal } from "@preact/signals";
import { clock } from "../lib/time";
import type { Line } from "../lib/upkeep";
import { words } from "../lib/words";

const t = words({
  empty: ["Nothing was told in this time.", "Không có số liệu trong thời gian này."],
  more: ["and {n} more", "và {n} mục nữa"],
});
const HEIGHT = 100;
const NAMED = 6; // series whose figures are written beside the plot
export const HUES = 6; // colours of series; a seventh begins anew, dashed

export interface Series { name: string; line: Line }

interface Props {
  title: string;
  series: Series[];
  start: number;
  step: number;
  show: (value: number) => string;
  fromZero?: boolean;
  most?: number;
}

/** 1, 2 or 5 times a power of ten, not below the value. */
function ceiling(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value * 0.999)!;
}

function path(line: Line, low: number, high: number): string {
  let text = "";
  let on = false;
  line.forEach((value, i) => {
    if (value === null) { on = false; return; }
    const y = HEIGHT - (HEIGHT * (value - low)) / (high - low || 1);
    text += `${on ? "L" : "M"}${i + 0.5} ${y.toFixed(2)}`;
    if (!on && (line[i + 1] ?? null) === null) text += "h0.5"; // a figure alone is a dot
    on = true;
  });
  return text;
}

export function Plot({ title, series, start, step, show, fromZero = true, most }: Props) {
  const at = useSignal<number | null>(null);
  const count = series[0]?.line.length ?? 0;
  const values = series.flatMap((one) => one.line.filter((value) => value !== null));
  let newest = count - 1;
  while (newest > 0 && series.every((one) => one.line[newest] === null)) newest -= 1;
  const index = Math.min(at.value ?? newest, count - 1);
  const low = fromZero ? 0 : Math.min(...values);
  const high = most ?? (fromZero ? ceiling(Math.max(0, ...values)) : Math.max(...values));
  const told = series.map((one, number) => ({ ...one, number, value: one.line[index] ?? null }));
  const named = told.length > NAMED ? [...told].sort((a, b) => (b.value ?? 0) - (a.value ?? 0)).slice(0, NAMED) : told;
  const moment = start + index * step;
  const text = `${clock(moment)} ${named.map((one) => `${series.length > 1 ? `${one.name} ` : ""}${one.value === null ? "–" : show(one.value)}`).join(", ")}`;
  const choose = (event: PointerEvent & { currentTarget: HTMLElement }) => {
    const box = event.currentTarget.getBoundingClientRect();
    at.value = Math.max(0, Math.min(count - 1, Math.floor(((event.clientX - box.left) / box.width) * count)));
  };
  const key = (event: KeyboardEvent) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -12, PageDown: 12, Home: -count, End: count }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    at.value = Math.max(0, Math.min(count - 1, index + move));
  };
  return <figure class="plot">
    <figcaption><b>{title}</b><span class="figure">{at.value === null ? "" : clock(moment)}</span></figcaption>
    {!values.length ? <p class="hint">{t("empty")}</p> : <>
      <div class="plot-box" tabIndex={0} role="slider" aria-label={title} aria-valuemin={0} aria-valuemax={count - 1} aria-valuenow={index} aria-valuetext={text}
        onPointerMove={choose} onPointerDown={choose} onPointerLeave={() => { at.value = null; }} onKeyDown={key} onBlur={() => { at.value = null; }}>
        <svg viewBox={`0 0 ${count} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
          {[0, 0.5, 1].map((part) => <line key={part} class="plot-rule" x1="0" x2={count} y1={HEIGHT * part} y2={HEIGHT * part} />)}
          {series.map((one, i) => <path key={one.name} class={`plot-line hue-${i % HUES}${i >= HUES ? " dashed" : ""}`} d={path(one.line, low, high)} />)}
          {at.value !== null && <line class="plot-at" x1={index + 0.5} x2={index + 0.5} y1="0" y2={HEIGHT} />}
        </svg>
        <span class="plot-most">{show(high)}</span>{low !== 0 && <span class="plot-least">{show(low)}</span>}
      </div>
      <div class="plot-times"><time>{clock(start).slice(0, 5)}</time><time>{clock(start + (count / 2) * step).slice(0, 5)}</time><time>{clock(start + count * step).slice(0, 5)}</time></div>
      <ul class="plot-legend">{named.map((one) => <li key={one.name}>
        <i class={`hue-${one.number % HUES}${one.number >= HUES ? " dashed" : ""}`} />{series.length > 1 && <span>{one.name}</span>} <b class="figure">{one.value === null ? "–" : show(one.value)}</b></li>)}
        {told.length > NAMED && <li class="hint">{t("more", { n: told.length - NAMED })}</li>}</ul></>}
  </figure>;
}
