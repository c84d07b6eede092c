// What the streams in sight hold, fetched in bulk for somewhat more than the view, and kept while the view moves inside it.
// Kept true: one question at a time, and after it the newest wish; what was known stays drawn until something better comes.

import { signal } from "@preact/signals";
import { ask, send } from "../lib/api";
import { formatTime, parseTime } from "../lib/time";
import type { HoldView, TimelinesView } from "../lib/types";
import type { View } from "./scale";

export interface Span { start: number; end: number }
export interface Gap extends Span { cause: string; packets: number }
export interface Hold extends Span { id: number; reason: string; owner: string; streams: Set<string> }
export interface Row { spans: Span[]; gaps: Gap[]; durable: number }

const AROUND = 0.5; // of the view, fetched on each side
const SETTLE_MS = 90;
const FAILED_MS = 2000;

export class TimelineData {
  /** Goes up with each answer: draw anew. */
  readonly version = signal(0);
  readonly problem = signal("");
  readonly rows = new Map<string, Row>();
  holds: Hold[] = [];
  private known: { view: View; resolution: number; streams: Set<string> } | null = null;
  private asking: AbortController | null = null;
  private timer = 0;
  private wish: { view: View; pixels: number; streams: string[] } | null = null;

  /** Says what is in sight; asks when that is not known well enough. */
  want(view: View, pixels: number, streams: string[]): void {
    this.wish = { view, pixels, streams };
    if (!this.suffices()) this.soon(this.known ? SETTLE_MS : 0);
  }

  /** The same again, as time goes on. */
  renew(): void {
    if (this.wish && !this.asking) void this.fetch();
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = 0;
    this.asking?.abort();
  }

  async loadHolds(): Promise<void> {
    try {
      const found = await ask<{ holds: HoldView[] }>("/holds");
      this.holds = found.holds.map((hold) => ({
        id: hold.id, start: parseTime(hold.start), end: parseTime(hold.end), reason: hold.reason, owner: hold.owner,
        streams: new Set(hold.streams),
      }));
      this.version.value += 1;
    } catch { /* the marks stay away; the holds are in force all the same */ }
  }

  at<T extends Span>(list: readonly T[], moment: number): T | undefined {
    const item = list[firstEnding(list, moment)];
    return item && item.start <= moment ? item : undefined;
  }

  private soon(after: number): void {
    if (this.asking || this.timer) return; // what is wanted then is asked then
    this.timer = window.setTimeout(() => { this.timer = 0; void this.fetch(); }, after);
  }

  private suffices(): boolean {
    const { known, wish } = this;
    if (!known || !wish) return false;
    const span = wish.view.end - wish.view.start;
    const finest = span / 1000 / wish.pixels;
    return known.view.start <= Math.max(0, wish.view.start) && known.view.end >= wish.view.end
      && known.resolution <= finest * 2 && known.resolution >= finest / 4 && wish.streams.every((name) => known.streams.has(name));
  }

  private async fetch(): Promise<void> {
    const { view, pixels, streams } = this.wish!;
    if (!streams.length || this.asking) return;
    const asking = this.asking = new AbortController();
    const more = (view.end - view.start) * AROUND;
    const [start, end] = [Math.max(0, view.start - more), view.end + more];
    const resolution = (view.end - view.start) / 1000 / pixels;
    try {
      const found = await send<TimelinesView>("POST", "/timeline", {
        start: formatTime(start), end: formatTime(end), resolution, streams,
      }, asking.signal);
      for (const one of found.timelines) {
        this.rows.set(one.stream, {
          spans: one.spans.map((span) => ({ start: parseTime(span.start), end: parseTime(span.end) })),
          gaps: one.gaps.map((gap) => ({ ...gap, start: parseTime(gap.start), end: parseTime(gap.end) })),
          durable: parseTime(one.durable_until) || 0,
        });
      }
      const same = this.known && this.known.view.start === start && this.known.view.end === end && this.known.resolution === resolution;
      this.known = { view: { start, end }, resolution, streams: new Set(same ? [...this.known!.streams, ...streams] : streams) };
      this.problem.value = "";
      this.version.value += 1;
    } catch (error) {
      if (!asking.signal.aborted && error instanceof Error) this.problem.value = error.message;
    } finally {
      this.asking = null;
      if (!asking.signal.aborted && !this.suffices()) this.soon(this.problem.peek() ? FAILED_MS : SETTLE_MS);
    }
  }
}

/** Index of the first item that ends after `moment`, in a list ordered by time. */
export function firstEnding(list: readonly Span[], moment: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle]!.end <= moment) low = middle + 1; else high = middle;
  }
  return low;
}
