// Playback: up to sixteen streams at one moment of the recording, and the timeline under them. Without a moment, live.

import { type Signal, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { send } from "../lib/api";
import { useArranged } from "../lib/columns";
import { playable } from "../lib/figures";
import { byName, now, reach, returned, streams } from "../lib/node";
import { href, route, streamsAsked, tell } from "../lib/router";
import { formatTime, HOUR, MINUTE, parseTime, SECOND } from "../lib/time";
import type { SeekView } from "../lib/types";
import { words } from "../lib/words";
import { LiveTile } from "../live/tile";
import { ClipPanel } from "../parts/clip";
import { Gaps } from "../parts/gaps";
import { KeysHelp } from "../parts/keys";
import { Transport } from "../parts/transport";
import { ZoomBar } from "../parts/zoom";
import { Master, RATES } from "../play/master";
import { type Player, PlayerTile } from "../play/tile";
import { TimelineData } from "../timeline/data";
import type { View } from "../timeline/scale";
import { clampView, zoomed } from "../timeline/scale";
import { type Marks, Timeline } from "../timeline/timeline";

const MOST = 16;
const FEW = 8;
const WAIT_MAX_MS = 4000;
const EDGE_MS = 3000;
const HEAD_MS = 80;
const HIDDEN_MS = 2000; // between two frames of the screen
const TELL_MS = 1000;
const EXACT_MS = 60;

const t = words({
  choose: ["Choose streams in the timeline below.", "Chọn luồng ở dòng thời gian bên dưới."],
  none: ["Nothing has been recorded yet.", "Chưa có bản ghi nào."],
});

/** Rows of the timeline: those watched on top where there are many, then those that were looked for. */
function rowsOf(all: string[], watched: string[], find: string): string[] {
  const wanted = find.trim().toLowerCase();
  const found = wanted ? all.filter((name) => name.toLowerCase().includes(wanted) || watched.includes(name)) : all;
  return found.length <= FEW ? found : [...watched.filter((name) => all.includes(name)), ...found.filter((name) => !watched.includes(name))];
}

/** Every picture is decoded up to this rate; beyond it, and backward, key frames alone. */
const fullRate = (count: number) => count <= 4 ? 4 : 2;

function firstView(params: URLSearchParams): View {
  const at = parseTime(params.get("at"));
  const span = Number(params.get("span")) * SECOND || HOUR;
  if (!Number.isNaN(at)) return clampView(at - span / 2, at + span / 2, now());
  return clampView(now() - span * 0.96, now() + span * 0.04, now());
}

export function Playback() {
  const asked = route.value.params;
  const at = parseTime(asked.get("at"));
  const master = useMemo(() => new Master(Number.isNaN(at) ? now() : at), []);
  const live = useSignal(Number.isNaN(at));
  const chosen = useSignal(streamsAsked(asked, MOST));
  const view = useSignal<View>(firstView(asked));
  const head = useSignal<number | null>(Number.isNaN(at) ? null : at);
  const marks = useSignal<Marks>(marksOf(asked));
  const active = useSignal("");
  const sound = useSignal(false);
  const data = useMemo(() => new TimelineData(), []);
  const players = useMemo(() => new Map<string, Player>(), []);
  const find = useSignal("");
  const watched = chosen.value;
  const names = rowsOf(streams.value.map((stream) => stream.id), watched, find.value);
  const trick = useTrick(master, live, watched.length);

  useEffect(() => { // an address that somebody opened or sent
    const moment = parseTime(asked.get("at"));
    const list = streamsAsked(asked, MOST);
    if (list.length) chosen.value = list;
    marks.value = marksOf(asked);
    if (Number.isNaN(moment)) return;
    live.value = false;
    master.seek(moment);
    head.value = moment;
    if (moment < view.peek().start || moment > view.peek().end || asked.has("span")) view.value = firstView(asked);
    if (asked.get("play") === "1") master.play();
  }, [asked]);
  useEffect(() => {
    if (watched.length || !streams.value.length) return;
    const well = streams.value.filter((stream) => playable(stream.mime) && stream.durable_until && stream.quality !== "sub");
    chosen.value = (well.length ? well : streams.value).slice(0, 4).map((stream) => stream.id);
  }, [watched.length, streams.value.length]);
  useEffect(() => { if (!watched.includes(active.value)) active.value = watched[0] ?? ""; }, [watched.join()]);
  useEffect(() => data.renew(), [returned.value]);
  useFit(data, view, live, asked);

  const seek = (moment: number) => {
    const latest = now() - EDGE_MS;
    live.value = false;
    master.seek(Math.max(0, Math.min(moment, latest)));
    head.value = master.at();
  };
  const goLive = () => {
    master.pause();
    live.value = true;
    head.value = null;
    const { start, end } = view.peek();
    const span = end - start;
    if (end < now()) view.value = clampView(now() - span * 0.96, now() + span * 0.04, now());
  };
  useLoop(master, players, { live, head, view, goLive });
  useExact(master, players, { live, head, watched });
  useAddress({ live, head, view, chosen, marks, master });
  const helping = useSignal(false);
  const acts = useActs({ helping, master, players, live, head, view, marks, active, seek, goLive, watched });
  useKeys(acts);

  const tiles = watched;
  const grid = useArranged<HTMLUListElement>(tiles.length);
  const slow = Math.abs(master.rate.value) <= 1;
  return <div class="playback">
    <div class="stage">
      {!tiles.length && reach.value === "ok" && <p class="empty">{streams.value.length ? t("choose") : t("none")}</p>}
      <ul class="grid" ref={grid.box} style={grid.style}>
        {tiles.map((name) => <li class="tile" key={name}>
          {live.value ? <LiveTile stream={name} sound={sound.value && active.value === name} /> : <PlayerTile stream={name} master={master} trick={trick} moving={master.playing.value} slow={slow}
            sound={sound.value && active.value === name} active={active.value === name && tiles.length > 1} perSecond={tiles.length > 4 ? 4 : 8}
            players={players} onActive={() => { active.value = name; }} />}
        </li>)}
      </ul>
    </div>
    <Transport master={master} live={live} head={head} sound={sound} acts={acts} offset={byName.value.get(active.value)?.clock_offset_ms ?? null} />
    <div class="line">
      <ZoomBar view={view} head={head} />
      <Timeline names={names} total={streams.value.length} find={find} chosen={watched} view={view} head={head} marks={marks} data={data} most={MOST}
        onSeek={(moment, stream) => {
          if (stream && !chosen.value.length) chosen.value = [stream];
          seek(moment);
        }}
        onChoose={(list) => { chosen.value = list; }} />
      <div class="line-foot">
        <Gaps data={data} view={view} stream={active.value} onSeek={seek} />
        <ClipPanel marks={marks} streams={watched} head={head} data={data} />
      </div>
    </div>
    <KeysHelp open={helping} />
    <a class="sr" href={href("wall", { streams: watched.join(",") })}>Wall</a>
  </div>;
}

function marksOf(params: URLSearchParams): Marks {
  const moment = (name: string) => { const found = parseTime(params.get(name)); return Number.isNaN(found) ? null : found; };
  return { start: moment("in"), end: moment("out") };
}

/** Key frames alone: from where and how fast; a new object when either changes. */
function useTrick(master: Master, live: Signal<boolean>, count: number): { rate: number; at: number } | null {
  const rate = master.rate.value;
  const on = !live.value && master.playing.value && (rate < 0 || rate > fullRate(count));
  return useMemo(() => on ? { rate, at: master.at() } : null, [on, rate, on ? master.jumps : 0]);
}

interface Loop { live: Signal<boolean>; head: Signal<number | null>; view: Signal<View>; goLive: () => void }

/** Every frame of the screen: drive the players, hold the clock while one lacks what it should have, move the head. */
function useLoop(master: Master, players: Map<string, Player>, { live, head, view, goLive }: Loop): void {
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
function useExact(master: Master, players: Map<string, Player>, { live, head, watched }: { live: Signal<boolean>; head: Signal<number | null>; watched: string[] }): void {
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

interface Address { live: Signal<boolean>; head: Signal<number | null>; view: Signal<View>; chosen: Signal<string[]>; marks: Signal<Marks>; master: Master }

/** The address says what is shown: streams, moment, zoom, marks. */
function useAddress({ live, head, view, chosen, marks, master }: Address): void {
  const last = useRef(0);
  const timer = useRef(0);
  useSignalEffect(() => {
    void [live.value, head.value, view.value, chosen.value, marks.value];
    clearTimeout(timer.current);
    const put = () => {
      last.current = performance.now();
      const { start, end } = view.peek();
      const moment = (ms: number | null) => ms === null ? undefined : formatTime(ms);
      tell("playback", {
        streams: chosen.peek().join(","),
        at: live.peek() ? undefined : moment(head.peek()),
        span: String(Math.round((end - start) / 10) / 100),
        in: moment(marks.peek().start), out: moment(marks.peek().end),
      });
    };
    if (performance.now() - last.current > TELL_MS || !master.playing.peek()) timer.current = window.setTimeout(put, 50);
  });
  useEffect(() => () => clearTimeout(timer.current), []);
}

/** A node that began a few minutes ago is shown some minutes, not an empty hour; only at first. */
function useFit(data: TimelineData, view: Signal<View>, live: Signal<boolean>, asked: URLSearchParams): void {
  const fitted = useRef(asked.has("span") || asked.has("at"));
  useEffect(() => data.version.subscribe(() => {
    if (fitted.current || !data.rows.size) return;
    const first = Math.min(...[...data.rows.values()].map((row) => row.spans[0]?.start ?? Infinity));
    if (!Number.isFinite(first)) return;
    fitted.current = true;
    if (live.peek() && first > now() - 8 * MINUTE) view.value = clampView(now() - 9.6 * MINUTE, now() + 0.4 * MINUTE, now());
  }), []);
}

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

function useActs({ helping, master, players, live, head, view, marks, active, seek, goLive, watched }: Acting): Acts {
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

function useKeys(acts: Acts): void {
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
