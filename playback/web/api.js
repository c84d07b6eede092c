// The API as functions. A failed call throws a Problem whose message says what to change.

export const base = "/api/v1";

export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? `the server answered ${status}`);
    this.status = status;
    this.reason = body?.reason ?? "";
  }
}

let onLocked = () => {};
export const whenLocked = (call) => { onLocked = call; };

export async function ask(path, options = {}) {
  const answer = await fetch(base + path, { cache: "no-store", ...options });
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  let body = null;
  try { body = await answer.json(); } catch { /* not a problem document */ }
  if (answer.status === 401 && path !== "/session") onLocked();
  throw new Problem(answer.status, body);
}

export const openSession = (token) =>
  ask("/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });

export const streamPath = (name) => `/streams/${encodeURIComponent(name)}`;

const query = (values) => new URLSearchParams(values).toString();

export const clipUrl = (name, startMs, endMs, download = false) =>
  `${base}${streamPath(name)}/clip.mp4?${query({
    start: new Date(startMs).toISOString(), end: new Date(endMs).toISOString(), ...(download ? { download: "true" } : {}),
  })}`;

export const frameUrl = (name, atMs) =>
  `${base}${streamPath(name)}/frame.jpg${atMs === undefined ? "" : `?${query({ at: new Date(atMs).toISOString() })}`}`;

export const liveUrl = (name) =>
  `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${base}${streamPath(name)}/live`;

export const timeline = (name, startMs, endMs, resolutionS, signal) =>
  ask(`${streamPath(name)}/timeline?${query({
    start: new Date(startMs).toISOString(), end: new Date(endMs).toISOString(), resolution: String(resolutionS),
  })}`, { signal });

// When the first picture of a clip is, ms; throws the server's own words when there is none.
export async function clipStart(url) {
  const answer = await fetch(url, { headers: { Range: "bytes=0-0" }, cache: "no-store" });
  if (answer.status === 401) onLocked();
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => null));
  return Date.parse(answer.headers.get("Keyreel-Start")) + 1; // times here have ms, not µs: never before the picture
}
