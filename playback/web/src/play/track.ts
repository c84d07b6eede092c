// One stream's pictures in one video element, held to the master clock. The element's time line is wall time in
// seconds: each piece is appended with the offset that puts its first picture at its wall time.
// Kept true: one piece is loaded at a time; some seconds ahead and half a minute behind are kept; an absence shows its
// cause and holds up nobody.

import { signal } from "@preact/signals";
import { Problem } from "../lib/api";
import { parseTime, SECOND } from "../lib/time";
import { type Absence, Absences } from "./absence";
import { type Init, type Pictures, readPictures } from "./boxes";
import type { Piece, Source } from "./source";

export type TrackState =
  | { kind: "ready" }
  | { kind: "loading" }
  | { kind: "gap"; absence: Absence }
  | { kind: "unplayable" }
  | { kind: "error"; text: string };

const AHEAD = 10 * SECOND;
const KEPT = 30 * SECOND;
const JUMP_S = 0.3; // further off than this, an element is set; closer, it is bent
const EXACT_S = 0.008;
const BEND_MAX = 0.25;
const RETRY_MS = 1500;
const KEPT_SHORT = 4 * SECOND; // when the browser's memory for one element is full
const HAIR_S = 0.0004; // a seek rounds to microseconds, and must not fall before the picture

interface Held { piece: Piece; start: number; end: number; offset: number; pictures: Pictures; scale: number }

export class Track {
  readonly state = signal<TrackState>({ kind: "loading" });
  /** Wall time of the picture on screen, ms; exact when it was asked for. */
  readonly shown = signal<number | null>(null);
  drift = 0;
  private media = new MediaSource();
  private url = URL.createObjectURL(this.media);
  private failures = 0;
  private buffer: SourceBuffer | null = null;
  private init: Init | null = null;
  private held: Held[] = [];
  private working: AbortController | null = null;
  private workingFor: Piece | null = null;
  private readonly absences: Absences;
  private retryAt = 0;
  private exact: { at: number; media: number; wall: number } | null = null;
  private ended = false;

  constructor(readonly name: string, readonly video: HTMLVideoElement, private readonly source: Source) {
    this.absences = new Absences(name);
    video.src = this.url;
    video.addEventListener("error", this.startOver);
  }

  /** After an error an element plays nothing more: it begins anew, each time a little later. */
  private readonly startOver = (): void => {
    if (this.ended) return;
    this.working?.abort();
    this.failures += 1;
    this.retryAt = performance.now() + RETRY_MS * this.failures;
    this.state.value = { kind: "error", text: this.video.error?.message ?? "" };
    this.held = [];
    this.buffer = this.init = null;
    URL.revokeObjectURL(this.url);
    this.media = new MediaSource();
    this.url = URL.createObjectURL(this.media);
    this.video.src = this.url;
  };

  stop(): void {
    this.ended = true;
    this.video.removeEventListener("error", this.startOver);
    this.working?.abort();
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
    URL.revokeObjectURL(this.url);
  }

  /** Follows the clock; called for every frame of the screen. */
  tick(at: number, moving: boolean, rate: number): void {
    if (this.ended || this.state.peek().kind === "unplayable") return;
    const held = this.heldAt(at);
    if (held) this.follow(held, at, moving, rate);
    else this.stand(at);
    this.pump(at, rate);
  }

  /** True while footage of this moment is on its way. */
  get lacking(): boolean { return this.state.peek().kind === "loading"; }

  /** The very picture of a moment, as POST /seek told it. */
  tellExact(at: number, media: number | null, wall: string | null): void {
    this.exact = media === null ? null : { at, media, wall: parseTime(wall) };
  }

  /**
   * A moment in the middle of the next or previous picture (or key frame), where nothing rounds to its neighbour; null
   * when it is not here.
   */
  step(at: number, by: 1 | -1, keys: boolean): number | null {
    const held = this.heldAt(at);
    if (!held) return null;
    let i = this.pictureAt(held, this.onScreen(held, at));
    for (let list: Held | undefined = held; list;) {
      const { ticks, key } = list.pictures;
      for (i += by; i >= 0 && i < ticks.length; i += by) if (!keys || key[i]) return this.middleOf(list, i);
      const beside: Held | undefined = this.beside(list, by);
      i = by > 0 ? -1 : beside?.pictures.ticks.length ?? 0;
      list = beside;
    }
    return null;
  }

