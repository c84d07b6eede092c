// Playback: up to sixteen streams at one moment of the recording, and the timeline under them. Without a moment, live.

import { type Signal, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { useArranged } from "../lib/columns";
import { playable } from "../lib/figures";
import { byName, now, reach, returned, streams } from "../lib/node";
import { href, route, streamsAsked, tell } from "../lib/router";
import { formatTime, HOUR, MINUTE, parseTime, SECOND } from "../lib/time";
import { words } from "../lib/words";
import { LiveTile } from "../live/tile";
import { ClipPanel } from "../parts/clip";
import { Gaps } from "../parts/gaps";
import { KeysHelp } from "../parts/keys";
import { Transport } from "../parts/transport";
import { ZoomBar } from "../parts/zoom";
import { useActs, useKeys } from "../play/acts";
import { EDGE_MS, useExact, useLoop, useTrick } from "../play/drive";
import { Master } from "../play/master";
import { type Player, PlayerTile } from "../play/tile";
import { TimelineData } from "../timeline/data";
import { clampView, type View } from "../timeline/scale";
import { type Marks, Timeline } from "../timeline/timeline";

const MOST = 16;
const FEW = 8;
const TELL_MS = 1000;

const t = words({
  choose: ["Choose streams in the timeline below.", "Chọn luồng ở dòng thời gian bên dưới."],
  wall: ["These streams on the wall", "Các luồng này trên màn hình"],
  none: ["Nothing has been recorded yet.", "Chưa có bản ghi nào."],
});

/** Rows of the timeline: those watched on top where there are many, then those that were looked for. */
function rowsOf(all: string[], watched: string[], find: string): string[] {
  const wanted = find.trim().toLowerCase();
  const found = wanted ? all.filter((name) => name.toLowerCase().includes(wanted) || watched.includes(name)) : all;
  return found.length <= FEW ? found : [...watched.filter((name) => all.includes(name)), ...found.filter((name) => !watched.includes(name))];
}

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
    <a class="sr" href={href("wall", { streams: watched.join(",") })}>{t("wall")}</a>
  </div>;
}

function marksOf(params: URLSearchParams): Marks {
  const moment = (name: string) => { const found = parseTime(params.get(name)); return Number.isNaN(found) ? null : found; };
  return { start: moment("in"), end: moment("out") };
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
