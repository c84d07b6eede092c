// Rates, sizes and codecs as people read them.

import { locale } from "./words";
import type { StreamView } from "./types";

const number = (value: number, digits: number) =>
  value.toLocaleString(locale.value === "vi" ? "vi-VN" : "en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const rate = (bps: number): string =>
  bps >= 1e6 ? `${number(bps / 1e6, 1)} Mbit/s` : bps > 0 ? `${number(bps / 1e3, 0)} kbit/s` : "–";

export function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let at = 0;
  let value = bytes;
  while (value >= 1000 && at < units.length - 1) { value /= 1000; at += 1; }
  return `${number(value, at && value < 100 ? 1 : 0)} ${units[at]}`;
}

/** Lost packets in percent of those sent; null before there are any. */
export function lossPercent(stream: StreamView): number | null {
  const all = stream.packets + stream.lost_packets;
  return all ? (100 * stream.lost_packets) / all : null;
}

export const percent = (value: number): string => value === 0 ? "0 %" : value < 0.01 ? "<0.01 %" : `${number(value, value < 1 ? 2 : 1)} %`;

const SOUND: Record<string, string> = { aac: "AAC", pcma: "G.711 A", pcmu: "G.711 µ", opus: "Opus", l16: "L16" };

/** "h264", "avc1.64001F+aac" → "H.264 + AAC". */
export function codecs(stream: StreamView): string {
  const names = [...stream.codec.split("+"), stream.audio].filter(Boolean);
  const told = names.map((name) => /^(avc|h264)/.test(name) ? "H.264" : /^(hvc|hev|h265)/.test(name) ? "H.265" : SOUND[name] ?? name);
  return [...new Set(told)].join(" + ");
}

export const playable = (mime: string): boolean => !mime || (window.MediaSource?.isTypeSupported(mime) ?? false);
