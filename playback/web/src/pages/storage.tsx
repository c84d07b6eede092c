// Storage: alarms, the volumes and for how long there is room, figures of the last hour and day, reports.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ask } from "../lib/api";
import { size } from "../lib/figures";
import { route, tell } from "../lib/router";
import { parseTime, SECOND } from "../lib/time";
import type { VolumesView } from "../lib/types";
import type { AlarmsView, HistoryView, Line, ReportsView } from "../lib/upkeep";
import { locale, words } from "../lib/words";
import { Alarms } from "../parts/alarms";
import { Plot, type Series } from "../parts/plot";
import { Reports } from "../parts/reports";
import { Volume } from "../parts/volume";
import "./upkeep.css";

const NOW_MS = 5000;
const HISTORY_MS = 10_000;
const REPORTS_MS = 30_000;

const t = words({
  title: ["Storage", "Lưu trữ"],
  none: ["No recorder reports, so the volumes are not known.", "Không có bộ ghi nào báo cáo nên chưa biết các ổ."],
  failed: ["No answer: {why}", "Không có trả lời: {why}"],
  figures: ["Figures", "Số liệu"],
  span: ["Span", "Khoảng"],
  hour: ["Last hour", "Giờ qua"],
  day: ["Last day", "Ngày qua"],
  ingest: ["Comes in from cameras", "Camera gửi vào"],
  written: ["Written to volumes", "Ghi xuống ổ"],
  sync: ["Longest sync", "Đồng bộ lâu nhất"],
  queue: ["Waiting to be written", "Chờ ghi"],
  free: ["Free", "Còn trống"],
  lag: ["Longest lag of the recorder", "Bộ ghi trễ nhất"],
  dropped: ["GOPs left out", "GOP bị bỏ"],
  streams: ["Streams recorded", "Luồng được ghi"],
  node: ["node", "nút"],
});

function useAsked<T>(path: string, every: number): { value: T | null; problem: string } {
  const found = useSignal<T | null>(null);
  const problem = useSignal("");
  useEffect(() => {
    let gone = false;
    const look = () => void ask<T>(path).then(
      (answer) => { if (!gone) { found.value = answer; problem.value = ""; } },
      (error: Error) => { if (!gone) problem.value = error.message; },
    );
    look();
    const timer = setInterval(() => { if (!document.hidden) look(); }, every);
    return () => { gone = true; clearInterval(timer); };
  }, [path, every]);
  return { value: found.value, problem: problem.value };
}

export function Storage() {
  const span = useSignal<"hour" | "day">(route.peek().params.get("span") === "day" ? "day" : "hour");
  const volumes = useAsked<VolumesView>("/volumes", NOW_MS);
  const alarms = useAsked<AlarmsView>("/alarms", NOW_MS);
  const history = useAsked<HistoryView>(`/history?span=${span.value}`, HISTORY_MS);
  const reports = useAsked<ReportsView>("/reports", REPORTS_MS);
  useEffect(() => { tell("storage", { span: span.value === "day" ? "day" : undefined }); }, [span.value]);
  const problem = volumes.problem || alarms.problem || history.problem || reports.problem;
  return <section class="sheet">
    <h1>{t("title")}</h1>
    {problem && <p class="problem" role="alert">{t("failed", { why: problem })}</p>}
    {alarms.value && <Alarms alarms={alarms.value.alarms} />}
    {volumes.value?.volumes.length === 0 && <p class="empty">{t("none")}</p>}
    <div class="cards">{volumes.value?.volumes.map((volume) => <Volume key={volume.id} volume={volume} />)}</div>
    <div class="sheet-head"><h2>{t("figures")}</h2><div class="switch" role="group" aria-label={t("span")}>
      {(["hour", "day"] as const).map((one) => <button key={one} type="button" aria-pressed={span.value === one} onClick={() => { span.value = one; }}>{t(one)}</button>)}
    </div></div>
    {history.value && <Figures view={history.value} />}
    {reports.value && <Reports view={reports.value} />}
  </section>;
}

const whole = (value: number) => value.toLocaleString(locale.value === "vi" ? "vi-VN" : "en-GB", { maximumFractionDigits: value < 10 ? 1 : 0 });
const speed = (value: number) => `${size(value)}/s`;
const ms = (value: number) => `${whole(value)} ms`;

function Figures({ view }: { view: HistoryView }) {
  const common = { start: parseTime(view.start), step: view.step_s * SECOND };
  const node = (line: Line): Series[] => [{ name: t("node"), line }];
  const each = (figure: "write_bytes_s" | "sync_ms" | "queue_bytes" | "free_bytes"): Series[] =>
    view.volumes.map((volume) => ({ name: volume.path || volume.id.slice(0, 8), line: volume[figure] }));
  return <div class="plots">
    <Plot {...common} title={t("ingest")} series={node(view.ingest_bytes_s)} show={speed} />
    <Plot {...common} title={t("written")} series={each("write_bytes_s")} show={speed} />
    <Plot {...common} title={t("sync")} series={each("sync_ms")} show={ms} />
    <Plot {...common} title={t("queue")} series={each("queue_bytes")} show={size} />
    <Plot {...common} title={t("free")} series={each("free_bytes")} show={size} />
    <Plot {...common} title={t("streams")} series={node(view.streams)} show={whole} />
    <Plot {...common} title={t("dropped")} series={node(view.dropped_gops)} show={whole} />
    <Plot {...common} title={t("lag")} series={node(view.loop_lag_ms)} show={ms} />
  </div>;
}
