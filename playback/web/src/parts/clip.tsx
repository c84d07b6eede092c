// The marked range: how long and large it is, download as MP4 with its progress, and a hold.

import { type Signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { clipUrl, request, send } from "../lib/api";
import { size } from "../lib/figures";
import { remember, remembered } from "../lib/memory";
import { clock, dayClock, formatTime, lasting } from "../lib/time";
import type { HoldView } from "../lib/types";
import { words } from "../lib/words";
import type { TimelineData } from "../timeline/data";
import type { Marks } from "../timeline/timeline";

const IN_MEMORY_MAX = 256e6; // what is larger the browser saves by itself, and shows its own progress
const SETTLE_MS = 300;

const t = words({
  hint: ["Mark In and Out (I, O) to cut a clip.", "Đánh dấu Đầu và Cuối (I, O) để cắt đoạn."],
  clip: ["Clip", "Đoạn cắt"],
  range: ["{start} – {end} · {length}", "{start} – {end} · {length}"],
  download: ["Download", "Tải về"],
  downloadOf: ["Download {stream}", "Tải {stream}"],
  cancel: ["Cancel", "Huỷ"],
  clear: ["Clear marks", "Bỏ dấu"],
  hold: ["Hold…", "Giữ lại…"],
  holdTitle: ["Keep this range from being deleted", "Giữ đoạn này không bị xoá"],
  owner: ["Who", "Ai"], reason: ["Why", "Vì sao"], case: ["Case number", "Số hồ sơ"],
  place: ["Place the hold", "Đặt giữ"],
  placed: ["Hold {id} is placed.", "Đã đặt giữ số {id}."],
  nothing: ["nothing recorded in it", "không có bản ghi"],
});

interface Cut { marks: Signal<Marks>; streams: string[]; head: Signal<number | null>; data: TimelineData }

export function ClipPanel({ marks, streams, data }: Cut) {
  const { start, end } = marks.value;
  const holding = useSignal(false);
  if (start === null || end === null) {
    return <p class="clip hint">{start === null && end === null ? t("hint")
      : `${clock((start ?? end)!, true)} · ${t("hint")}`}</p>;
  }
  return <section class="clip" aria-label={t("clip")}>
    <b>{t("range", { start: dayClock(start), end: clock(end), length: lasting(end - start) })}</b>
    <span class="hint">{t("download")}</span>
    {streams.map((stream) => <Download key={`${stream} ${start} ${end}`} stream={stream} start={start} end={end} />)}
    <button type="button" title={t("holdTitle")} aria-expanded={holding.value} onClick={() => { holding.value = !holding.value; }}>{t("hold")}</button>
    <button type="button" class="quiet" onClick={() => { marks.value = { start: null, end: null }; holding.value = false; }}>{t("clear")}</button>
    {holding.value && <HoldForm streams={streams} start={start} end={end} onPlaced={() => void data.loadHolds()} />}
  </section>;
}

/** How many bytes the clip has; null when nothing is recorded in it. */
async function sizeOf(url: string, signal: AbortSignal): Promise<number | null> {
  const answer = await fetch(url, { method: "HEAD", signal });
  return answer.ok ? Number(answer.headers.get("Content-Length")) : null;
}

function Download({ stream, start, end }: { stream: string; start: number; end: number }) {
  const bytes = useSignal<number | null | undefined>(undefined);
  const done = useSignal<number | null>(null);
  const problem = useSignal("");
  const running = useSignal<AbortController | null>(null);
  const url = clipUrl(stream, start, end, { download: true });
  useEffect(() => {
    const ending = new AbortController();
    const timer = setTimeout(() => void sizeOf(url, ending.signal).then((found) => { bytes.value = found; }, () => {}), SETTLE_MS);
    return () => { clearTimeout(timer); ending.abort(); };
  }, [url]);
  useEffect(() => () => running.peek()?.abort(), []);
  if (bytes.value === null) return <span class="hint">{stream}: {t("nothing")}</span>;
  const large = (bytes.value ?? Infinity) > IN_MEMORY_MAX;
  const begin = (event: MouseEvent) => {
    if (large) return;
    event.preventDefault();
    const ending = running.value = new AbortController();
    problem.value = "";
    fetchFile(url, ending.signal, (count) => { done.value = count; })
      .catch((error: Error) => { if (!ending.signal.aborted) problem.value = error.message; })
      .finally(() => { running.value = null; done.value = null; });
  };
  if (running.value) {
    return <span class="progress"><progress max={bytes.value ?? 1} value={done.value ?? 0} aria-label={t("downloadOf", { stream })} />
      {size(done.value ?? 0)} / {size(bytes.value ?? 0)}
      <button type="button" class="quiet" onClick={() => running.value?.abort()}>{t("cancel")}</button></span>;
  }
  return <a class="button download" href={url} download="" onClick={begin} data-stream={stream} title={t("downloadOf", { stream })}>
    {stream}{bytes.value !== undefined && <small>{size(bytes.value)}</small>}
    {problem.value && <small class="problem">{problem.value}</small>}
  </a>;
}

/** Fetches a file with its progress, and hands it to the browser to save; fewer bytes than promised are an error. */
async function fetchFile(url: string, signal: AbortSignal, tell: (count: number) => void): Promise<void> {
  const answer = await request(url, { signal });
  const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "clip.mp4";
  const promised = Number(answer.headers.get("Content-Length"));
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let count = 0;
  const reader = answer.body!.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    count += part.value.byteLength;
    tell(count);
  }
  if (count !== promised) throw new Error(`${count} of ${promised} bytes came`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type: "video/mp4" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function HoldForm({ streams, start, end, onPlaced }: { streams: string[]; start: number; end: number; onPlaced: () => void }) {
  const told = useSignal("");
  const problem = useSignal("");
  const place = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(form.get(name) ?? "").trim();
    remember("owner", text("owner"));
    try {
      const hold = await send<HoldView>("POST", "/holds", {
        streams, start: formatTime(start), end: formatTime(end), owner: text("owner"), reason: text("reason"), case: text("case"),
      });
      told.value = t("placed", { id: hold.id });
      problem.value = "";
      onPlaced();
    } catch (error) {
      problem.value = error instanceof Error ? error.message : String(error);
    }
  };
  return <form class="hold" onSubmit={(event) => void place(event)}>
    <label>{t("owner")} <input name="owner" required maxLength={200} value={remembered("owner", "")} /></label>
    <label>{t("reason")} <input name="reason" required maxLength={1000} /></label>
    <label>{t("case")} <input name="case" maxLength={200} /></label>
    <button class="strong" type="submit">{t("place")}</button>
    <span role="status">{told.value}</span>
    {problem.value && <span class="problem" role="alert">{problem.value}</span>}
  </form>;
}