  private beside(held: Held, by: number): Held | undefined {
    return by > 0 ? this.held.find((one) => one.start >= held.end - 500 && one !== held && one.start - held.end < SECOND)
      : this.held.findLast((one) => one.end <= held.start + 500 && one !== held && held.start - one.end < SECOND);
  }

  private heldAt(at: number): Held | undefined {
    return this.held.find((one) => one.start <= at && at < one.end);
  }

  private wallOf(held: Held, i: number): number { return (held.pictures.ticks[i]! / held.scale + held.offset) * SECOND; }

  private middleOf(held: Held, i: number): number {
    const next = i + 1 < held.pictures.ticks.length ? this.wallOf(held, i + 1) : held.end;
    const wall = this.wallOf(held, i);
    return wall + Math.min(next - wall, 40) / 2;
  }

  private pictureAt(held: Held, at: number): number {
    const wanted = (at / SECOND + HAIR_S - held.offset) * held.scale;
    const { ticks } = held.pictures;
    let [low, high] = [0, ticks.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ticks[middle]! <= wanted) low = middle + 1; else high = middle;
    }
    return Math.max(0, low - 1);
  }

  /** Where to stand for a moment while nothing moves: on the exact picture when it is known. */
  private onScreen(held: Held, at: number): number {
    if (this.exact?.at !== at) return at;
    const place = (this.exact.media / 90_000 + held.offset) * SECOND;
    return Math.abs(place - at) < 10 * SECOND ? place : at;
  }

  private follow(held: Held, at: number, moving: boolean, rate: number): void {
    const { video } = this;
    if (!video.readyState) { this.say({ kind: "loading" }); return; }
    const target = moving ? at / SECOND : this.wallOf(held, this.pictureAt(held, this.onScreen(held, at))) / SECOND + HAIR_S;
    this.drift = video.currentTime - target;
    if (moving) {
      if (Math.abs(this.drift) > JUMP_S * Math.max(1, rate) && !video.seeking) video.currentTime = target + 0.03 * rate;
      const bend = Math.max(-BEND_MAX, Math.min(BEND_MAX, Math.abs(this.drift) > EXACT_S ? -this.drift * 3 : 0));
      const wanted = Math.max(0.0625, rate * (1 + bend / Math.max(1, rate)));
      if (Math.abs(video.playbackRate - wanted) > 0.004) video.playbackRate = wanted;
      if (video.paused) void video.play().catch(() => {});
    } else {
      if (!video.paused) video.pause();
      if (Math.abs(this.drift) > HAIR_S && !video.seeking) video.currentTime = target;
    }
    const shownAt = moving ? video.currentTime * SECOND : this.onScreen(held, at);
    this.shown.value = !moving && this.exact?.at === at ? this.exact.wall : this.wallOf(held, this.pictureAt(held, shownAt));
    const ready = video.readyState >= 2 && !(video.seeking && !moving);
    if (ready && moving) this.failures = 0;
    this.say(ready ? { kind: "ready" } : { kind: "loading" });
  }

  private stand(at: number): void {
    if (!this.video.paused) this.video.pause();
    const absence = this.absences.at(at);
    if (absence) this.say({ kind: "gap", absence });
    else if (this.state.peek().kind !== "error") this.say({ kind: "loading" });
  }

  private say(state: TrackState): void {
    const old = this.state.peek();
    if (state.kind !== old.kind || (state.kind === "gap" && old.kind === "gap" && state.absence !== old.absence)) this.state.value = state;
  }

  /** Starts whatever has to be loaded next. */
  private pump(at: number, rate: number): void {
    const until = at + AHEAD * Math.max(1, rate);
    if (this.working) {
      const { workingFor } = this;
      if (workingFor && (workingFor.end <= at - SECOND || workingFor.start > until)) this.working.abort();
      return;
    }
    if (performance.now() < this.retryAt) return;
    const next = this.missing(at, until);
    if (!next && this.heldAt(until - 1)) return;
    const working = this.working = new AbortController();
    void this.work(next, at, until, working.signal).catch((error: unknown) => this.failed(error, at, working.signal))
      .finally(() => { this.working = this.workingFor = null; });
  }

  private missing(at: number, until: number): Piece | undefined {
    let from = at;
    for (let i = 0; i < 64; i += 1) {
      const piece = this.source.find(from, until);
      if (!piece || !this.held.some((one) => one.piece.url === piece.url)) return piece;
      from = Math.max(piece.end, from + 1);
    }
    return undefined;
  }

  private async work(next: Piece | undefined, at: number, until: number, signal: AbortSignal): Promise<void> {
    const asked = await this.source.learn(at, until, signal);
    const piece = next ?? this.missing(at, until);
    if (!this.heldAt(at) && (!piece || piece.start > at)) await this.absences.learn(at, signal);
    if (!piece) { if (!asked) this.retryAt = performance.now() + 250; return; }
    this.workingFor = piece;
    const loaded = await this.source.load(piece, signal);
    await this.append(piece, loaded.init, loaded.media, loaded.start, at);
    if (this.state.peek().kind === "error") this.state.value = { kind: "loading" };
  }

  private failed(error: unknown, at: number, signal: AbortSignal): void {
    if (signal.aborted || this.ended) return;
    this.retryAt = performance.now() + RETRY_MS;
    if (error instanceof Problem && error.reason === "no-footage") return;
    if (this.state.peek().kind !== "unplayable" && !this.heldAt(at)) {
      // fetch throws a TypeError in the browser's words when nobody answers
      this.state.value = { kind: "error", text: error instanceof Error && !(error instanceof TypeError) ? error.message : "" };
    }
  }

  private async append(piece: Piece, init: Init, media: ArrayBuffer, start: number, at: number): Promise<void> {
    const buffer = await this.opened(init);
    if (!buffer || this.ended) return;
    const pictures = readPictures(media, init);
    if (!pictures.ticks.length) { this.retryAt = performance.now() + RETRY_MS; return; }
    const offset = start / SECOND - pictures.ticks[0]! / init.scale;
    await this.trim(buffer, at);
    buffer.timestampOffset = offset;
    try {
      await this.done(buffer, () => buffer.appendBuffer(media));
    } catch (error) {
      if (error instanceof DOMException && error.name === "QuotaExceededError") await this.trim(buffer, at, KEPT_SHORT);
      throw error;
    }
    const end = Math.max((pictures.end / init.scale + offset) * SECOND, piece.end);
    this.held.push({ piece, start: Math.min(start, piece.start), end, offset, pictures, scale: init.scale });
    this.held.sort((a, b) => a.start - b.start);
  }

  /** The source buffer, ready for pieces of this configuration; null when the browser cannot play it. */
  private async opened(init: Init): Promise<SourceBuffer | null> {
    if (!MediaSource.isTypeSupported(init.mime)) { this.state.value = { kind: "unplayable" }; return null; }
    if (this.media.readyState !== "open") {
      await new Promise((open) => this.media.addEventListener("sourceopen", open, { once: true }));
    }
    if (!this.buffer) this.buffer = this.media.addSourceBuffer(init.mime);
    else if (this.init?.mime !== init.mime) this.buffer.changeType(init.mime);
    if (this.init?.bytes !== init.bytes) {
      await this.done(this.buffer, () => this.buffer!.appendBuffer(init.bytes));
      this.init = init;
    }
    return this.buffer;
  }

  private async trim(buffer: SourceBuffer, at: number, keep = KEPT): Promise<void> {
    const kept = this.held.filter((one) => one.end > at - keep && one.start < at + (keep === KEPT ? 4 * AHEAD : keep));
    const gone = this.held.filter((one) => !kept.includes(one));
    this.held = kept;
    for (const one of gone) await this.done(buffer, () => buffer.remove(one.start / SECOND, one.end / SECOND));
  }

  private done(buffer: SourceBuffer, act: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = () => { buffer.removeEventListener("error", fail); resolve(); };
      const fail = () => { buffer.removeEventListener("updateend", end); reject(new Error(this.video.error?.message ?? "the browser refuses this video")); };
      buffer.addEventListener("updateend", end, { once: true });
      buffer.addEventListener("error", fail, { once: true });
      try { act(); } catch (error) { buffer.removeEventListener("updateend", end); buffer.removeEventListener("error", fail); reject(error as Error); }
    });
  }
}

