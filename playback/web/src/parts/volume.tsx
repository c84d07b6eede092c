// One volume: state, what is on it, for how long there is room, and how its scrubbing goes.

import { size } from "../lib/figures";
import { dayClock, lasting, parseTime, SECOND } from "../lib/time";
import type { VolumeView } from "../lib/types";
import type { ScrubView } from "../lib/upkeep";
import { locale, vocabulary, words } from "../lib/words";

const t = words({
  footage: ["Footage", "Bản ghi"],
  held: ["Held", "Giữ lại"],
  other: ["Other", "Khác"],
  free: ["Free", "Còn trống"],
  floor: ["Stays free", "Luôn để trống"],
  of: ["of {total}", "trên {total}"],
  ingest: ["Comes in", "Ghi vào"],
  streams: ["Streams", "Luồng"],
  sync: ["Last sync", "Lần đồng bộ cuối"],
  used: ["{percent} % of the volume is used", "Đã dùng {percent} % ổ"],
  fills: ["Fills in {n}; then the oldest footage makes room.", "Đầy sau {n}; khi đó bản ghi cũ nhất được xoá dần."],
  keeps: ["Keeps {n} of footage at this rate.", "Giữ được {n} bản ghi với tốc độ này."],
  costs: ["Holds cost {n} of that.", "Phần giữ lại chiếm {n}."],
  untold: ["How long there is room can be told when some more has been recorded.", "Sẽ biết còn chỗ bao lâu khi ghi thêm một lúc."],
  short: ["The guaranteed days of {n} streams do not fit.", "Không đủ chỗ cho số ngày cam kết của {n} luồng."],
  days: ["{n} days", "{n} ngày"],
  scrub: ["Read again", "Đọc lại"],
  turn: ["{bytes} in this turn, since {time}", "{bytes} trong lượt này, từ {time}"],
  last: ["last whole turn ended {time}: {bytes}", "lượt trọn gần nhất xong {time}: {bytes}"],
  damaged: ["{n} fragments are damaged", "{n} mảnh bị hỏng"],
});

const volumeState = vocabulary({
  ok: ["ok", "tốt"],
  suspect: ["does not answer", "không trả lời"],
  draining: ["takes no new footage", "không nhận bản ghi mới"],
  quarantined: ["failed", "hỏng"],
});

type Scrubbed = VolumeView & { scrub?: ScrubView | null };
const DAY_S = 86_400;

function days(value: number): string {
  if (value < 2) return lasting(value * DAY_S * SECOND);
  return t("days", { n: value.toLocaleString(locale.value === "vi" ? "vi-VN" : "en-GB", { maximumFractionDigits: value < 10 ? 1 : 0 }) });
}

function forecast(volume: VolumeView): string {
  if (volume.days_left === null && volume.days_kept === null) return t("untold");
  const parts = [];
  if (volume.days_left !== null && volume.days_left > 0) parts.push(t("fills", { n: days(volume.days_left) }));
  if (volume.days_kept !== null) parts.push(t("keeps", { n: days(volume.days_kept) }));
  if (volume.days_held) parts.push(t("costs", { n: days(volume.days_held) }));
  return parts.join(" ");
}

export function Volume({ volume }: { volume: Scrubbed }) {
  const total = volume.total_bytes || 1;
  const used = volume.total_bytes ? 1 - volume.free_bytes / total : 0;
  const footage = Math.min(volume.stored_bytes, total - volume.free_bytes) - volume.held_bytes;
  const other = Math.max(0, total - volume.free_bytes - volume.stored_bytes);
  const width = (bytes: number) => ({ width: `${Math.max(0, Math.min(100, (100 * bytes) / total))}%` });
  const parts: [string, string, number][] = [
    ["held", t("held"), volume.held_bytes], ["footage", t("footage"), Math.max(0, footage)], ["other", t("other"), other],
  ];
  const facts: [string, string][] = [
    [t("free"), `${size(volume.free_bytes)} ${t("of", { total: size(volume.total_bytes) })}`],
    [t("floor"), size(volume.floor_bytes)],
    [t("ingest"), `${size(volume.ingest_bytes_s)}/s`],
    [t("streams"), String(volume.streams)],
    [t("sync"), `${volume.last_sync_ms.toFixed(1)} ms`],
  ];
  return <article class="card">
    <h2><span class={`dot ${volume.state === "ok" ? "good" : volume.state === "quarantined" ? "bad" : "wait"}`} />
      <span>{volume.path}</span><small>{volumeState(volume.state)}</small></h2>
    {volume.detail && <p class="problem">{volume.detail}</p>}
    <div class="meter stacked" role="img" aria-label={t("used", { percent: Math.round(used * 100) })}>
      {parts.map(([name, , bytes]) => <i key={name} class={`meter-${name}`} style={width(bytes)} />)}
      <i class="meter-floor" style={width(volume.floor_bytes)} />
    </div>
    <p class="keys">{parts.map(([name, text, bytes]) => <span key={name}><i class={`k meter-${name}`} /> {text} <b class="figure">{size(bytes)}</b></span>)}</p>
    <p class="forecast">{forecast(volume)}</p>
    {volume.streams_short > 0 && <p class="problem">{t("short", { n: volume.streams_short })}</p>}
    <dl class="facts">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
    {volume.deleting_detail && <p class="problem">{volume.deleting_detail}</p>}
    {volume.scrub && <Scrub scrub={volume.scrub} />}
  </article>;
}

function Scrub({ scrub }: { scrub: ScrubView }) {
  const time = (text: string) => dayClock(parseTime(text)).slice(0, 16);
  const parts = [];
  if (scrub.running && scrub.started) parts.push(t("turn", { bytes: size(scrub.bytes), time: time(scrub.started) }));
  if (scrub.last_ended) parts.push(t("last", { bytes: size(scrub.last_bytes), time: time(scrub.last_ended) }));
  return <p class="hint scrub">{t("scrub")}: {parts.join("; ") || "–"}{scrub.detail && ` (${scrub.detail})`}
    {scrub.known_damage > 0 && <b class="problem"> {t("damaged", { n: scrub.known_damage })}</b>}</p>;
}
