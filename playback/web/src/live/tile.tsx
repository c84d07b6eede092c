// A live picture with what is known of its stream: state, bit rate, loss.

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { percent, lossPercent, playable, rate } from "../lib/figures";
import { byName, returned } from "../lib/node";
import { condition, toneOf } from "../lib/terms";
import { words } from "../lib/words";
import { LiveStill } from "./still";
import { LiveView, type LiveState } from "./liveview";

const t = words({
  first: ["Waiting for the first picture…", "Đang chờ hình đầu tiên…"],
  again: ["Interrupted, trying again…", "Bị gián đoạn, đang thử lại…"],
  stills: ["H.265: single pictures", "H.265: hình tĩnh"],
  stillsTitle: ["This browser has no decoder for H.265", "Trình duyệt này không có bộ giải mã H.265"],
  loss: ["{loss} lost", "mất {loss}"],
  live: ["LIVE", "TRỰC TIẾP"],
});

export function LiveTile({ stream, sound = false, children }: { stream: string; sound?: boolean; children?: ComponentChildren }) {
  const video = useRef<HTMLVideoElement>(null);
  const state = useSignal<LiveState>("connecting");
  const text = useSignal("");
  const known = byName.value.get(stream);
  const still = known !== undefined && !playable(known.mime);
  const mine = returned.value;
  useEffect(() => {
    if (still || !video.current) return;
    const view = new LiveView(video.current, stream);
    const stop = [view.state.subscribe((now) => { state.value = now; way.value = view.way; }), view.text.subscribe((now) => { text.value = now; })];
    return () => { view.stop(); for (const end of stop) end(); };
  }, [stream, still, mine]);
  const way = useSignal("");
  useEffect(() => { if (video.current) video.current.muted = !sound; }, [sound]);
  const shown: LiveState = still ? "unplayable" : state.value;
  return <div class="tile-body" data-live={shown} data-way={way.value}>
    {shown === "unplayable" ? <LiveStill stream={stream} /> : null}
    <video class="picture" ref={video} playsInline muted autoPlay hidden={shown === "unplayable"} />
    {shown !== "live" && shown !== "unplayable" && <p class="tile-note">{shown === "waiting" ? text.value || t("again") : t("first")}</p>}
    <div class="tile-head">
      <span class={`dot ${toneOf(known?.state ?? "")}`} title={known ? condition(known) : ""} />
      <span class="tile-name">{stream}</span>
      <span class="tile-figures">{known?.state === "recording" ? figures(known) : known ? condition(known) : ""}</span>
      {shown === "unplayable" && <span class="said" title={t("stillsTitle")}>{t("stills")}</span>}
      {shown === "live" && <span class="live-mark">{t("live")}</span>}
    </div>
    {children}
  </div>;

  function figures(of: NonNullable<typeof known>): string {
    const lost = lossPercent(of);
    return [rate(of.bitrate_bps), lost === null ? "" : t("loss", { loss: percent(lost) })].filter(Boolean).join(" · ");
  }
}
