// The timeline: a canvas that shows spans, gaps and the part not yet safe, and lets a moment be chosen.
// Kept true: what is drawn was answered by the server for this stream; times are milliseconds since 1970.

import { causeOf, clockTime, dayOf, dayTime, duration } from "./format.js";

const STEPS_S = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];
const RULER = 24;
const SPAN_MIN_MS = 10_000;
const SPAN_MAX_MS = 400 * 86_400_000;

export class Timeline extends EventTarget {
  constructor(canvas, hover) {
    super();
    this.canvas = canvas;
    this.hover = hover;
    this.end = Date.now() + 60_000;
    this.start = this.end - 3_600_000;
    this.data = { spans: [], gaps: [], durable: 0 };
    this.newest = 0; // recorded, but not yet on stable storage
    this.selected = null; // [start, end)
    this.head = null; // the moment on screen
    this.pointer = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.#listen();
  }

  show(start, end) {
    const middle = (start + end) / 2;
    const span = Math.min(Math.max(end - start, SPAN_MIN_MS), SPAN_MAX_MS);
    this.start = middle - span / 2;
    this.end = middle + span / 2;
    this.draw();
    this.dispatchEvent(new Event("view"));
  }

  take(answer) {
    const pair = (x) => ({ ...x, start: Date.parse(x.start), end: Date.parse(x.end) });
    this.data = { spans: answer.spans.map(pair), gaps: answer.gaps.map(pair), durable: Date.parse(answer.durable_until ?? "") || 0 };
    this.draw();
  }

  clear() {
    this.data = { spans: [], gaps: [], durable: 0 };
    this.newest = 0;
    this.draw();
  }

  set(fields) {
    Object.assign(this, fields);
    this.#tell();
    this.draw();
  }

  x(ms) { return ((ms - this.start) / (this.end - this.start)) * this.canvas.clientWidth; }
  at(x) { return this.start + (x / this.canvas.clientWidth) * (this.end - this.start); }
  gapAt(ms) { return this.data.gaps.find((gap) => gap.start <= ms && ms < gap.end); }

  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => { this.pending = false; this.#paint(); });
  }

