// The one clock that all players follow: a moment of the recording, whether it moves, and how fast.

import { signal } from "@preact/signals";

export const RATES = [0.25, 0.5, 1, 2, 4, 8, 16] as const;

export class Master {
  readonly playing = signal(false);
  readonly rate = signal(1); // negative: backward
  /** Waiting for a player that has footage but not here yet. */
  readonly waiting = signal(false);
  private base: number;
  private since = performance.now();
  /** Goes up with each jump, so that players know a step from the flow. */
  jumps = 0;

  constructor(at: number) { this.base = at; }

  get moving(): boolean { return this.playing.peek() && !this.waiting.peek(); }

  at(): number {
    return this.moving ? this.base + (performance.now() - this.since) * this.rate.peek() : this.base;
  }

  seek(at: number): void {
    this.base = at;
    this.since = performance.now();
    this.jumps += 1;
  }

  play(rate = this.rate.peek()): void {
    this.settle();
    this.rate.value = rate;
    this.playing.value = true;
  }

  pause(): void {
    this.settle();
    this.playing.value = false;
    this.waiting.value = false;
    if (this.rate.peek() < 0 || this.rate.peek() > 1) this.rate.value = 1;
  }

  wait(on: boolean): void {
    if (on === this.waiting.peek()) return;
    this.settle();
    this.waiting.value = on;
  }

  /** Counts from here on. */
  private settle(): void {
    this.base = this.at();
    this.since = performance.now();
  }
}
