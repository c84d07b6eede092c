// Why nothing is recorded at a moment of a stream, and from when to when; one answer is kept while it holds.

import { ask, BASE, streamUrl } from "../lib/api";
import { formatTime, HOUR, parseTime, SECOND } from "../lib/time";
import type { StreamTimeline } from "../lib/types";

/** cause: a word of the API, "none" where nothing is declared, "edge" where it is still to come. `whole`: both ends are known. */
export interface Absence { cause: string; start: number; end: number; whole: boolean }

const EDGE_KEPT = 2 * SECOND; // what is still to come may have come by then

export class Absences {
  private known: Absence | null = null;
  private learned = 0;

  constructor(private readonly name: string) {}

  at(moment: number): Absence | null {
    const { known } = this;
    if (known?.cause === "edge" && performance.now() - this.learned > EDGE_KEPT) return null;
    return known && known.start <= moment && moment < known.end ? known : null;
  }

  async learn(moment: number, signal: AbortSignal): Promise<void> {
    if (this.at(moment)) return;
    const asked = { start: formatTime(Math.max(0, moment - HOUR)), end: formatTime(moment + HOUR), resolution: 0 };
    this.learned = performance.now();
    this.known = absence(await ask<StreamTimeline>(streamUrl(this.name, "timeline", asked).slice(BASE.length), { signal }), moment);
  }
}

export function absence(found: StreamTimeline, moment: number): Absence | null {
  const within = (one: { start: string; end: string }) => parseTime(one.start) <= moment && moment < parseTime(one.end);
  const gap = found.gaps.find(within);
  if (gap) return { cause: gap.cause, start: parseTime(gap.start), end: parseTime(gap.end), whole: true };
  if (found.spans.some(within)) return null; // there, but not finished yet
  const before = found.spans.findLast((span) => parseTime(span.end) <= moment);
  const after = found.spans.find((span) => parseTime(span.start) > moment);
  const durable = parseTime(found.durable_until); // NaN: nothing was ever recorded
  if (!after && moment >= durable) return { cause: "edge", start: moment, end: moment + EDGE_KEPT, whole: false };
  const [start, end] = [before ? parseTime(before.end) : moment - HOUR, after ? parseTime(after.start) : moment + HOUR];
  return { cause: "none", start, end, whole: Boolean(before && after) };
}