  #paint() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width) return;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const c = canvas.getContext("2d");
    c.setTransform(scale, 0, 0, scale, 0, 0);
    c.clearRect(0, 0, width, height);
    c.fillStyle = colour("raised");
    c.fillRect(0, RULER, width, height - RULER);
    this.#ruler(c, width, height, colour);
    const top = RULER + 10;
    const tall = height - RULER - 20;
    const bar = (start, end, name, from = top, size = tall) => {
      const left = Math.max(0, this.x(start));
      const right = Math.min(width, this.x(end));
      if (right < 0 || left > width) return;
      c.fillStyle = colour(name);
      c.fillRect(left, from, Math.max(1, right - left), size);
    };
    for (const gap of this.data.gaps) bar(gap.start, gap.end, gapColour(gap.cause), top + tall * 0.3, tall * 0.4);
    for (const span of this.data.spans) {
      bar(span.start, span.end, "rec");
    }
    if (this.data.durable && this.newest > this.data.durable) bar(this.data.durable, this.newest, "fresh");
    for (const gap of this.data.gaps) if (gap.end - gap.start < (this.end - this.start) / 300) bar(gap.start, gap.end, gapColour(gap.cause), top - 5, 4);
    if (this.selected) this.#window(c, colour, height);
    const now = this.x(Date.now());
    if (now < width) { c.fillStyle = colour("ground"); c.globalAlpha = 0.55; c.fillRect(Math.max(0, now), RULER, width, height); c.globalAlpha = 1; }
    if (this.head !== null) this.#mark(c, this.x(this.head), colour("text"), 2, height);
    if (this.pointer !== null) this.#mark(c, this.pointer, colour("soft"), 1, height);
  }

  #ruler(c, width, height, colour) {
    const span = (this.end - this.start) / 1000;
    const step = STEPS_S.find((s) => (s / span) * width >= 84) ?? STEPS_S.at(-1);
    const zone = new Date(this.start).getTimezoneOffset() * 60_000;
    c.font = "12px system-ui, sans-serif";
    c.textBaseline = "middle";
    for (let t = Math.ceil((this.start - zone) / (step * 1000)) * step * 1000 + zone; t < this.end; t += step * 1000) {
      const x = Math.round(this.x(t)) + 0.5;
      c.strokeStyle = colour("edge");
      c.beginPath(); c.moveTo(x, RULER - 5); c.lineTo(x, height); c.stroke();
      const time = clockTime(t);
      const text = step >= 86400 || time === "00:00:00" ? dayOf(t).slice(5) : step < 60 ? time : time.slice(0, 5);
      const half = c.measureText(text).width / 2;
      c.fillStyle = colour("soft");
      if (x - half > 0 && x + half < width) c.fillText(text, x - half, 10);
    }
  }

  #window(c, colour, height) {
    const left = this.x(this.selected[0]);
    const right = Math.max(left + 2, this.x(this.selected[1]));
    c.fillStyle = colour("accent");
    c.globalAlpha = 0.22;
    c.fillRect(left, RULER, right - left, height - RULER);
    c.globalAlpha = 1;
    c.strokeStyle = colour("accent");
    c.lineWidth = 1.5;
    c.strokeRect(left, RULER + 1, right - left, height - RULER - 2);
    c.lineWidth = 1;
  }

  #mark(c, x, style, width, height) {
    c.fillStyle = style;
    c.fillRect(Math.round(x) - width / 2, RULER - 4, width, height);
  }

  #tell() {
    const value = Math.round((this.head ?? this.selected?.[0] ?? this.end) / 1000);
    this.canvas.setAttribute("aria-valuemin", Math.round(this.start / 1000));
    this.canvas.setAttribute("aria-valuemax", Math.round(this.end / 1000));
    this.canvas.setAttribute("aria-valuenow", value);
    const gap = this.gapAt(value * 1000);
    this.canvas.setAttribute("aria-valuetext", dayTime(value * 1000) + (gap ? `, gap: ${causeOf(gap.cause)}` : ""));
  }

  #listen() {
    const { canvas } = this;
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      drag = { x: event.offsetX, start: this.start, end: this.end, moved: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      this.pointer = event.offsetX;
      if (drag && Math.abs(event.offsetX - drag.x) > 4) drag.moved = true;
      if (drag?.moved) {
        const by = ((drag.x - event.offsetX) / canvas.clientWidth) * (drag.end - drag.start);
        this.show(drag.start + by, drag.end + by);
      }
      this.#tip(event.offsetX);
      this.draw();
    });
    canvas.addEventListener("pointerup", (event) => {
      const chosen = drag && !drag.moved;
      drag = null;
      if (chosen) this.#choose(this.at(event.offsetX));
    });
    canvas.addEventListener("pointercancel", () => { drag = null; });
    canvas.addEventListener("pointerleave", () => { this.pointer = null; this.hover.classList.remove("shown"); this.draw(); });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const fixed = this.at(event.offsetX);
      const factor = Math.exp(Math.max(-1, Math.min(1, event.deltaY / 240)));
      this.show(fixed - (fixed - this.start) * factor, fixed + (this.end - fixed) * factor);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  #key(event) {
    const span = this.end - this.start;
    const moment = this.head ?? this.selected?.[0] ?? this.end - span / 2;
    const by = event.shiftKey ? span / 10 : span / 100;
    switch (event.key) {
      case "ArrowLeft": this.#choose(moment - by); break;
      case "ArrowRight": this.#choose(moment + by); break;
      case "PageUp": this.show(this.start - span, this.end - span); break;
      case "PageDown": this.show(this.start + span, this.end + span); break;
      case "+": case "=": this.show(moment - span / 4, moment + span / 4); break;
      case "-": this.show(moment - span, moment + span); break;
      default: return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #choose(ms) {
    this.dispatchEvent(new CustomEvent("choose", { detail: ms }));
  }

  #tip(x) {
    const ms = this.at(x);
    const gap = this.gapAt(ms);
    this.hover.textContent = dayTime(ms) + (gap ? ` · ${causeOf(gap.cause)}, ${duration(gap.end - gap.start)}` : "");
    this.hover.style.left = `${Math.max(90, Math.min(this.canvas.clientWidth - 70, x + this.canvas.offsetLeft))}px`;
    this.hover.style.top = `${this.canvas.offsetTop - 2}px`;
    this.hover.classList.add("shown");
  }
}

const gapColour = (cause) =>
  ["packet-loss", "damage", "overload", "volume", "crash"].includes(cause) ? "loss" : ["stopped", "expired"].includes(cause) ? "quiet" : "gap";
