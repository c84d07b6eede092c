// Key frames alone, fast or backward: a WebSocket sends them one by one, and the element, which never runs by itself, is
// set to the one nearest to the master clock.
// Kept true: at most some seconds of pictures wait; the server, which paces by a play line of its own, is let go while
// it is far ahead and called again when it is needed.

import { signal } from "@preact/signals";
import { socketUrl } from "../lib/api";
import { formatTime, SECOND } from "../lib/time";
import type { TrickText } from "../lib/types";
import { Absences } from "./absence";
import type { TrackState } from "./track";

const AHEAD_MAX_S = 12;
const AHEAD_MIN_S = 3;
const KEPT_S = 20;
const FAR_MS = 15 * SECOND;
const RETRY_MS = 2000;

interface Picture { wall: number; shown: number }

export class Trick {
  readonly state = signal<TrackState>({ kind: "loading" });
  readonly shown = signal<number | null>(null);
  private readonly media = new MediaSource();
  private readonly url = URL.createObjectURL(this.media);
  private readonly absences: Absences;
  private buffer: SourceBuffer | null = null;
  private socket: WebSocket | null = null;
  private queue: (ArrayBuffer | string)[] = [];
  private pictures: Picture[] = [];
  private base = 0; // of the play line of the present socket, s
  private over = false;
  private painted = false;
  private retryAt = 0;
  private current = -1;

  constructor(readonly name: string, readonly video: HTMLVideoElement, at: number, private readonly rate: number, private readonly perSecond: number) {
    this.absences = new Absences(name);
    video.src = this.url;
    this.open(at);
  }

  stop(): void {
    this.over = true;
    this.socket?.close();
    this.video.removeAttribute("src");
    this.video.load();
    URL.revokeObjectURL(this.url);
  }

  get lacking(): boolean { return this.state.peek().kind === "loading"; }

  tick(at: number): void {
    const way = Math.sign(this.rate);
    let best = Math.max(0, this.current);
    while (best + 1 < this.pictures.length && Math.abs(this.pictures[best + 1]!.wall - at) <= Math.abs(this.pictures[best]!.wall - at)) best += 1;
    const picture = this.pictures[best];
    this.fill(at, best);
    if (!picture) { this.say(this.absences.at(at) ? { kind: "gap", absence: this.absences.at(at)! } : { kind: "loading" }); return; }
    const ahead = (picture.wall - at) * way > 0;
    if (Math.abs(picture.wall - at) > FAR_MS && (ahead || best === this.pictures.length - 1)) {
      const absence = this.absences.at(at);
      if (absence) this.say({ kind: "gap", absence });
      else void this.absences.learn(at, AbortSignal.timeout(5000)).catch(() => {});
      return;
    }
    if (best !== this.current) {
      this.current = best;
      this.video.currentTime = picture.shown + 0.01;
      this.shown.value = picture.wall;
    }
    this.painted ||= this.video.readyState >= 2; // a seek keeps the picture before it on screen
    this.say(this.painted ? { kind: "ready" } : { kind: "loading" });
  }

  private say(state: TrackState): void {
    if (state.kind !== this.state.peek().kind) this.state.value = state;
  }

  /** Opens or closes the tap. */
  private fill(at: number, best: number): void {
    const last = this.pictures.at(-1);
    const ahead = last ? last.shown - this.pictures[best]!.shown : 0;
    if (this.socket && ahead > AHEAD_MAX_S) {
      this.socket.close();
      this.socket = null;
    } else if (!this.socket && !this.over && ahead < AHEAD_MIN_S && performance.now() > this.retryAt) {
      this.open(last ? last.wall + Math.sign(this.rate) * 1 : at);
    }
  }

  private open(at: number): void {
    const last = this.pictures.at(-1);
    this.base = last ? last.shown + 1 : 0;
    const socket = new WebSocket(socketUrl(this.name, "trick", { at: formatTime(Math.max(0, at)), rate: this.rate, pictures: this.perSecond }));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
      if (socket !== this.socket) return;
      if (typeof event.data === "string") this.announced(JSON.parse(event.data) as TrickText);
      else { this.queue.push(event.data); this.append(); }
    };
    socket.onclose = (event) => {
      if (socket !== this.socket) return;
      this.socket = null;
      this.retryAt = performance.now() + (event.code === 1000 ? 5 * RETRY_MS : RETRY_MS);
    };
  }

  private announced(text: TrickText): void {
    if (text.init_follows) {
      if (!MediaSource.isTypeSupported(text.mime)) {
        this.state.value = { kind: "unplayable" };
        this.over = true;
        this.socket?.close();
        return;
      }
      this.queue.push(text.mime);
    }
    this.queue.push(`@${this.base}`); // where the play line of this socket begins
    this.pictures.push({ wall: text.wall_us / 1000, shown: this.base + text.shown_90k / 90_000 });
  }

  private append(): void {
    if (this.media.readyState !== "open") {
      this.media.addEventListener("sourceopen", () => this.append(), { once: true });
      return;
    }
    while (this.queue.length && !this.buffer?.updating && !this.over) {
      const next = this.queue.shift()!;
      if (typeof next !== "string") {
        try { this.buffer!.appendBuffer(next); } catch { this.queue = []; this.over = true; }
      } else if (next.startsWith("@")) {
        if (this.buffer) this.buffer.timestampOffset = Number(next.slice(1));
        else this.queue.unshift(next);
      } else if (!this.buffer) {
        this.buffer = this.media.addSourceBuffer(next);
        this.buffer.addEventListener("updateend", () => { this.forget(); this.append(); });
      } else this.buffer.changeType(next);
    }
  }

  /** Lets go of what was shown long ago. */
  private forget(): void {
    const { buffer } = this;
    if (!buffer || buffer.updating || this.current < 0 || this.media.readyState !== "open") return;
    const until = (this.pictures[this.current]?.shown ?? 0) - KEPT_S;
    const first = this.pictures.findIndex((picture) => picture.shown >= until);
    if (first < 40) return;
    this.pictures.splice(0, first);
    this.current -= first;
    if (until > 0) buffer.remove(0, until);
  }
}
