// The camera register: all cameras and how they are doing, to look for, to change, to add, to import, to test.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ask } from "../lib/api";
import { codecs, lossPercent, percent, rate } from "../lib/figures";
import { returned, streams } from "../lib/node";
import { href, route, tell } from "../lib/router";
import { stateOf, toneOf } from "../lib/terms";
import type { StreamView } from "../lib/types";
import { type Camera, type Group, groupOf, GROUPS, streamsOf } from "../lib/upkeep";
import { words } from "../lib/words";
import { CameraDialog } from "../parts/camera";
import { Importer } from "../parts/importer";
import { Rows } from "../parts/rows";
import { Strip, why } from "../parts/strip";
import "./upkeep.css";

const t = words({
  title: ["Cameras", "Camera"],
  none: ["No camera yet. Add one here, import many from CSV, or on the command line:", "Chưa có camera. Thêm ở đây, nhập từ CSV, hoặc bằng lệnh:"],
  nothing: ["No camera fits.", "Không có camera nào phù hợp."],
  loading: ["Loading…", "Đang tải…"],
  search: ["Search by name, note or address", "Tìm theo tên, ghi chú, địa chỉ"],
  add: ["Add", "Thêm"],
  import: ["Import CSV", "Nhập CSV"],
  show: ["Show", "Hiện"],
  all: ["All", "Tất cả"],
  recording: ["Recording", "Đang ghi"],
  trouble: ["In trouble", "Có vấn đề"],
  standby: ["Standing by", "Chờ lệnh"],
  off: ["Disabled", "Đã tắt"],
  camera: ["Camera", "Camera"],
  state: ["State", "Trạng thái"],
  day: ["Last 24 hours", "24 giờ qua"],
  made: ["Made of", "Định dạng"],
  rate: ["Rate", "Tốc độ"],
  loss: ["Loss", "Mất gói"],
  record: ["Record", "Ghi"],
  continuous: ["always", "luôn luôn"],
  demand: ["on demand", "khi cần"],
  change: ["Change", "Sửa"],
  watch: ["Watch {id}", "Xem {id}"],
  failed: ["The register cannot be read: {why}", "Không đọc được danh sách: {why}"],
});
const COLUMNS = ["camera", "state", "day", "made", "rate", "loss", "record"] as const;
const ROW_PX = 54;

interface Listed { camera: Camera; mine: StreamView[]; group: Group }

