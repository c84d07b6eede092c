// Moments as numbers: milliseconds since 1970 with a fraction, so that a microsecond of the API survives (2⁻¹² ms).
// Shown in the viewer's own zone, with its offset.

import { locale } from "./words";

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const two = (n: number) => String(n).padStart(2, "0");

/** RFC 3339 → ms; NaN when it is none. `Date.parse` would drop what is below a millisecond. */
export function parseTime(text: string | null | undefined): number {
  const match = /^(.{19})(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec(text ?? "");
  if (!match) return NaN;
  return Date.parse(`${match[1]}${match[3]}`) + Math.round(Number(`0${match[2] ?? ""}`) * 1e6) / 1e3;
}

/** ms → RFC 3339 in UTC with microseconds. */
export function formatTime(ms: number): string {
  const us = Math.round(ms * 1000);
  const whole = Math.floor(us / 1e6);
  return `${new Date(whole * 1000).toISOString().slice(0, 19)}.${String(us - whole * 1e6).padStart(6, "0")}Z`;
}

export function clock(ms: number, fraction = false): string {
  const d = new Date(Math.floor(ms));
  const time = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  return fraction ? `${time}.${String(d.getMilliseconds()).padStart(3, "0")}` : time;
}

export function day(ms: number): string {
  const d = new Date(ms);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
}

export const dayClock = (ms: number, fraction = false) => `${day(ms)} ${clock(ms, fraction)}`;

export function offset(ms: number): string {
  const minutes = -new Date(ms).getTimezoneOffset();
  const size = Math.abs(minutes);
  return `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

const UNITS: [number, string, string][] = [
  [DAY, "d", "ngày"], [HOUR, "h", "giờ"], [MINUTE, "min", "phút"], [SECOND, "s", "giây"], [1, "ms", "ms"],
];

/** A length in the largest unit that leaves at least two of it. */
export function lasting(ms: number): string {
  const [size, en, vi] = UNITS.find(([unit]) => Math.abs(ms) >= 2 * unit) ?? UNITS[4]!;
  const value = ms / size;
  const digits = value < 10 && size >= SECOND && Math.abs(value - Math.round(value)) > 0.05 ? 1 : 0;
  return `${value.toFixed(digits)} ${locale.value === "vi" ? vi : en}`;
}

/**
 * A typed time → ms: RFC 3339, "2026-11-25 22:04:54.120", "22:04:54" or "22:04" of the day of `near`,
 * "-30s", "+5m", "-2h" from `near`. NaN when it is none of these.
 */
export function readTime(typed: string, near: number): number {
  const text = typed.trim().replace(",", ".");
  const exact = parseTime(text.replace(" ", "T"));
  if (!Number.isNaN(exact)) return exact;
  const moved = /^([+-−])\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)$/.exec(text);
  if (moved) {
    const unit = { ms: 1, s: SECOND, m: MINUTE, min: MINUTE, h: HOUR, d: DAY }[moved[3]!]!;
    return near + (moved[1] === "+" ? 1 : -1) * Number(moved[2]) * unit;
  }
  const parts = /^(?:(\d{4})-(\d\d?)-(\d\d?)[ T])?(\d\d?):(\d\d)(?::(\d\d)(\.\d+)?)?$/.exec(text);
  if (!parts) return NaN;
  const base = new Date(near);
  const [year, month, date] = parts[1]
    ? [Number(parts[1]), Number(parts[2]) - 1, Number(parts[3])]
    : [base.getFullYear(), base.getMonth(), base.getDate()];
  const [hour, minute, second] = [Number(parts[4]), Number(parts[5]), Number(parts[6] ?? 0)];
  if (hour > 23 || minute > 59 || second > 59) return NaN;
  return new Date(year, month, date, hour, minute, second).getTime() + Number(parts[7] ?? 0) * 1000;
}
