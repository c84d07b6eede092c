// One stream on the master clock: as recorded, as key frames when it goes fast or backward, as a preview or as single
// pictures where the browser cannot play the codec. What is on screen stays until the next has its picture.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { playable } from "../lib/figures";
import { byName, now } from "../lib/node";
import { causeOf } from "../lib/terms";
import { clock, lasting } from "../lib/time";
import { words } from "../lib/words";
import type { Absence } from "./absence";
import type { Master } from "./master";
import { HlsSource, PreviewSource } from "./source";
import { Stills } from "./stills";
import { Track, type TrackState } from "./track";
import { Trick } from "./trick";

const t = words({
  loading: ["Loading…", "Đang tải…"],
  lost: ["No answer, trying again…", "Không có trả lời, đang thử lại…"],
  gap: ["Nothing recorded here", "Không có bản ghi ở đây"],
  none: ["nothing is declared", "không có khai báo"],
  edge: ["This moment is still to come", "Chưa tới thời điểm này"],
  refused: ["This browser cannot play this codec. A download plays in VLC, mpv or ffplay.", "Trình duyệt không phát được mã này. Bản tải về phát được bằng VLC, mpv hoặc ffplay."],
  preview: ["H.265: preview in H.264", "H.265: bản xem trước H.264"],
  stills: ["H.265: single pictures", "H.265: hình tĩnh"],
  camera: ["camera {time}", "camera {time}"],
  cameraTitle: ["The camera's own clock, as far as it is off now", "Đồng hồ của camera, theo độ lệch hiện tại"],
  keys: ["key frames", "khung khoá"],
});

/** What the page's loop drives. */
export interface Player {
  tick: (at: number, moving: boolean, rate: number) => void;
  readonly lacking: boolean;
  /** Wall time of the picture on screen, ms. */
  readonly shown: number | null;
  track: Track | null;
}

export type Mode = "track" | "trick" | "preview" | "stills";

interface Shown {
  stream: string;
  master: Master;
  trick: { rate: number; at: number } | null;
  moving: boolean;
  slow: boolean;
  sound: boolean;
  active: boolean;
  perSecond: number;
  players: Map<string, Player>;
  onActive: () => void;
}

export function PlayerTile(shown: Shown) {
  const { stream, master, trick, players, sound, active, onActive } = shown;
  const plain = useRef<HTMLVideoElement>(null);
  const fast = useRef<HTMLVideoElement>(null);
  const image = useRef<HTMLImageElement>(null);
  const state = useSignal<TrackState>({ kind: "loading" });
  const moment = useSignal<number | null>(null);
  const refused = useSignal(false);
  const known = byName.value.get(stream);
  const foreign = refused.value || (known !== undefined && !playable(known.mime));
  const mode: Mode = !foreign ? (trick ? "trick" : "track") : trick || !shown.moving || !shown.slow || known?.preview !== "h264" ? "stills" : "preview";
  const tracks = useRef<Partial<Record<"track" | "preview", Track>>>({});

  useEffect(() => () => { for (const track of Object.values(tracks.current)) track.stop(); tracks.current = {}; }, [stream, foreign]);
  useEffect(() => {
    const edge = () => now() - 1000;
    let made: Track | Trick | Stills;
    if (mode === "trick") made = new Trick(stream, fast.current!, trick!.at, trick!.rate, shown.perSecond);
    else if (mode === "stills") made = new Stills(stream, image.current!);
    else {
      const source = mode === "track" ? new HlsSource(stream, edge) : new PreviewSource(stream, edge);
      made = tracks.current[mode] ??= new Track(stream, plain.current!, source);
    }
    const ends = [
      made.state.subscribe((now) => { state.value = now; if (now.kind === "unplayable" && mode !== "preview") refused.value = true; }),
      made.shown.subscribe((now) => { if (now !== null) moment.value = now; }),
    ];
    const player: Player = {
      tick: (at, moving, rate) => made.tick(at, moving, rate),
      get lacking() { return made.lacking; },
      get shown() { return made.shown.peek(); },
      track: made instanceof Track ? made : null,
    };
    players.set(stream, player);
    return () => {
      if (players.get(stream) === player) players.delete(stream);
      for (const end of ends) end();
      if (made instanceof Track) made.video.pause();
      else made.stop();
    };
  }, [stream, mode, trick?.rate, trick?.at]);
  useEffect(() => { if (plain.current) plain.current.muted = !sound; }, [sound]);

  const { kind } = state.value;
  const absence = state.value.kind === "gap" ? state.value.absence : null;
  const dim = kind === "gap" || kind === "error";
  const offset = known?.clock_offset_ms;
  return <div class={`tile-body player${active ? " active" : ""}`} data-stream={stream} data-state={kind} data-mode={mode} data-moment={moment.value ?? ""}>
    <video class={`picture${dim ? " dim" : ""}`} ref={plain} playsInline muted hidden={mode === "stills" || (mode === "trick" && kind === "ready")} />
    <video class={`picture${dim ? " dim" : ""}`} ref={fast} playsInline muted hidden={mode !== "trick"} />
    <img class={`picture still${dim ? " dim" : ""}`} ref={image} alt="" hidden={mode !== "stills"} />
    {kind === "loading" && <span class="busy" role="img" aria-label={t("loading")} />}
    {absence && <p class="tile-note alone">{absence.cause === "edge" ? t("edge") : <><b>{t("gap")}</b>{why(absence)}</>}</p>}
    {state.value.kind === "error" && <p class="tile-note alone">{state.value.text || t("lost")}</p>}
    {kind === "unplayable" && <p class="tile-note alone">{t("refused")}</p>}
    <div class="tile-head">
      <span class="tile-name">{stream}</span>
      <span class="tile-figures">
        {mode === "stills" || mode === "preview" ? t(mode) : mode === "trick" ? t("keys") : ""}
      </span>
    </div>
    {moment.value !== null && !absence && <p class="stamp">{clock(moment.value, true)}
      {offset !== null && offset !== undefined && Math.abs(offset) >= 1 && <small title={t("cameraTitle")}>{t("camera", { time: clock(moment.value + offset, true) })}</small>}
    </p>}
    <button class="cover" type="button" tabIndex={-1} aria-label={stream} aria-pressed={active} onClick={() => { onActive(); if (active) (master.playing.peek() ? master.pause() : master.play()); }} />
  </div>;
}

function why({ cause, start, end, whole }: Absence) {
  if (!whole) return null;
  return <span>{cause === "none" ? t("none") : causeOf(cause)}<br /><small>{clock(start)} – {clock(end)} · {lasting(end - start)}</small></span>;
}
