// The part of time in view, as pixels, and where its ruler has ticks.

import { clock, DAY, day, HOUR, MINUTE, SECOND } from "../lib/time";

export const SPAN_MIN = SECOND;
export const SPAN_MAX = 31 * DAY;
const LABEL_PX = 88;
const STEPS = [
  20, 50, 100, 250, 500, SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE,
  30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 5 * DAY, 10 * DAY,
];

export interface View { start: number; end: number }

export function clampView(start: number, end: number, latest: number): View {
  const span = Math.min(Math.max(end - start, SPAN_MIN), SPAN_MAX);
  const middle = (start + end) / 2;
  const from = Math.min(Math.max(middle - span / 2, 0), latest - span * 0.1); // now is never left behind
  return { start: from, end: from + span };
}

/** Zooms by `factor` (>1: more time) around a moment that stays where it is. */
export function zoomed(view: View, factor: number, around: number, latest: number): View {
  const span = view.end - view.start;
  const next = Math.min(Math.max(span * factor, SPAN_MIN), SPAN_MAX);
  const start = around - (around - view.start) * (next / span);
  return clampView(start, start + next, latest);
}

export interface Tick { at: number; label: string; major: boolean }

/** Ticks on round times of the viewer's zone. */
export function ticks(view: View, width: number): Tick[] {
  const span = view.end - view.start;
  const step = STEPS.find((size) => (size / span) * width >= LABEL_PX) ?? 10 * DAY;
  const shift = -new Date(view.start).getTimezoneOffset() * MINUTE; // a change of the offset moves a tick of hours once
  const found: Tick[] = [];
  for (let at = Math.ceil((view.start + shift) / step) * step - shift; at <= view.end; at += step) {
    const midnight = (at + shift) % DAY === 0;
    const label = step >= DAY || midnight ? day(at).slice(5) : step >= MINUTE ? clock(at).slice(0, 5)
      : step >= SECOND ? clock(at) : clock(at, true).slice(3);
    found.push({ at, label, major: midnight });
  }
  return found;
}
