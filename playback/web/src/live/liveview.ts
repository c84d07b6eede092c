// One live stream in one video element: fragments from a WebSocket, or HLS segments where none gets through, into Media
// Source Extensions; where there are none of these either, the browser's own HLS.
// Kept true: at most some seconds are buffered; a lost connection is taken up again with growing waits; nothing of an
// old connection is ever appended to a new one.

import { signal } from "@preact/signals";
import { socketUrl, streamUrl } from "../lib/api";
import type { LiveText } from "../lib/types";
import { HlsFeed } from "./hlsfeed";

const SOCKET = { edge: 0.6, late: 3 }; // s, how far behind the newest picture playback settles, and when it jumps
const SEGMENTS = { edge: 5, late: 14 };
const REFUSALS_MAX = 2; // sockets that never opened, before HLS is tried
const KEPT_S = 12;
const WAIT_MIN_MS = 500;
const WAIT_MAX_MS = 10_000;

export type LiveState = "connecting" | "live" | "waiting" | "unplayable";

export class LiveView {
  readonly state = signal<LiveState>("connecting");
  readonly text = signal("");
  private socket: WebSocket | null = null;
  private source: MediaSource | null = null;
  private buffer: SourceBuffer | null = null;
  private queue: (ArrayBuffer | string)[] = [];
  private clock: { wall: number; media: number } | null = null;
  private url = "";
  private serial = 0;
  private timer = 0;
  private wait = WAIT_MIN_MS;
  private pace = SOCKET;
  private refusals = 0;
  private feed: HlsFeed | null = null;

  constructor(private readonly video: HTMLVideoElement, private readonly name: string) {
    video.onerror = () => { this.socket?.close(); }; // nothing more is played: the next connection begins anew
    if (window.MediaSource) this.connect(this.serial);
    else this.playNatively();
  }

  /** How it comes, for those who look after it. */
  get way(): "socket" | "hls" { return this.pace === SOCKET ? "socket" : "hls"; }

  stop(): void {
    this.serial += 1;
    this.video.onerror = null;
    clearTimeout(this.timer);
    this.socket?.close();
    this.feed?.stop();
    this.drop();
    if (!this.url) return;
    URL.revokeObjectURL(this.url);
    this.url = "";
    this.video.removeAttribute("src");
    this.video.load();
  }

  /** Wall time of the picture on screen, ms. */
  get moment(): number | null {
    return this.clock && this.buffer ? this.clock.wall + this.video.currentTime * 1000 - this.clock.media : null;
  }

  private connect(serial: number): void {
    this.state.value = "connecting";
    const socket = new WebSocket(socketUrl(this.name, "live"));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    let opened = false;
    socket.onopen = () => { opened = true; };
    socket.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
      if (serial !== this.serial) return;
      this.refusals = 0;
      if (typeof event.data === "string") this.announced(JSON.parse(event.data) as LiveText);
      else { this.queue.push(event.data); this.append(); }
    };
    socket.onclose = (event) => {
      if (serial !== this.serial || this.state.value === "unplayable") return;
      this.state.value = "waiting";
      this.text.value = event.reason;
      this.refusals += opened && event.reason ? 0 : 1;
      if (this.refusals > REFUSALS_MAX) { this.drop(); this.follow(serial); return; }
      this.timer = window.setTimeout(() => {
        if (serial !== this.serial) return;
        this.drop();
        this.connect(serial);
      }, this.wait);
      this.wait = Math.min(this.wait * 2, WAIT_MAX_MS);
    };
  }

  private follow(serial: number): void {
    this.pace = SEGMENTS;
    this.feed = new HlsFeed(this.name, {
      init: (mime, bytes, wall, media) => {
        if (serial !== this.serial) return;
        this.begin(mime, { wall, media });
        this.queue.push(bytes);
        this.append();
      },
      media: (bytes) => {
        if (serial !== this.serial) return;
        this.queue.push(bytes);
        this.append();
      },
      failed: () => {
        this.state.value = "waiting";
        this.feed?.stop();
        this.drop();
        this.refusals = 0; // perhaps all of the server was away
        this.pace = SOCKET;
        this.timer = window.setTimeout(() => { if (serial === this.serial) this.connect(serial); }, this.wait);
      },
    });
  }

  private playNatively(): void {
    this.pace = SEGMENTS;
    this.video.src = streamUrl(this.name, "hls/live.m3u8");
    this.video.onplaying = () => { this.state.value = "live"; };
    this.video.onerror = () => { this.state.value = "unplayable"; };
    void this.video.play().catch(() => {});
  }

  private drop(): void {
    this.queue = [];
    this.source = this.buffer = null;
  }

  /** A text goes before each init segment: what follows, and whether this browser can play it. */
  private announced(head: LiveText): void {
    if (!head.init_follows) return; // some was left out, as we were too slow
    this.begin(head.mime, { wall: head.wall_us / 1000, media: head.media_90k / 90 });
  }

  private begin(mime: string, clock: { wall: number; media: number }): void {
    if (!window.MediaSource?.isTypeSupported(mime)) {
      this.state.value = "unplayable";
      this.socket?.close();
      this.feed?.stop();
      return;
    }
    this.wait = WAIT_MIN_MS;
    this.clock = clock;
    if (this.buffer || this.source) {
      this.queue.push(mime); // takes effect when all before it is appended
      this.append();
      return;
    }
    this.open(mime);
  }

  private open(mime: string): void {
    const source = new MediaSource();
    const old = this.url;
    this.source = source;
    this.url = URL.createObjectURL(source);
    this.video.src = this.url;
    if (old) URL.revokeObjectURL(old);
    source.addEventListener("sourceopen", () => {
      if (source !== this.source) return;
      this.buffer = source.addSourceBuffer(mime);
      this.buffer.addEventListener("updateend", () => this.appended());
      this.append();
    }, { once: true });
  }

  private append(): void {
    const { buffer } = this;
    if (!buffer || buffer.updating || !this.queue.length || this.source?.readyState !== "open") return;
    const next = this.queue.shift()!;
    if (typeof next === "string") {
      buffer.changeType(next);
      this.append();
      return;
    }
    try {
      buffer.appendBuffer(next);
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== "QuotaExceededError") throw error;
      this.queue.unshift(next);
      this.trim(2);
    }
  }

  private appended(): void {
    const { video, buffer } = this;
    if (!buffer || buffer.updating || this.source?.readyState !== "open") return;
    const ranges = buffer.buffered;
    if (ranges.length) {
      const end = ranges.end(ranges.length - 1);
      const start = ranges.start(ranges.length - 1);
      if (video.currentTime < start || end - video.currentTime > this.pace.late) {
        video.currentTime = Math.max(start, end - this.pace.edge);
        video.play().catch(() => {});
      }
      this.state.value = "live";
      this.text.value = "";
      if (video.currentTime - ranges.start(0) > KEPT_S + 8) { this.trim(KEPT_S); return; }
    }
    this.append();
  }

  private trim(kept: number): void {
    const buffer = this.buffer;
    if (!buffer || buffer.updating) return;
    const start = buffer.buffered.length ? buffer.buffered.start(0) : 0;
    const until = this.video.currentTime - kept;
    if (until > start) buffer.remove(start, until);
  }
}
