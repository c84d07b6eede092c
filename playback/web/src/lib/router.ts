// The address carries everything: page, streams, moment, zoom. It stands after #, so it never reaches a server's log.
// #/playback?streams=gate.main,yard.main&at=2026-11-25T15:04:54.120000Z&span=3600

import { signal } from "@preact/signals";

export const PAGES = ["wall", "playback", "cameras", "storage"] as const;
export type PageName = (typeof PAGES)[number];

export interface Route {
  page: PageName;
  params: URLSearchParams;
}

export function parseHash(hash: string): Route {
  const text = hash.replace(/^#\/?/, "");
  const [name = "", query = ""] = text.includes("=") && !text.includes("?") ? ["", text] : text.split("?");
  const params = new URLSearchParams(query);
  const old = params.get("stream"); // addresses of the page as it was: #stream=…&at=…
  if (old !== null && !name) {
    params.delete("stream");
    params.set("streams", old);
    return { page: params.has("at") ? "playback" : "wall", params };
  }
  return { page: PAGES.find((page) => page === name) ?? "wall", params };
}

export const route = signal<Route>(parseHash(location.hash));
addEventListener("hashchange", () => { route.value = parseHash(location.hash); });

export function href(page: PageName, params: Record<string, string | undefined> = {}): string {
  const kept = Object.entries(params).filter((pair): pair is [string, string] => Boolean(pair[1]));
  const query = kept.map(([key, value]) => `${key}=${encodeURIComponent(value).replaceAll("%2C", ",").replaceAll("%3A", ":")}`);
  return `#/${page}${query.length ? `?${query.join("&")}` : ""}`;
}

export function go(page: PageName, params: Record<string, string | undefined> = {}): void {
  location.hash = href(page, params);
}

/** Tells the address what is shown now, without a step in the history and without a new route. */
export function tell(page: PageName, params: Record<string, string | undefined>): void {
  const address = href(page, params);
  if (address !== location.hash) history.replaceState(null, "", address);
}

export function streamsAsked(params: URLSearchParams, most: number): string[] {
  return [...new Set((params.get("streams") ?? "").split(",").filter(Boolean))].slice(0, most);
}