export function Cameras() {
  const cameras = useSignal<Camera[] | null>(null);
  const problem = useSignal("");
  const text = useSignal(route.peek().params.get("q") ?? "");
  const group = useSignal<Group>(GROUPS.find((one) => one === route.peek().params.get("state")) ?? "all");
  const open = useSignal<Camera | "new" | "import" | null>(null);
  const look = () => ask<{ cameras: Camera[] }>("/cameras").then(
    (found) => { cameras.value = found.cameras; problem.value = ""; },
    (error: Error) => { problem.value = error.message; },
  );
  const known = streams.value.length;
  useEffect(() => {
    void look().then(() => {
      const asked = route.peek().params.get("camera");
      if (asked && !open.peek()) open.value = cameras.peek()?.find((one) => one.id === asked) ?? null;
    });
  }, [returned.value, known]);
  const opened = open.value;
  useEffect(() => {
    tell("cameras", { q: text.value, state: group.value === "all" ? undefined : group.value, camera: opened && typeof opened === "object" ? opened.id : undefined });
  }, [text.value, group.value, opened]);

  const all: Listed[] = (cameras.value ?? []).map((camera) => {
    const mine = streamsOf.value.get(camera.id) ?? [];
    return { camera, mine, group: groupOf(camera, mine) };
  });
  const needle = text.value.trim().toLowerCase();
  const fits = ({ camera }: Listed) => !needle || [camera.id, camera.note, camera.main, camera.sub ?? ""].some((part) => part.toLowerCase().includes(needle));
  const found = all.filter(fits);
  const shown = group.value === "all" ? found : found.filter((one) => one.group === group.value);
  const done = (changed: boolean) => { open.value = null; if (changed) void look(); };

  return <section class="sheet fill">
    <div class="sheet-head"><h1>{t("title")}</h1>
      <input class="search" type="search" placeholder={t("search")} aria-label={t("search")} value={text.value} maxLength={200}
        onInput={(event) => { text.value = event.currentTarget.value; }} />
      <span class="spread" />
      <button type="button" onClick={() => { open.value = "import"; }}>{t("import")}</button>
      <button type="button" class="strong" onClick={() => { open.value = "new"; }}>{t("add")}</button></div>
    <div class="filters switch" role="group" aria-label={t("show")}>
      {GROUPS.map((one) => <button key={one} type="button" aria-pressed={group.value === one} onClick={() => { group.value = one; }}>
        {t(one)} <small>{one === "all" ? found.length : found.filter((row) => row.group === one).length}</small></button>)}
    </div>
    {problem.value && <p class="problem" role="alert">{t("failed", { why: problem.value })}</p>}
    {cameras.value === null && !problem.value && <p class="empty">{t("loading")}</p>}
    {cameras.value?.length === 0 && <p class="empty">{t("none")}<br /><code>keyreel camera add NAME rtsp://…</code></p>}
    {all.length > 0 && !shown.length && <p class="empty">{t("nothing")}</p>}
    {shown.length > 0 && <Rows label={t("title")} count={shown.length} height={ROW_PX} columns={COLUMNS.length + 1}
      head={<>{COLUMNS.map((key) => <th key={key} scope="col" class={`c-${key}`}>{t(key)}</th>)}<th scope="col"><span class="sr">{t("change")}</span></th></>}
      row={(index) => <Row key={shown[index]!.camera.id} listed={shown[index]!} index={index} onOpen={(camera) => { open.value = camera; }} />} />}
    {opened === "import" && <Importer onDone={done} />}
    {opened === "new" && <CameraDialog camera={null} onDone={done} />}
    {opened && typeof opened === "object" && <CameraDialog key={opened.id} camera={opened} onDone={done} />}
  </section>;
}

function Row({ listed: { camera, mine }, index, onOpen }: { listed: Listed; index: number; onOpen: (camera: Camera) => void }) {
  const main = mine[0];
  const sub = mine.find((stream) => stream !== main);
  const lost = main ? lossPercent(main) : null;
  const bits = mine.reduce((sum, stream) => sum + (stream.state === "recording" ? stream.bitrate_bps : 0), 0);
  return <tr aria-rowindex={index + 2} class="camera-row">
    <th scope="row" class="c-camera">{main ? <a href={href("playback", { streams: main.id })} aria-label={t("watch", { id: camera.id })}>{camera.id}</a> : camera.id}
      {camera.note && <small title={camera.note}>{camera.note}</small>}</th>
    <td class="c-state" title={main?.detail}><i class={`dot ${camera.enabled && main ? toneOf(main.state) : ""}`} />
      <span>{!camera.enabled ? t("off") : main ? told(main) : "–"}{camera.enabled && sub && sub.state !== main!.state ? ` (sub: ${told(sub)})` : ""}</span></td>
    <td class="c-day">{main && <Strip stream={main.id} />}</td>
    <td class="c-made">{main?.codec ? codecs(main) : "–"}{main?.width ? <small>{main.width} × {main.height}{sub ? ` + ${sub.width || "–"} × ${sub.height || "–"}` : ""}</small> : null}</td>
    <td class="c-rate figure">{bits ? rate(bits) : "–"}</td>
    <td class="c-loss figure">{lost === null ? "–" : percent(lost)}</td>
    <td class="c-record">{camera.record === "continuous" ? t("continuous") : camera.record === "demand" ? t("demand") : camera.schedule}</td>
    <td class="c-change"><button type="button" aria-label={`${t("change")} ${camera.id}`} onClick={() => onOpen(camera)}>{t("change")}</button></td>
  </tr>;
}

/** State and reason; who stands by needs none, who is recorded has one when he wants to be looked at all the same. */
function told(stream: StreamView): string {
  const state = stateOf(stream.state);
  return stream.reason && stream.state !== "standby" && stream.state !== "unknown" ? `${state}: ${why(stream.reason)}` : state;
}
