// Times, rates and sizes as people read them. Times are the viewer's own, with the offset named where it matters.

const two = (n) => String(n).padStart(2, "0");

export const clockTime = (ms) => {
  const d = new Date(ms);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
};

export const dayOf = (ms) => {
  const d = new Date(ms);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
};

export const dayTime = (ms) => `${dayOf(ms)} ${clockTime(ms)}`;

export const offsetOf = (ms) => {
  const minutes = -new Date(ms).getTimezoneOffset();
  const size = Math.abs(minutes);
  return `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
};

// The value of a datetime-local field.
export const fieldTime = (ms) => `${dayOf(ms)}T${clockTime(ms)}`;

export const iso = (ms) => new Date(ms).toISOString();

export const rate = (bps) =>
  bps >= 1e6 ? `${(bps / 1e6).toFixed(1)} Mbit/s` : bps > 0 ? `${Math.round(bps / 1e3)} kbit/s` : "–";

export const lossOf = (stream) => {
  const all = stream.packets + stream.lost_packets;
  if (!all) return "";
  const percent = (100 * stream.lost_packets) / all;
  if (!stream.lost_packets) return "no loss";
  return `${percent < 0.01 ? "<0.01" : percent.toFixed(2)} % lost`;
};

export const duration = (ms) => {
  const s = Math.round(ms / 1000);
  if (s < 1) return `${Math.round(ms)} ms`;
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${(s / 3600).toFixed(1)} h`;
  return `${(s / 86400).toFixed(1)} days`;
};

const CODECS = { aac: "AAC", pcma: "G.711 A", pcmu: "G.711 µ", opus: "Opus", l16: "L16" };

// "avc1.64001F+aac" or "h264" → ["H.264", "AAC"].
export const codecsOf = (stream) =>
  [...(stream.codec ?? "").split("+"), stream.audio]
    .filter(Boolean)
    .map((word) => (/^(avc|h264)/.test(word) ? "H.264" : /^(hvc|hev|h265)/.test(word) ? "H.265" : CODECS[word] ?? word));

const CAUSES = {
  offline: "camera not reachable", "no-media": "camera sent nothing", "packet-loss": "packets lost on the network",
  overload: "this node was overloaded", stopped: "recording was stopped", crash: "recorder or machine failed",
  damage: "stored video is damaged", clock: "a clock jumped", volume: "the disk failed",
  "not-wanted": "not to be recorded then", expired: "kept for as long as it was to be",
  undecodable: "nothing a decoder could start from",
};
export const causeOf = (word) => CAUSES[word] ?? "cause unknown";

const REASONS = {
  unreachable: "not reachable", timeout: "does not answer", unauthorized: "wrong user or password", "not-found": "no such path on the camera",
  forbidden: "camera refuses", "not-rtsp": "this is not an RTSP server", "too-large": "answer too large", protocol: "speaks RTSP wrongly",
  codec: "no track that can be recorded", tls: "TLS failed", "basic-refused": "camera wants Basic without TLS", ended: "camera ended the session",
  stalled: "camera sends nothing", refused: "camera refuses", "recorder-silent": "the recorder does not report", "not-recorded": "not recorded now",
};
export const reasonOf = (word) => REASONS[word] ?? word;
