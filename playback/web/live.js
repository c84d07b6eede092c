// Live view: fragments from a WebSocket into Media Source Extensions.
// Kept true: at most a few seconds are buffered; a lost connection is taken up again with growing waits; nothing of an
// old stream is ever appended to a new one.

import { liveUrl } from "./api.js";

const EDGE_S = 0.6; // how far behind the newest picture playback settles
const LATE_S = 3;
const KEPT_S = 20;
const WAIT_MAX_MS = 10_000;

export class LiveView extends EventTarget {
  constructor(video) {
    super();
    this.video = video;
    this.serial = 0;
  }

  start(name) {
    this.stop();
    this.name = name;
    this.wait = 500;
    this.#connect(++this.serial);
  }

  stop() {
    this.serial += 1;
    clearTimeout(this.timer);
    this.socket?.close();
    this.socket = null;
    if (this.url) {
      URL.revokeObjectURL(this.url);
      this.url = null;
      this.video.removeAttribute("src");
      this.video.load();
    }
    this.source = this.buffer = null;
    this.queue = [];
  }

  // Wall time of the picture on screen, ms.
  get moment() {
    return this.clock && this.buffer ? this.clock.wall + this.video.currentTime * 1000 - this.clock.media : null;
  }

  #tell(state, text = "") {
    this.dispatchEvent(new CustomEvent("state", { detail: { state, text } }));
  }

  #connect(serial) {
    this.#tell("connecting");
    const socket = new WebSocket(liveUrl(this.name));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onmessage = (event) => {
      if (serial !== this.serial) return;
      if (typeof event.data === "string") this.#announced(JSON.parse(event.data));
      else { this.queue.push(event.data); this.#append(); }
    };
    socket.onclose = (event) => {
      if (serial !== this.serial || this.unplayable) return;
      this.#tell("waiting", event.reason || "The live view was interrupted; trying again.");
      this.timer = setTimeout(() => { if (serial === this.serial) { this.#drop(); this.#connect(serial); } }, this.wait);
      this.wait = Math.min(this.wait * 2, WAIT_MAX_MS);
    };
  }

  #drop() {
    this.queue = [];
    this.source = this.buffer = null;
  }

  // A text goes before each init segment: what follows, and whether this browser can play it.
  #announced(head) {
    if (!head.init_follows) return; // some was left out, as we were too slow
    this.unplayable = false;
    if (!window.MediaSource || !MediaSource.isTypeSupported(head.mime)) {
      this.unplayable = true;
      this.socket.close();
      this.dispatchEvent(new CustomEvent("unplayable", { detail: head }));
      return;
    }
    this.wait = 500;
    this.clock = { wall: head.wall_us / 1000, media: head.media_90k / 90 };
    if (this.buffer) {
      this.queue.push(head.mime); // takes effect when all before it is appended
      this.#append();
      return;
    }
    const source = new MediaSource();
    const old = this.url;
    this.source = source;
    this.url = URL.createObjectURL(source);
    this.video.src = this.url;
    if (old) URL.revokeObjectURL(old);
    source.addEventListener("sourceopen", () => {
      if (source !== this.source) return;
      this.buffer = source.addSourceBuffer(head.mime);
      this.buffer.addEventListener("updateend", () => this.#appended());
      this.#append();
    }, { once: true });
  }

  #append() {
    const { buffer } = this;
    if (!buffer || buffer.updating || !this.queue.length || this.source.readyState !== "open") return;
    const next = this.queue.shift();
    try {
      if (typeof next === "string") { buffer.changeType(next); this.#append(); } else buffer.appendBuffer(next);
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
      this.queue.unshift(next);
      this.#trim(2);
    }
  }

  #appended() {
    const { video, buffer } = this;
    if (!buffer || buffer.updating) return;
    const ranges = buffer.buffered;
    if (ranges.length) {
      const end = ranges.end(ranges.length - 1);
      const start = ranges.start(ranges.length - 1);
      if (video.currentTime < start || end - video.currentTime > LATE_S) {
        video.currentTime = Math.max(start, end - EDGE_S);
        video.play().catch(() => {});
      }
      if (video.currentTime - ranges.start(0) > KEPT_S + 10) { this.#trim(KEPT_S); return; }
      this.#tell("live");
    }
    this.#append();
  }

  #trim(kept) {
    const start = this.buffer.buffered.length ? this.buffer.buffered.start(0) : 0;
    const until = this.video.currentTime - kept;
    if (until > start && !this.buffer.updating) this.buffer.remove(start, until);
  }
}
