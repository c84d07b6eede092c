// The wall: up to sixteen live streams. What it shows stands in the address; named layouts stay in this browser.

import { computed, useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect } from "preact/hooks";
import { LiveTile } from "../live/tile";
import { useArranged } from "../lib/columns";
import { playable } from "../lib/figures";
import { remember, remembered } from "../lib/memory";
import { reach, streams } from "../lib/node";
import { go, href, route, streamsAsked, tell } from "../lib/router";
import { words } from "../lib/words";
import { Picker } from "../parts/picker";

const MOST = 16;

const t = words({
  streams: ["Streams", "Luồng"],
  layouts: ["Layouts", "Bố cục"],
  unsaved: ["Layout…", "Bố cục…"],
  save: ["Save layout", "Lưu bố cục"],
  remove: ["Forget layout", "Bỏ bố cục"],
  name: ["Name of the layout", "Tên bố cục"],
  none: ["No camera yet. Add one with", "Chưa có camera. Thêm bằng lệnh"],
  choose: ["Choose streams to watch.", "Chọn luồng để xem."],
  enlarge: ["Enlarge {stream}", "Phóng to {stream}"],
  shrink: ["Back to all", "Về tất cả"],
  recording: ["Recording of {stream}", "Bản ghi của {stream}"],
  playback: ["Play back", "Xem lại"],
  tile: ["{stream}, {n} of {all}. Alt and arrows move it.", "{stream}, {n}/{all}. Alt và phím mũi tên để di chuyển."],
  sound: ["Sound", "Âm thanh"],
  full: ["Full screen", "Toàn màn hình"],
});

/** One stream of each camera that can play: the small one when there are many. */
const usual = computed(() => {
  const cameras = new Map<string, string[]>();
  for (const stream of streams.value) cameras.set(stream.camera, [...(cameras.get(stream.camera) ?? []), stream.id]);
  const many = cameras.size > 4;
  const known = new Map(streams.value.map((stream) => [stream.id, stream]));
  return [...cameras.values()].map((ids) => {
    const main = ids.find((id) => id.endsWith(".main")) ?? ids[0]!;
    const sub = ids.find((id) => id.endsWith(".sub"));
    return sub && (many || !playable(known.get(main)!.mime)) ? sub : main;
  }).slice(0, MOST);
});

export function Wall() {
  const params = route.value.params;
  const focus = params.get("focus") ?? "";
  const asked = streamsAsked(params, MOST);
  const shown = asked.length || params.has("streams") ? asked : usual.value;
  const picking = useSignal(false);
  const dragged = useSignal("");
  const sound = useSignal(false);
  const layouts = useSignal(remembered<Record<string, string[]>>("layouts", {}));
  const layout = Object.keys(layouts.value).find((name) => layouts.value[name]!.join() === shown.join()) ?? "";
  const tiles = focus ? [focus] : shown;
  const grid = useArranged<HTMLUListElement>(tiles.length);

  const show = (names: string[], on = "") => go("wall", { streams: names.join(",") || ",", focus: on });
  const keep = (next: Record<string, string[]>) => { layouts.value = next; remember("layouts", next); };
  const swap = (one: string, other: string) => show(shown.map((name) => name === one ? other : name === other ? one : name));
  const move = (name: string, by: number) => {
    const at = shown.indexOf(name) + by;
    if (shown[at]) swap(name, shown[at]);
  };
  useLayoutEffect(() => {
    const back = (event: KeyboardEvent) => { if (event.key === "Escape" && focus) show(shown); };
    addEventListener("keydown", back);
    return () => removeEventListener("keydown", back);
  }, [focus, shown.join()]);
  useEffect(() => { if (shown.length && !focus) tell("wall", { streams: shown.join(",") }); }, [shown.join(), focus]);

  if (!streams.value.length && reach.value === "ok") {
    return <p class="empty">{t("none")}<br /><code>keyreel camera add NAME rtsp://…</code></p>;
  }
  return <div class="wall">
    <div class="tools">
      <button type="button" aria-expanded={picking.value} aria-controls="picker" onClick={() => { picking.value = !picking.value; }}>{t("streams")}</button>
      <select aria-label={t("layouts")} value={layout} onChange={(event) => {
        const chosen = layouts.value[event.currentTarget.value];
        if (chosen) show(chosen);
      }}>
        <option value="">{t("unsaved")}</option>
        {Object.keys(layouts.value).sort().map((name) => <option key={name} value={name}>{name}</option>)}
      </select>
      {layout
        ? <button type="button" onClick={() => { const { [layout]: _, ...rest } = layouts.value; keep(rest); }}>{t("remove")}</button>
        : <button type="button" disabled={!shown.length} onClick={() => {
          const name = prompt(t("name"))?.trim().slice(0, 60);
          if (name) keep({ ...layouts.value, [name]: shown });
        }}>{t("save")}</button>}
      <span class="spread" />
      {focus && <button type="button" aria-pressed={sound.value} onClick={() => { sound.value = !sound.value; }}>{t("sound")}</button>}
      {focus && <button type="button" onClick={() => show(shown)}>{t("shrink")}</button>}
      <a class="button" href={href("playback", { streams: tiles.join(",") })}>{t("playback")}</a>
      <button type="button" onClick={() => void document.querySelector(".grid")?.requestFullscreen()}>{t("full")}</button>
    </div>
    <div class="wall-body">
      {picking.value && <Picker most={MOST} chosen={shown} onChange={(names) => show(names)} onClose={() => { picking.value = false; }} />}
      {tiles.length === 0 && reach.value === "ok" && <p class="empty">{t("choose")}</p>}
      <ul class="grid" ref={grid.box} style={grid.style}>
        {tiles.map((name, index) => <li key={name} class={`tile${dragged.value && dragged.value !== name ? " target" : ""}`} draggable={!focus}
          tabIndex={0} aria-label={t("tile", { stream: name, n: index + 1, all: tiles.length })}
          onDragStart={(event) => { dragged.value = name; event.dataTransfer?.setData("text/plain", name); }}
          onDragEnd={() => { dragged.value = ""; }}
          onDragOver={(event) => { if (dragged.value) event.preventDefault(); }}
          onDrop={(event) => { event.preventDefault(); if (dragged.value && dragged.value !== name) swap(dragged.value, name); dragged.value = ""; }}
          onKeyDown={(event) => {
            if (event.target !== event.currentTarget) return;
            const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns }[event.key];
            if (by && event.altKey) { event.preventDefault(); move(name, by); }
            if (event.key === "Enter") show(shown, focus ? "" : name);
          }}>
          <LiveTile stream={name} sound={focus === name && sound.value}>
            <button class="cover" type="button" tabIndex={-1} aria-label={focus ? t("shrink") : t("enlarge", { stream: name })}
              onClick={() => show(shown, focus ? "" : name)} />
            <a class="corner" href={href("playback", { streams: name })} title={t("recording", { stream: name })} aria-label={t("recording", { stream: name })}>↺</a>
          </LiveTile>
        </li>)}
      </ul>
    </div>
  </div>;
}
