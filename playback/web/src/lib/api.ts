// The API as functions. A failed call throws a Problem whose message says, in the server's words, what to change.

import { formatTime } from "./time";

export const BASE = "/api/v1";

export class Problem extends Error {
  readonly status: number;
  readonly reason: string;
  readonly body: Record<string, unknown>;

  constructor(status: number, body: Record<string, unknown> | null) {
    super(typeof body?.detail === "string" ? body.detail : `the server answered ${status}`);
    this.status = status;
    this.reason = typeof body?.reason === "string" ? body.reason : "";
    this.body = body ?? {};
  }
}

let onLocked = () => {};
export const whenLocked = (call: () => void): void => { onLocked = call; };

/** fetch that throws a Problem for every answer that is not 2xx. */
export async function request(url: string, options: RequestInit = {}): Promise<Response> {
  const answer = await fetch(url, options);
  if (answer.ok) return answer;
  const body = await answer.json().then((found) => found as Record<string, unknown>, () => null);
  if (answer.status === 401 && !url.endsWith("/session")) onLocked();
  throw new Problem(answer.status, body);
}

export async function ask<T>(path: string, options: RequestInit = {}): Promise<T> {
  const answer = await request(BASE + path, { cache: "no-store", ...options });
  return (answer.status === 204 ? null : await answer.json()) as T;
}

export function send<T>(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  return ask<T>(path, {
    method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), ...(signal ? { signal } : {}),
  });
}

export const openSession = (token: string) => send<{ expires_in_s: number }>("POST", "/session", { token });

type Values = Record<string, string | number | boolean | undefined>;

function query(values: Values): string {
  const kept = Object.entries(values).filter((pair) => pair[1] !== undefined && pair[1] !== false);
  return kept.length ? `?${new URLSearchParams(kept.map(([key, value]) => [key, String(value)]))}` : "";
}

export const streamPath = (name: string) => `/streams/${encodeURIComponent(name)}`;

export const streamUrl = (name: string, call: string, values: Values = {}) =>
  `${BASE}${streamPath(name)}/${call}${query(values)}`;

export const clipUrl = (name: string, start: number, end: number, values: Values = {}) =>
  streamUrl(name, "clip.mp4", { start: formatTime(start), end: formatTime(end), ...values });

export const frameUrl = (name: string, at?: number, values: Values = {}) =>
  streamUrl(name, "frame.jpg", { ...(at === undefined ? {} : { at: formatTime(at) }), ...values });

export const socketUrl = (name: string, call: string, values: Values = {}) =>
  `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${streamUrl(name, call, values)}`;
