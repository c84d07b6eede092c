// The page: which stream, live or a moment of the recording, and everything that shows it.
// Kept true: the address after # carries stream, moment and length, so a moment can be sent to somebody else.

import { ask, clipStart, clipUrl, openSession, streamPath, timeline as askTimeline, whenLocked } from "./api.js";
import { causeOf, clockTime, codecsOf, dayOf, dayTime, duration, fieldTime, lossOf, offsetOf, rate, reasonOf } from "./format.js";
import { LiveView } from "./live.js";
import { Stills } from "./stills.js";
import { Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const video = $("video");
const live = new LiveView(video);
const stills = new Stills($("still"));
const line = new Timeline($("timeline"), $("hover"));

const state = {
  streams: [], name: "", mode: "live", // live or recording
  start: 0, end: 0, // of the clip asked for, ms
  first: 0, url: "", // its first picture's time, and where it comes from
  skew: 0, // server clock minus ours, ms
};
const now = () => Date.now() + state.skew;
const current = () => state.streams.find((stream) => stream.id === state.name);

// --- streams

const TONES = { recording: "good", connecting: "wait", waiting: "wait", "backing-off": "bad", standby: "wait", unknown: "bad" };
const WORDS = { "backing-off": "no connection", recording: "recording", standby: "not recorded now", unknown: "recorder silent" };
const toneOf = (stream) => TONES[stream.state] ?? "off";
const wordOf = (stream) => WORDS[stream.state] ?? stream.state;

async function refreshStreams() {
  try {
    const answer = await ask("/streams");
    state.skew = Date.parse(answer.now) - Date.now();
    state.streams = answer.streams;
    const going = answer.streams.filter((stream) => stream.state === "recording").length;
    $("node").classList.toggle("bad", !answer.recorder.running);
    $("node").textContent = answer.recorder.running
      ? `${going} of ${answer.streams.length} streams recording`
      : "The recorder does not report. What is recorded can still be watched.";
    drawStreams();
    drawHead();
    if (!state.name && answer.streams.length) choose((answer.streams.find((stream) => stream.state === "recording" && canPlay(stream)) ?? answer.streams[0]).id);
  } catch (error) {
    $("node").classList.add("bad");
    $("node").textContent = error.status === 401 ? "Locked" : `No answer from the server: ${error.message}`;
  }
}

function drawStreams() {
  const list = $("streams");
  const wanted = $("filter").value.trim().toLowerCase();
  const shown = state.streams.filter((stream) => stream.id.toLowerCase().includes(wanted));
  $("empty").hidden = state.streams.length > 0;
  const items = new Map([...list.children].map((item) => [item.dataset.name, item]));
  shown.forEach((stream, index) => {
    const item = items.get(stream.id) ?? newItem(stream.id);
    items.delete(stream.id);
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    fillItem(item, stream);
  });
  for (const item of items.values()) item.remove();
}

function newItem(name) {
  const item = document.createElement("li");
  item.dataset.name = name;
  const button = document.createElement("button");
  button.type = "button";
  for (const part of ["dot", "name", "codec", "meta", "safe"]) {
    const span = document.createElement("span");
    span.className = part;
    button.append(span);
  }
  button.addEventListener("click", () => choose(name));
  item.append(button);
  return item;
}

function fillItem(item, stream) {
  const button = item.firstChild;
  const [dot, name, codec, meta, safe] = button.children;
  dot.className = `dot ${toneOf(stream)}`;
  name.textContent = stream.id;
  codec.textContent = codecsOf(stream)[0] ?? "";
  const recording = stream.state === "recording";
  meta.textContent = recording
    ? [rate(stream.bitrate_bps), lossOf(stream)].filter(Boolean).join(" · ")
    : [wordOf(stream), stream.state === "unknown" ? "" : reasonOf(stream.reason)].filter(Boolean).join(": ");
  safe.textContent = recording && stream.durable_until ? `safe ${clockTime(Date.parse(stream.durable_until))}` : "";
  safe.title = "Video before this time is on stable storage";
  button.setAttribute("aria-current", String(stream.id === state.name));
  button.title = stream.detail;
}

function drawHead() {
  const stream = current();
  if (!stream) return;
  document.title = `${stream.id} – Keyreel`;
  $("title").textContent = stream.id;
  $("state").hidden = false;
  $("state").className = `pill ${toneOf(stream)}`;
  $("state").textContent = wordOf(stream);
  const facts = [];
  facts.push(codecsOf(stream).join(" + "));
  if (stream.width) facts.push(`${stream.width} × ${stream.height}`);
  if (stream.state === "recording") facts.push(`${stream.frame_rate.toFixed(0)} fps`, rate(stream.bitrate_bps), lossOf(stream));
  else if (stream.detail || stream.reason) facts.push(stream.detail || reasonOf(stream.reason));
  line.set({ newest: Date.parse(stream.last_frame ?? "") || 0 });
  if (stream.durable_until) facts.push(`safe to ${clockTime(Date.parse(stream.durable_until))}`);
  $("facts").textContent = facts.filter(Boolean).join(" · ");
}

// --- what is on screen

const canPlay = (stream) => !stream?.mime || (window.MediaSource?.isTypeSupported(stream.mime) ?? false);

function note(text, alone = false) {
  $("note").hidden = !text;
  $("note").textContent = text;
  $("note").classList.toggle("alone", alone);
}

function badge(text, isLive = false) {
  $("badge").hidden = !text;
  $("badge").textContent = text;
  $("badge").classList.toggle("live", isLive);
}

function clearScreen() {
  state.url = "";
  live.stop();
  stills.stop();
  video.pause();
  video.removeAttribute("src");
  video.load();
  video.hidden = false;
  note("");
  badge("");
}

function choose(name) {
  if (state.name === name) return;
  const keep = state.mode === "recording" && state.start ? [state.start, state.end - state.start] : null;
  state.name = name;
  line.clear();
  drawStreams();
  drawHead();
  if (keep) playFrom(keep[0], keep[1]); else goLive();
  refreshTimeline();
}

function setMode(mode) {
  state.mode = mode;
  $("go-live").setAttribute("aria-pressed", String(mode === "live"));
  $("go-recording").setAttribute("aria-pressed", String(mode === "recording"));
  for (const id of ["back", "ahead"]) $(id).disabled = mode === "live";
}

const UNPLAYABLE = "This browser cannot play H.265, so single pictures are shown. A download plays in VLC, mpv or ffplay.";

function goLive() {
  clearScreen();
  setMode("live");
  state.start = state.end = 0;
  line.set({ selected: null, head: null });
  $("moment").textContent = "–";
  putAddress();
  drawDownload();
  const stream = current();
  if (!stream) return;
  if (canPlay(stream)) live.start(state.name);
  else liveStills();
}

function liveStills() {
  video.hidden = true;
  note(UNPLAYABLE);
  stills.live(state.name);
}

const CATCH_UP_MS = 5000;
const lengthMs = () => Number($("length").value) * 1000;

// Up to here clips never change; one that reached further would grow while it plays.
const safeUntil = () => Date.parse(current()?.durable_until ?? "") || now();

// Plays [at, at + length), as far as it is recorded.
function playFrom(at, length = lengthMs()) {
  clearScreen();
  setMode("recording");
  state.start = Math.floor(at / 1000) * 1000;
  state.end = Math.max(state.start + 1000, Math.min(state.start + length, safeUntil()));
  $("from").value = fieldTime(state.start);
  line.set({ selected: [state.start, state.end], head: state.start });
  if (state.start < line.start || state.end > line.end) {
    const span = Math.max(line.end - line.start, 2 * length);
    line.show(state.start - span / 2, state.start + span / 2);
  }
  putAddress();
  drawDownload();
  showMoment(state.start);
  showClip(clipUrl(state.name, state.start, state.end));
}

// The clip from its first picture on, which may come later than what was asked for.
async function showClip(url) {
  state.url = url;
  try {
    const first = await clipStart(url);
    if (state.url !== url) return;
    state.first = first;
  } catch (error) {
    if (state.url !== url) return;
    const gap = line.gapAt(state.start);
    const nothing = error.reason === "no-footage" ? "Nothing was recorded here. The timeline shows what there is." : error.message;
    note(gap ? `Nothing recorded here: ${causeOf(gap.cause)}.` : nothing, true);
    return;
  }
  showMoment(state.first);
  if (canPlay(current())) {
    video.src = url;
    video.play().catch(() => {});
  } else {
    video.hidden = true;
    note(UNPLAYABLE);
    stills.walk(state.name, state.first, state.end);
  }
}

function showMoment(ms) {
  $("moment").textContent = clockTime(ms);
  $("moment").title = `${dayTime(ms)} ${offsetOf(ms)}`;
  if (state.mode === "recording") line.set({ head: ms });
}

function drawDownload() {
  const link = $("download");
  const there = state.mode === "recording" && state.name;
  link.setAttribute("aria-disabled", String(!there));
  link.tabIndex = there ? 0 : -1;
  if (there) link.href = clipUrl(state.name, state.start, state.end, true);
  else link.removeAttribute("href");
}

function jump(seconds) {
  if (state.mode !== "recording") return;
  const moment = state.first + video.currentTime * 1000 + seconds * 1000;
  if (!canPlay(current())) playFrom((stills.at ?? state.start) + seconds * 1000);
  else if (moment < state.first || moment >= state.end) playFrom(moment);
  else video.currentTime += seconds;
}

function togglePlay() {
  if (!canPlay(current())) { stills.playing = !stills.moving; drawPlay(!stills.moving); return; }
  if (video.paused) video.play().catch(() => {}); else video.pause();
}

function drawPlay(paused) {
  $("play").textContent = paused ? "▶" : "❚❚";
}

live.addEventListener("state", ({ detail }) => {
  if (detail.state === "live") { note(""); badge("LIVE", true); } else {
    badge("");
    note(detail.text || "Waiting for the first picture…", !detail.text);
  }
});
live.addEventListener("unplayable", liveStills);
stills.addEventListener("shown", ({ detail }) => {
  note(UNPLAYABLE);
  showMoment(detail);
  badge(`Picture of ${clockTime(detail)}`);
});
stills.addEventListener("problem", ({ detail }) => note(detail));
stills.addEventListener("ended", goOn);

video.addEventListener("timeupdate", () => {
  if (!video.getAttribute("src")) return;
  if (state.mode === "recording") showMoment(state.first + video.currentTime * 1000);
  else if (live.moment) showMoment(live.moment);
});
video.addEventListener("play", () => drawPlay(false));
video.addEventListener("pause", () => drawPlay(true));
video.addEventListener("loadeddata", () => { if (state.mode === "recording") note(""); });
// At its end a clip goes on with the next one, and close to now with the live view.
function goOn() {
  if (state.mode !== "recording") return;
  if (state.end < safeUntil() - CATCH_UP_MS) playFrom(state.end); else goLive();
}
video.addEventListener("ended", goOn);
video.addEventListener("error", () => {
  if (state.mode === "recording" && video.getAttribute("src")) note("This clip stopped playing. Choose the moment again, or download it.", true);
});

// --- timeline

let asking = null;
async function refreshTimeline() {
  if (!state.name) return;
  asking?.abort();
  asking = new AbortController();
  const [start, end, name] = [line.start, line.end, state.name];
  const pixels = Math.max(200, $("timeline").clientWidth);
  try {
    const answer = await askTimeline(name, Math.max(0, start), end, (end - start) / 1000 / pixels, asking.signal);
    if (name !== state.name) return;
    line.take(answer);
    drawGaps();
    fitOnce();
  } catch (error) {
    if (error.name !== "AbortError" && name === state.name) { line.clear(); drawGaps(); }
  }
}

// A node that began a few minutes ago is shown a few minutes, not an empty hour; but only at first.
let fitted = false;
function fitOnce() {
  if (fitted) return;
  fitted = true;
  const first = line.data.spans[0]?.start ?? 0;
  if (state.mode === "live" && first > now() - 480_000) showHours(1 / 6);
}

function drawGaps() {
  const gaps = line.data.gaps;
  $("gap-count").textContent = gaps.length ? `${gaps.length} gap${gaps.length > 1 ? "s" : ""} in view` : "No gaps in view";
  $("gaps").replaceChildren(...gaps.slice(-200).reverse().map((gap) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${dayTime(gap.start)} · ${duration(gap.end - gap.start)} · ${causeOf(gap.cause)}${gap.packets ? `, ${gap.packets} packets` : ""}`;
    button.addEventListener("click", () => playFrom(Math.max(gap.start - 5000, 0)));
    item.append(button);
    return item;
  }));
}

let settle = 0;
line.addEventListener("view", () => {
  const same = dayOf(line.start) === dayOf(line.end);
  $("span").textContent = `${dayTime(line.start).slice(0, 16)} – ${(same ? clockTime(line.end) : dayTime(line.end)).slice(0, same ? 5 : 16)} ${offsetOf(line.end)}`;
  const hours = (line.end - line.start) / 3_600_000;
  for (const button of document.querySelectorAll("[data-hours]")) {
    button.setAttribute("aria-pressed", String(Math.abs(hours / Number(button.dataset.hours) - 1) < 0.02));
  }
  clearTimeout(settle);
  settle = setTimeout(refreshTimeline, 120);
});
line.addEventListener("choose", ({ detail }) => playFrom(Math.min(detail, now() - 1000)));

function showHours(hours) {
  const span = hours * 3_600_000;
  const middle = state.mode === "recording" ? state.start : now() + span * 0.02 - span / 2;
  line.show(middle - span / 2, middle + span / 2);
}

// --- address

function putAddress() {
  const values = new URLSearchParams({ stream: state.name });
  if (state.mode === "recording") {
    values.set("at", new Date(state.start).toISOString());
    values.set("s", $("length").value);
  }
  history.replaceState(null, "", `#${values}`);
}

function takeAddress() {
  const values = new URLSearchParams(location.hash.slice(1));
  const at = Date.parse(values.get("at") ?? "");
  const seconds = Number(values.get("s"));
  state.name = values.get("stream") ?? "";
  if (!state.name) return;
  if (Number.isFinite(at)) {
    if ([...$("length").options].some((option) => Number(option.value) === seconds)) $("length").value = String(seconds);
    playFrom(at);
  } else goLive();
  refreshTimeline();
}

// --- wiring

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  line.draw();
}
const stored = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
setTheme(stored ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"));
$("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  setTheme(theme);
  try { localStorage.setItem("theme", theme); } catch { /* private window */ }
});
$("filter").addEventListener("input", drawStreams);
$("go-live").addEventListener("click", goLive);
$("go-recording").addEventListener("click", () => {
  if (state.mode === "live") playFrom(Math.max(safeUntil() - lengthMs(), line.data.spans.at(-1)?.start ?? 0));
});
$("play").addEventListener("click", togglePlay);
$("back").addEventListener("click", () => jump(-10));
$("ahead").addEventListener("click", () => jump(10));
$("sound").addEventListener("click", () => {
  video.muted = !video.muted;
  $("sound").setAttribute("aria-pressed", String(!video.muted));
});
$("pick").addEventListener("submit", (event) => {
  event.preventDefault();
  playFrom(new Date($("from").value).getTime());
});
$("length").addEventListener("change", () => { if (state.mode === "recording") playFrom(state.start); });
for (const button of document.querySelectorAll("[data-hours]")) button.addEventListener("click", () => showHours(Number(button.dataset.hours)));
$("earlier").addEventListener("click", () => { const by = (line.end - line.start) / 2; line.show(line.start - by, line.end - by); });
$("later").addEventListener("click", () => { const by = (line.end - line.start) / 2; line.show(line.start + by, line.end + by); });
$("now").addEventListener("click", () => { const span = line.end - line.start; line.show(now() - span * 0.98, now() + span * 0.02); });
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, button, a, dialog, summary") || event.ctrlKey || event.metaKey || event.altKey) return;
  const acts = { " ": togglePlay, k: togglePlay, j: () => jump(-10), l: () => jump(10), ArrowLeft: () => jump(-5), ArrowRight: () => jump(5) };
  const act = acts[event.key];
  if (act) { event.preventDefault(); act(); }
});

whenLocked(() => { if (!$("login").open) $("login").showModal(); });
$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await openSession($("token").value);
    $("token").value = "";
    $("login-problem").textContent = "";
    $("login").close();
    await refreshStreams();
    if (state.mode === "recording") playFrom(state.start); else goLive();
    refreshTimeline();
  } catch (error) {
    $("login-problem").textContent = error.message;
  }
});

addEventListener("hashchange", takeAddress);
$("from").value = fieldTime(Date.now() - 120_000);
const tick = () => { $("clock").textContent = `${dayTime(now())} ${offsetOf(now())}`; };
tick();
setInterval(tick, 1000);
setInterval(() => { if (!document.hidden && !$("login").open) refreshStreams(); }, 2000);
setInterval(() => {
  const span = line.end - line.start;
  if (document.hidden || line.start > now()) return;
  if (state.mode === "live" && line.end < now() && line.end > now() - span / 4) line.show(now() - span * 0.98, now() + span * 0.02);
  else if (line.data.durable > line.start - 1 || line.end > now()) refreshTimeline();
  line.draw();
}, 4000);

await refreshStreams();
if (location.hash) takeAddress();
line.show(line.start, line.end);
