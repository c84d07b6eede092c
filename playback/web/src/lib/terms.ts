// The API's short words as people say them: states, causes of absence, reasons.

import { vocabulary } from "./words";
import type { StreamView } from "./types";

export const causeOf = vocabulary({
  offline: ["camera not reachable", "không tới được camera"],
  "no-media": ["camera sent nothing", "camera không gửi gì"],
  "packet-loss": ["packets lost on the network", "mất gói trên mạng"],
  overload: ["this node was overloaded", "nút này quá tải"],
  stopped: ["recording was stopped", "đã dừng ghi"],
  crash: ["recorder or machine failed", "bộ ghi hoặc máy hỏng"],
  damage: ["stored video is damaged", "dữ liệu lưu bị hỏng"],
  clock: ["a clock jumped", "đồng hồ nhảy"],
  volume: ["the disk failed", "ổ đĩa hỏng"],
  "not-wanted": ["not to be recorded then", "không phải ghi lúc đó"],
  expired: ["kept for as long as it was to be", "đã hết hạn lưu"],
  undecodable: ["nothing a decoder could start from", "không có gì để giải mã"],
});

export const reasonOf = vocabulary({
  unreachable: ["not reachable", "không tới được"],
  timeout: ["does not answer", "không trả lời"],
  unauthorized: ["wrong user or password", "sai tên hoặc mật khẩu"],
  "not-found": ["no such path on the camera", "camera không có đường dẫn này"],
  forbidden: ["camera refuses", "camera từ chối"],
  "not-rtsp": ["this is not an RTSP server", "không phải máy chủ RTSP"],
  "too-large": ["answer too large", "câu trả lời quá lớn"],
  protocol: ["speaks RTSP wrongly", "nói RTSP sai"],
  codec: ["no track that can be recorded", "không có luồng ghi được"],
  tls: ["TLS failed", "TLS lỗi"],
  "basic-refused": ["camera wants Basic without TLS", "camera đòi Basic không TLS"],
  ended: ["camera ended the session", "camera đã kết thúc phiên"],
  stalled: ["camera sends nothing", "camera không gửi gì"],
  refused: ["camera refuses", "camera từ chối"],
  "recorder-silent": ["the recorder does not report", "bộ ghi không báo cáo"],
  "not-recorded": ["not recorded now", "hiện không ghi"],
});

export const stateOf = vocabulary({
  recording: ["recording", "đang ghi"],
  connecting: ["connecting", "đang kết nối"],
  waiting: ["waiting", "đang chờ"],
  "backing-off": ["no connection", "mất kết nối"],
  standby: ["standing by", "chờ lệnh ghi"],
  disabled: ["disabled", "đã tắt"],
  stopping: ["stopping", "đang dừng"],
  unknown: ["recorder silent", "bộ ghi im lặng"],
});

export type Tone = "good" | "wait" | "bad" | "off";
const TONES: Record<string, Tone> = {
  recording: "good", connecting: "wait", waiting: "wait", "backing-off": "bad", standby: "wait", unknown: "bad",
};
export const toneOf = (state: string): Tone => TONES[state] ?? "off";

/** State and, when it is not well, why. */
export function condition(stream: StreamView): string {
  const state = stateOf(stream.state);
  return stream.state === "recording" || stream.state === "unknown" || !stream.reason ? state : `${state}: ${reasonOf(stream.reason)}`;
}
