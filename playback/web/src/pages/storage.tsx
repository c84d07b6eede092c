// The volumes: state, what is on them, how long there is room.

import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { ask } from "../lib/api";
import { size } from "../lib/figures";
import type { VolumesView, VolumeView } from "../lib/types";
import { locale, vocabulary, words } from "../lib/words";

const EVERY_MS = 5000;

const t = words({
  title: ["Storage", "Lưu trữ"],
  none: ["No recorder reports, so the volumes are not known.", "Không có bộ ghi nào báo cáo nên chưa biết các ổ."],
  failed: ["The volumes cannot be read: {why}", "Không đọc được các ổ: {why}"],
  footage: ["Footage", "Bản ghi"],
  held: ["Held", "Giữ lại"],
  free: ["Free", "Còn trống"],
  of: ["of {total}", "trên {total}"],
  ingest: ["Written", "Ghi vào"],
  left: ["Full in", "Đầy sau"],
  kept: ["Keeps", "Lưu được"],
  days: ["{n} days", "{n} ngày"],
  streams: ["Streams", "Luồng"],
  sync: ["Last sync", "Lần đồng bộ cuối"],
  used: ["{percent} % of the volume is used", "Đã dùng {percent} % ổ"],
});

const volumeState = vocabulary({
  ok: ["ok", "tốt"],
  suspect: ["does not answer", "không trả lời"],
  draining: ["takes no new footage", "không nhận bản ghi mới"],
  quarantined: ["failed", "hỏng"],
});

export function Storage() {
  const view = useSignal<VolumesView | null>(null);
  const problem = useSignal("");
  useEffect(() => {
    const look = () => void ask<VolumesView>("/volumes").then(
      (found) => { view.value = found; problem.value = ""; },
      (error: Error) => { problem.value = error.message; },
    );
    look();
    const timer = setInterval(() => { if (!document.hidden) look(); }, EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  return <section class="sheet">
    <h1>{t("title")}</h1>
    {problem.value && <p class="problem" role="alert">{t("failed", { why: problem.value })}</p>}
    {view.value?.volumes.length === 0 && <p class="empty">{t("none")}</p>}
    <div class="cards">{view.value?.volumes.map((volume) => <Volume key={volume.id} volume={volume} />)}</div>
  </section>;
}

function days(value: number | null): string {
  if (value === null) return "–";
  return t("days", { n: value.toLocaleString(locale.value === "vi" ? "vi-VN" : "en-GB", { maximumFractionDigits: value < 10 ? 1 : 0 }) });
}

function Volume({ volume }: { volume: VolumeView }) {
  const used = volume.total_bytes ? 1 - volume.free_bytes / volume.total_bytes : 0;
  const share = (bytes: number) => `${volume.total_bytes ? Math.min(100, 100 * bytes / volume.total_bytes) : 0}%`;
  const facts: [string, string][] = [
    [t("footage"), size(volume.stored_bytes)],
    [t("held"), size(volume.held_bytes)],
    [t("free"), `${size(volume.free_bytes)} ${t("of", { total: size(volume.total_bytes) })}`],
    [t("ingest"), `${size(volume.ingest_bytes_s)}/s`],
    [t("left"), days(volume.days_left)],
    [t("kept"), days(volume.days_kept)],
    [t("streams"), String(volume.streams)],
    [t("sync"), `${volume.last_sync_ms.toFixed(1)} ms`],
  ];
  return <article class="card">
    <h2><span class={`dot ${volume.state === "ok" ? "good" : volume.state === "quarantined" ? "bad" : "wait"}`} />
      <span>{volume.path}</span><small>{volumeState(volume.state)}</small></h2>
    {volume.detail && <p class="problem">{volume.detail}</p>}
    <div class="meter" role="img" aria-label={t("used", { percent: Math.round(used * 100) })}>
      <i class="meter-other" style={{ width: `${used * 100}%` }} />
      <i class="meter-footage" style={{ width: share(volume.stored_bytes) }} />
      <i class="meter-held" style={{ width: share(volume.held_bytes) }} />
    </div>
    <dl class="facts">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
    {volume.deleting_detail && <p class="problem">{volume.deleting_detail}</p>}
  </article>;
}
