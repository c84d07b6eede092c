// What the node says of itself, asked every two seconds while somebody looks: the streams, the recorder, the time there.
// Kept true: one question at a time; when the server goes away everything known stays on screen, and `reach` says so.

import { computed, signal } from "@preact/signals";
import { ask, Problem } from "./api";
import { parseTime } from "./time";
import type { RecorderView, StreamsView, StreamView } from "./types";

const EVERY_MS = 2000;

export const streams = signal<StreamView[]>([]);
export const recorder = signal<RecorderView | null>(null);
export const reach = signal<"connecting" | "ok" | "lost" | "locked">("connecting");
export const trouble = signal("");
/** Goes up whenever the server answers again after it did not. */
export const returned = signal(0);
const skew = signal(0);

export const byName = computed(() => new Map(streams.value.map((stream) => [stream.id, stream])));
/** Those that are to be recorded, or are kept ready for it. */
export const enabled = computed(() => streams.value.filter((stream) => stream.state !== "disabled").length);
export const recording = computed(() => streams.value.filter((stream) => stream.state === "recording").length);

/** The node's stored time now: what pictures that come now are filed under. */
export const now = (): number => Date.now() + skew.peek();

/** A clock for what is drawn once a second. */
export const second = signal(Date.now());

let timer = 0;
let asking = false;

export async function refresh(): Promise<void> {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  try {
    const began = Date.now();
    const answer = await ask<StreamsView>("/streams", { signal: AbortSignal.timeout(10_000) });
    skew.value = parseTime(answer.now) - (began + Date.now()) / 2;
    streams.value = answer.streams;
    recorder.value = answer.recorder;
    if (reach.value === "lost" || reach.value === "locked") returned.value += 1;
    reach.value = "ok";
    trouble.value = "";
  } catch (error) {
    reach.value = error instanceof Problem && error.status === 401 ? "locked" : "lost";
    trouble.value = error instanceof Error ? error.message : String(error);
  } finally {
    asking = false;
    timer = window.setTimeout(() => void tick(), EVERY_MS);
  }
}

async function tick(): Promise<void> {
  if (document.hidden || reach.value === "locked") timer = window.setTimeout(() => void tick(), EVERY_MS);
  else await refresh();
}

export function startAsking(): void {
  void refresh();
  document.addEventListener("visibilitychange", () => { if (!document.hidden) void refresh(); });
  setInterval(() => { second.value = Date.now(); }, 1000);
}
