// What the pages Cameras and Storage ask of the API: the register, tests, history, alarms, reports.

import { computed } from "@preact/signals";
import { streams } from "./node";
import type { CameraView, RecorderView, StreamView } from "./types";
import { vocabulary } from "./words";

export interface Camera extends CameraView {
  allow_basic: boolean;
  tls_verify: boolean;
  pre_record_s: number;
}

export interface ImportRow { line: number; id: string; change: "add" | "change" | "same" | "exists" | "wrong"; fields: string[]; detail: string }

export interface ImportView {
  applied: boolean;
  register: number;
  added: number;
  changed: number;
  same: number;
  refused: number;
  rows: ImportRow[];
}

export interface TestView {
  ok: boolean;
  reason: string;
  detail: string;
  address: string;
  took_s: number;
  connected_s: number | null;
  playing_s: number | null;
  key_frame_s: number | null;
  key_frame_every_s: number | null;
  answers: { method: string; status: number; phrase: string }[];
  told: Record<string, string>;
  tracks: { kind: string; codec: string; clock_hz: number; channels: number; recorded: boolean }[];
  codec: string;
  codecs: string;
  width: number;
  height: number;
  frame_rate: number;
  frame_rate_told: number;
  bitrate_bps: number;
  frames: number;
  lost_packets: number;
  clock_offset_ms: number | null;
}

export interface StateView { time: string; state: string; reason: string }

export interface StatesView { start: string; end: string; streams: { stream: string; whole_from: string | null; states: StateView[] }[] }

export type Line = (number | null)[];

export interface HistoryView {
  now: string;
  start: string;
  step_s: number;
  count: number;
  ingest_bytes_s: Line;
  streams: Line;
  dropped_gops: Line;
  loop_lag_ms: Line;
  volumes: { id: string; path: string; write_bytes_s: Line; sync_ms: Line; queue_bytes: Line; free_bytes: Line }[];
}

export interface AlarmView {
  kind: string;
  level: "critical" | "warning";
  subject: string;
  count: number;
  since: string | null;
  reason: string;
  detail: string;
}

export interface AlarmsView { now: string; recorder: RecorderView; alarms: AlarmView[] }

export interface ScrubView {
  running: boolean;
  detail: string;
  started: string | null;
  chunks: number;
  bytes: number;
  damaged: number;
  known_damage: number;
  findings: number;
  last_ended: string | null;
  last_bytes: number;
  last_damaged: number;
}

export interface ReportsView {
  now: string;
  index: {
    whole: boolean; chunks_done: number; chunks_total: number; findings: number; renewals: number;
    made: string | null; why: string; verified: string | null;
  } | null;
  recoveries: {
    volume: string; path: string; time: string | null; done: boolean;
    torn: number; sealed: number; cut_bytes: number; aside: number; missed: number; failed: number;
  }[];
  damage: { volume: string; stream: string; start: string; end: string; bytes: number; what: string; found: string }[];
  unread: string[];
}

export const streamsOf = computed(() => {
  const found = new Map<string, StreamView[]>();
  for (const stream of streams.value) {
    const mine = found.get(stream.camera);
    if (mine) mine.push(stream);
    else found.set(stream.camera, [stream]);
  }
  for (const mine of found.values()) mine.sort((a, b) => (a.quality === "main" ? -1 : b.quality === "main" ? 1 : a.id < b.id ? -1 : 1));
  return found;
});

export const GROUPS = ["all", "recording", "trouble", "standby", "off"] as const;
export type Group = (typeof GROUPS)[number];

/** Where a camera belongs, by the worst of its streams. */
export function groupOf(camera: Camera, mine: StreamView[]): Exclude<Group, "all"> {
  if (!camera.enabled) return "off";
  if (mine.some((stream) => stream.state !== "recording" && stream.state !== "standby")) return "trouble";
  return mine.some((stream) => stream.state === "recording") ? "recording" : mine.length ? "standby" : "trouble";
}

export const conditionOf = vocabulary({
  recording: ["recording", "đang ghi"],
  standby: ["standing by", "chờ lệnh ghi"],
  waiting: ["connected, no pictures", "đã kết nối, chưa có hình"],
  offline: ["no connection", "mất kết nối"],
  paused: ["left out: overload", "tạm bỏ: quá tải"],
  removed: ["not to be recorded", "không phải ghi"],
  down: ["recorder not running", "bộ ghi không chạy"],
});

/** What `reasonOf` does not know: reasons of conditions and tests alone. */
export const whyOf = vocabulary({
  crash: ["it failed", "bị lỗi"],
  stopped: ["stopped in order", "dừng đúng cách"],
  connecting: ["being called", "đang gọi"],
  overload: ["overload", "quá tải"],
  "identity-changed": ["another device seems to answer", "có vẻ thiết bị khác trả lời"],
  undecodable: ["nothing a decoder could start from", "không có gì để giải mã"],
  "signature-stopped": ["it no longer signs its pictures", "camera không còn ký hình"],
  "not-wanted": ["not to be recorded now", "lúc này không phải ghi"],
  "no-key-frame": ["it plays, but no key frame came", "có phát nhưng không có khung khoá"],
  "refused-address": ["this address may not be called", "không được phép gọi địa chỉ này"],
  "bad-camera": ["the address is wrong", "địa chỉ sai"],
  clock: ["the clock is not trusted", "đồng hồ không tin cậy"],
  unsynced: ["not synchronised", "chưa đồng bộ"],
  "not-set": ["not set", "chưa chỉnh"],
  ahead: ["stored time is ahead", "giờ lưu đi trước"],
  "step-not-followed": ["it jumped too far to be followed", "nhảy quá xa"],
  stepped: ["it jumped", "vừa nhảy"],
  missing: ["not there", "không có ở đó"],
  eio: ["the disk fails", "ổ đĩa lỗi"],
  enospc: ["full", "đầy"],
  readonly: ["read-only", "chỉ đọc được"],
  hung: ["does not answer", "không trả lời"],
  opening: ["being opened", "đang mở"],
  format: ["of another format", "khác định dạng"],
  disk: ["disk too slow", "ổ đĩa quá chậm"],
  cpu: ["not enough CPU", "thiếu CPU"],
  internal: ["the test failed", "phép thử bị lỗi"],
});
