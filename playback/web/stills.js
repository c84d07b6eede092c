// Pictures one by one, for streams whose codec the browser cannot play: the newest again and again, or a slow walk
// through a recording. Kept true: one request at a time; the picture's own time is what is shown.

import { frameUrl, Problem } from "./api.js";

const LIVE_MS = 1500;
const WALK_MS = 1000;

export class Stills extends EventTarget {
  constructor(image) {
    super();
    this.image = image;
    this.serial = 0;
  }

  live(name) { this.#begin(name, undefined, 0); }

  // Shows `at`, then, when playing, walks on in real time up to `end`.
  walk(name, at, end) { this.#begin(name, at, end); }

  stop() {
    this.serial += 1;
    clearTimeout(this.timer);
    if (this.image.src) URL.revokeObjectURL(this.image.src);
    this.image.removeAttribute("src");
    this.image.hidden = true;
  }

  set playing(value) {
    this.moving = value;
    if (value && this.name) this.#next(this.serial);
  }

  #begin(name, at, end) {
    this.stop();
    Object.assign(this, { name, at, end, moving: true });
    this.#next(this.serial);
  }

  async #next(serial) {
    clearTimeout(this.timer);
    const began = performance.now();
    try {
      const answer = await fetch(frameUrl(this.name, this.at), { cache: "no-store" });
      if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => null));
      const picture = URL.createObjectURL(await answer.blob());
      if (serial !== this.serial) { URL.revokeObjectURL(picture); return; }
      if (this.image.src) URL.revokeObjectURL(this.image.src);
      this.image.src = picture;
      this.image.hidden = false;
      const shown = Date.parse(answer.headers.get("Keyreel-Time") ?? "");
      this.dispatchEvent(new CustomEvent("shown", { detail: shown || this.at }));
    } catch (error) {
      if (serial !== this.serial) return;
      this.dispatchEvent(new CustomEvent("problem", { detail: error.message }));
    }
    if (!this.moving) return;
    const wait = this.at === undefined ? LIVE_MS : WALK_MS;
    this.timer = setTimeout(() => {
      if (serial !== this.serial) return;
      if (this.at !== undefined) {
        this.at += Math.max(wait, performance.now() - began);
        if (this.at >= this.end) { this.dispatchEvent(new Event("ended")); return; }
      }
      this.#next(serial);
    }, Math.max(0, wait - (performance.now() - began)));
  }
}
