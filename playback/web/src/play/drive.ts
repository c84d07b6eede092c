// What moves Playback: every frame of the screen the players are driven by the clock, the clock waits for them, and standing
// still the server says which picture is the one of the moment.

import type { Signal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { send } from "../lib/api";
import { byName, now, reach } from "../lib/node";
import { formatTime } from "../lib/time";
import type { SeekView } from "../lib/types";
import { clampView, type View } from "../timeline/scale";
import type { Master } from "./master";
import type { Player } from "./tile";

const WAIT_MAX_MS = 4000;
export const EDGE_MS = 3000; // so close to now it is live
const HEAD_MS = 80;
const HIDDEN_MS = 2000; // between two frames of the screen
const EXACT_MS = 60;

/** Every picture is decoded up to this rate; beyond it, and backward, key frames alone. */
const fullRate = (count: number) => count <= 4 ? 4 : 2;

/** Key frames alone: from where and how fast; a new object when either changes. */
export function useTrick(master: Master, live: Signal<boolean>, count: number): { rate: number; at: number } | null {
  const rate = master.rate.value;
  const on = !live.value && master.playing.value && (rate < 0 || rate > fullRate(count));
  return useMemo(() => on ? { rate, at: master.at() } : null, [on, rate, on ? master.jumps : 0]);
}

interface Loop { live: Signal<boolean>; head: Signal<number | null>; view: Signal<View>; goLive: () => void }

/** Every frame of the screen: drive the players, hold the clock while one lacks what it should have, move the head. */
export function useLoop(master: Master, players: Map<string, Player>, { live, head, view, goLive }: Loop): void {
  useEffect(() => {
    let frame = 0;
    let waitingSince = 0;
    let told = 0;
    let last = { time: performance.now(), at: master.at() };
    const step = (time: number) => {
      frame = requestAnimationFrame(step);
      if (live.peek()) return;
      if (master.moving && time - last.time > HIDDEN_MS) master.seek(last.at); // nobody saw it: the clock stood meanwhile
      last = { time, at: master.at() };
      const rate = master.rate.peek();
      const at = master.at();
      for (const player of players.values()) player.tick(at, master.moving, rate);
      if (master.playing.peek()) {
        const lacking = [...players.values()].some((player) => player.lacking);
        if (!lacking) waitingSince = 0;
        else waitingSince ||= time;
        master.wait(lacking && time - waitingSince < WAIT_MAX_MS);
        if (at >= now() - EDGE_MS && rate > 0) { goLive(); return; }
        if (at <= 0) master.pause();
      }
      if (head.peek() !== at && (time - told > HEAD_MS || !master.moving)) {
        told = time;
        head.value = at;
        const { start, end } = view.peek();
        const span = end - start;
        if (master.moving && at > start && at < end + span && at > end - span * 0.05) view.value = clampView(at - span * 0.1, at + span * 0.9, now());
        if (master.moving && rate < 0 && at < start + span * 0.05 && at > start - span) view.value = clampView(at - span * 0.9, at + span * 0.1, now());
      }
    };
    frame = requestAnimationFrame(step);
    return () => cancelAnimationFrame(frame);
  }, []);
}

/** When the clock stands still, the server tells which picture is the one of this moment, of each stream. */
export function useExact(master: Master, players: Map<string, Player>, { live, head, watched }: { live: Signal<boolean>; head: Signal<number | null>; watched: string[] }): void {
  const list = useRef(watched);
  list.current = watched;
  useEffect(() => {
    let timer = 0;
    let asking = new AbortController();
    const ask = (at: number | null) => {
      clearTimeout(timer);
      asking.abort();
      const known = list.current.filter((name) => byName.peek().has(name)); // an address may name a stream that is no more
      if (at === null || live.peek() || master.playing.peek() || !known.length) return;
      timer = window.setTimeout(() => {
        asking = new AbortController();
        send<SeekView>("POST", "/seek", { at: formatTime(at), streams: known, exact: true }, asking.signal).then((found) => {
          for (const one of found.results) players.get(one.stream)?.track?.tellExact(at, one.media_90k, one.frame);
        }).catch(() => {});
      }, EXACT_MS);
    };
    const end = head.subscribe(ask);
    const begun = reach.subscribe((now) => { if (now === "ok") ask(head.peek()); }); // at first no stream is known
    const resume = master.playing.subscribe((playing) => { if (!playing && !live.peek()) head.value = master.at(); });
    return () => { end(); begun(); resume(); clearTimeout(timer); asking.abort(); };
  }, []);
}
