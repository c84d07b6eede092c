// The timeline's picture: ruler, a row per stream, and what lies across them. Only what is in sight is drawn.

import type { Hold, Row, Span } from "./data";
import { firstEnding } from "./data";
import { ticks, type View } from "./scale";

export const ROW_PX = 24;
export const RULER_PX = 26;
export const COLOURS = [
  "panel", "raised", "edge", "text", "soft", "accent", "rec", "rec-soft", "fresh", "gap", "loss", "quiet", "hold", "mark",
] as const;
export type Palette = Record<(typeof COLOURS)[number], string>;

const LOSSES = new Set(["packet-loss", "overload", "crash", "damage", "volume", "undecodable"]);
const QUIET = new Set(["stopped", "not-wanted", "expired", "clock"]);
export const kindOf = (cause: string): "loss" | "quiet" | "gap" => LOSSES.has(cause) ? "loss" : QUIET.has(cause) ? "quiet" : "gap";

export interface Scene {
  view: View;
  names: string[];
  chosen: Set<string>;
  rows: Map<string, Row>;
  holds: Hold[];
  newest: Map<string, number>; // last picture of streams being recorded, ms
  scroll: number;
  head: number | null;
  now: number;
  marks: { start: number | null; end: number | null };
  hover: { x: number; y: number } | null;
}

export function draw(canvas: HTMLCanvasElement, scene: Scene, palette: Palette): void {
  const context = canvas.getContext("2d")!;
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const x = (ms: number) => ((ms - scene.view.start) / (scene.view.end - scene.view.start)) * width;
  context.save();
  context.beginPath();
  context.rect(0, RULER_PX, width, height - RULER_PX);
  context.clip();
  const first = Math.max(0, Math.floor(scene.scroll / ROW_PX));
  const last = Math.min(scene.names.length, Math.ceil((scene.scroll + height - RULER_PX) / ROW_PX));
  for (let at = first; at < last; at += 1) drawRow(context, scene, palette, scene.names[at]!, RULER_PX + at * ROW_PX - scene.scroll, width, x);
  context.restore();
  drawRuler(context, scene, palette, width, height, x);
  drawAcross(context, scene, palette, width, height, x);
}

type Across = (ms: number) => number;

function drawRow(context: CanvasRenderingContext2D, scene: Scene, palette: Palette, name: string, top: number, width: number, x: Across): void {
  const row = scene.rows.get(name);
  const y = top + 5;
  const tall = ROW_PX - 10;
  context.globalAlpha = 1;
  context.fillStyle = palette.raised;
  context.beginPath();
  context.roundRect(0, y, width, tall, 3);
  context.fill();
  if (!row) return;
  const { start, end } = scene.view;
  const each = <T extends Span>(list: readonly T[], paint: (item: T, left: number, wide: number) => void) => {
    for (let at = firstEnding(list, start); at < list.length && list[at]!.start < end; at += 1) {
      const item = list[at]!;
      const left = Math.max(x(item.start), 0);
      paint(item, left, Math.min(x(item.end), width) - left);
    }
  };
  context.fillStyle = scene.chosen.has(name) ? palette.rec : palette["rec-soft"];
  each(row.spans, (_, left, wide) => context.fillRect(left, y, Math.max(wide, 1), tall));
  const newest = Math.max(scene.newest.get(name) ?? 0, row.durable);
  if (newest > row.durable && newest > start && row.durable < end) { // not yet on stable storage
    const left = Math.max(x(row.durable), 0);
    context.fillStyle = palette.fresh;
    context.fillRect(left, y, Math.max(Math.min(x(newest), width) - left, 1), tall);
  }
  each(row.gaps, (gap, left, wide) => {
    const kind = kindOf(gap.cause);
    context.fillStyle = palette[kind];
    if (kind === "quiet") context.fillRect(left, y + tall / 2 - 1.5, Math.max(wide, 2), 3);
    else if (kind === "loss") context.fillRect(left, y, Math.max(wide, 2), tall);
    else context.fillRect(left, y + 4, Math.max(wide, 2), tall - 8);
  });
  context.fillStyle = palette.hold;
  for (const hold of scene.holds) {
    if (!hold.streams.has(name) || hold.end <= start || hold.start >= end) continue;
    const left = Math.max(x(hold.start), 0);
    context.fillRect(left, y + tall + 1, Math.max(Math.min(x(hold.end), width) - left, 2), 2.5);
  }
}

function drawRuler(context: CanvasRenderingContext2D, scene: Scene, palette: Palette, width: number, height: number, x: Across): void {
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.textAlign = "center";
  for (const tick of ticks(scene.view, width)) {
    const at = Math.round(x(tick.at)) + 0.5;
    context.strokeStyle = palette.edge;
    context.globalAlpha = tick.major ? 1 : 0.6;
    context.beginPath();
    context.moveTo(at, RULER_PX - 4);
    context.lineTo(at, height);
    context.stroke();
    context.globalAlpha = 1;
    if (at < 24 || at > width - 24) continue;
    context.fillStyle = tick.major ? palette.text : palette.soft;
    context.fillText(tick.label, at, RULER_PX / 2);
  }
}

function drawAcross(context: CanvasRenderingContext2D, scene: Scene, palette: Palette, width: number, height: number, x: Across): void {
  const { marks } = scene;
  if (marks.start !== null || marks.end !== null) {
    const left = marks.start === null ? -1 : x(marks.start);
    const right = marks.end === null ? width + 1 : x(marks.end);
    context.fillStyle = palette.mark;
    context.globalAlpha = 0.16;
    context.fillRect(left, RULER_PX, right - left, height);
    context.globalAlpha = 1;
    for (const [ms, way] of [[marks.start, 1], [marks.end, -1]] as const) {
      if (ms === null) continue;
      context.fillRect(x(ms) - (way > 0 ? 0 : 2), 4, 2, height);
      context.fillRect(x(ms) - (way > 0 ? 0 : 7), 4, 7, 6);
    }
  }
  if (scene.now < scene.view.end) { // nothing can be there yet
    const at = Math.max(0, x(scene.now));
    context.fillStyle = palette.panel;
    context.globalAlpha = 0.55;
    context.fillRect(at, RULER_PX, width - at, height);
    context.globalAlpha = 1;
  }
  if (scene.hover) {
    context.fillStyle = palette.soft;
    context.globalAlpha = 0.7;
    context.fillRect(Math.round(scene.hover.x), RULER_PX, 1, height);
    context.globalAlpha = 1;
  }
  if (scene.head !== null && scene.head >= scene.view.start && scene.head <= scene.view.end) {
    const at = Math.round(x(scene.head));
    context.fillStyle = palette.accent;
    context.fillRect(at - 1, 12, 2, height);
    context.beginPath();
    context.moveTo(at - 6, 4);
    context.lineTo(at + 6, 4);
    context.lineTo(at, 15);
    context.fill();
  }
}
