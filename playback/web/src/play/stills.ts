// Single pictures that follow the master clock, where nothing else plays. One request at a time; the picture's own time
// is what is shown.

import { signal } from "@preact/signals";
import { frameUrl, Problem, request } from "../lib/api";
import { parseTime, SECOND } from "../lib/time";
import { Absences } from "./absence";
import type { TrackState } from "./track";

const EVERY_MS = 600;
const FAR = 1.5 * SECOND; // so far behind the moment something may be missing

export class Stills {
  readonly state = signal<TrackState>({ kind: "loading" });
  readonly shown = signal<number | null>(null);
  private readonly absences: Absences;
  private asked: number | null = null;
  private busy = false;
  private nextAt = 0;
  private ending = new AbortController();

  constructor(readonly name: string, private readonly image: HTMLImageElement) { this.absences = new Absences(name); }

  stop(): void {
    this.ending.abort();
    URL.revokeObjectURL(this.image.src);
    this.image.removeAttribute("src");
  }

  /** Pictures come late by nature; nobody waits for them. */
  get lacking(): boolean { return false; }

  tick(at: number, moving: boolean): void {
    const absence = this.absences.at(at);
    if (absence) { this.state.value = { kind: "gap", absence }; return; }
    if (this.busy || this.asked === at || performance.now() < this.nextAt) return;
    this.busy = true;
    void this.fetch(at, moving).finally(() => { this.busy = false; this.nextAt = performance.now() + (moving ? EVERY_MS : 0); });
  }

  private async fetch(at: number, moving: boolean): Promise<void> {
    try {
      const answer = await request(frameUrl(this.name, at, { exact: moving ? "false" : "true" }), { signal: this.ending.signal });
      const time = parseTime(answer.headers.get("Keyreel-Time"));
      if (at - time > FAR) await this.absences.learn(at, this.ending.signal);
      if (this.absences.at(at)) return;
      const url = URL.createObjectURL(await answer.blob());
      const old = this.image.src;
      this.image.src = url;
      if (old) URL.revokeObjectURL(old);
      this.asked = at;
      this.shown.value = time;
      this.state.value = { kind: "ready" };
    } catch (error) {
      if (this.ending.signal.aborted) return;
      this.nextAt = performance.now() + 1500;
      if (error instanceof Problem && error.status === 404) await this.absences.learn(at, this.ending.signal).catch(() => {});
      else this.state.value = { kind: "error", text: error instanceof Error && !(error instanceof TypeError) ? error.message : "" };
    }
  }
}
