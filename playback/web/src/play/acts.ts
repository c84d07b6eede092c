// What one can do in Playback, by button or by key.

import type { Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { byName, now } from "../lib/node";
import { parseTime, SECOND } from "../lib/time";
import { type View, zoomed } from "../timeline/scale";
import type { Marks } from "../timeline/timeline";
import { type Master, RATES } from "./master";
import type { Player } from "./tile";

export interface Acts {
  toggle: () => void;
  play: (rate: number) => void;
  pause: () => void;
  forward: () => void;
  backward: () => void;
  step: (by: 1 | -1, keys: boolean) => void;
  seek: (moment: number) => void;
  jump: (by: number) => void;
  help: () => void;
  live: () => void;
  mark: (which: "start" | "end") => void;
  zoom: (factor: number) => void;
}

interface Acting {
  helping: Signal<boolean>;
  master: Master;
  players: Map<string, Player>;
  live: Signal<boolean>;
  head: Signal<number | null>;
  view: Signal<View>;
  marks: Signal<Marks>;
  active: Signal<string>;
  seek: (moment: number) => void;
  goLive: () => void;
  watched: string[];
}

export function useActs({ helping, master, players, live, head, view, marks, active, seek, goLive, watched }: Acting): Acts {
  const leave = () => { // from live to the recording: a few seconds ago
    if (!live.peek()) return;
    const safe = Math.min(...watched.map((name) => parseTime(byName.peek().get(name)?.durable_until) || now()));
    seek(Math.min(safe - 10 * SECOND, now() - 10 * SECOND));
  };
  const faster = (way: 1 | -1) => {
    leave();
    const rate = master.rate.peek();
    const going = master.playing.peek() && Math.sign(rate) === way;
    const next = going ? RATES[Math.min(RATES.indexOf(Math.abs(rate) as 1) + 1, RATES.length - 1)]! : 1;
    master.play(way * next);
  };
  return {
    toggle: () => {
      if (live.peek()) { leave(); return; }
      if (master.playing.peek()) master.pause(); else master.play();
    },
    play: (rate) => { leave(); master.play(rate); },
    pause: () => { leave(); master.pause(); },
    forward: () => faster(1),
    backward: () => faster(-1),
    step: (by, keys) => {
      leave();
      master.pause();
      const at = master.at();
      const track = players.get(active.peek())?.track ?? [...players.values()].find((player) => player.track)?.track;
      const found = track?.step(at, by, keys);
      seek(found ?? at + by * (keys ? SECOND : 40));
    },
    seek,
    jump: (by) => { leave(); seek(master.at() + by); },
    live: goLive,
    help: () => { helping.value = !helping.peek(); },
    mark: (which) => {
      // the picture on screen belongs to the clip: it begins with it, or ends behind it
      const shown = master.playing.peek() || live.peek() ? null : players.get(active.peek())?.shown ?? null;
      const at = shown === null ? head.peek() ?? now() : which === "start" ? shown : shown + 1;
      const next = { ...marks.peek(), [which]: at };
      if (next.start !== null && next.end !== null && next.start >= next.end) next[which === "start" ? "end" : "start"] = null;
      marks.value = next;
    },
    zoom: (factor) => {
      const { start, end } = view.peek();
      const at = head.peek();
      view.value = zoomed(view.peek(), factor, at !== null && at >= start && at <= end ? at : live.peek() ? now() : (start + end) / 2, now());
    },
  };
}

export function useKeys(acts: Acts): void {
  const latest = useRef(acts);
  latest.current = acts;
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      const typing = target.closest("input:not([type=checkbox]), select, textarea, dialog");
      const pressing = target.closest("button, a, summary, input[type=checkbox]");
      if (typing || event.ctrlKey || event.metaKey || event.altKey || (pressing && (event.key === " " || event.key === "Enter"))) return;
      const act = actOf(latest.current, event);
      if (act) { event.preventDefault(); act(); }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

function actOf(acts: Acts, event: KeyboardEvent): (() => void) | undefined {
  const keys: Record<string, () => void> = {
    " ": acts.toggle, k: acts.pause, j: acts.backward, l: acts.forward,
    ArrowLeft: () => acts.step(-1, event.shiftKey), ArrowRight: () => acts.step(1, event.shiftKey),
    i: () => acts.mark("start"), o: () => acts.mark("end"), n: acts.live, "?": acts.help,
    "+": () => acts.zoom(0.5), "=": () => acts.zoom(0.5), "-": () => acts.zoom(2),
    PageUp: () => acts.jump(-10 * SECOND), PageDown: () => acts.jump(10 * SECOND),
  };
  const rate = RATES[Number(event.key) - 1];
  return rate ? () => acts.play(rate) : keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
}
