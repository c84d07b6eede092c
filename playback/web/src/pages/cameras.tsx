// The camera register, with how each of its streams is doing.

import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { ask } from "../lib/api";
import { codecs, percent, lossPercent, rate } from "../lib/figures";
import { returned, streams } from "../lib/node";
import { href } from "../lib/router";
import { condition, toneOf } from "../lib/terms";
import { clock, parseTime } from "../lib/time";
import type { CameraView, StreamView } from "../lib/types";
import { words } from "../lib/words";

const t = words({
  title: ["Cameras", "Camera"],
  none: ["No camera yet. Add one with", "Chưa có camera. Thêm bằng lệnh"],
  camera: ["Camera", "Camera"],
  stream: ["Stream", "Luồng"],
  state: ["State", "Trạng thái"],
  made: ["Made of", "Định dạng"],
  rate: ["Rate", "Tốc độ"],
  loss: ["Loss", "Mất gói"],
  safe: ["Safe to", "An toàn đến"],
  failed: ["The register cannot be read: {why}", "Không đọc được danh sách: {why}"],
});

export function Cameras() {
  const cameras = useSignal<CameraView[] | null>(null);
  const problem = useSignal("");
  useEffect(() => {
    ask<{ cameras: CameraView[] }>("/cameras").then(
      (found) => { cameras.value = found.cameras; problem.value = ""; },
      (error: Error) => { problem.value = error.message; },
    );
  }, [returned.value]);
  return <section class="sheet">
    <h1>{t("title")}</h1>
    {problem.value && <p class="problem" role="alert">{t("failed", { why: problem.value })}</p>}
    {cameras.value?.length === 0 && <p class="empty">{t("none")}<br /><code>keyreel camera add NAME rtsp://…</code></p>}
    {(cameras.value?.length ?? 0) > 0 && <div class="scroll" tabIndex={0} role="region" aria-label={t("title")}><table class="table">
      <thead><tr>{(["camera", "stream", "state", "made", "rate", "loss", "safe"] as const).map((key) => <th key={key} scope="col">{t(key)}</th>)}</tr></thead>
      <tbody>{cameras.value!.flatMap((camera) => {
        const mine = streams.value.filter((stream) => stream.camera === camera.id);
        return mine.map((stream, index) => <Row key={stream.id} camera={camera} stream={stream} first={index === 0} />);
      })}</tbody>
    </table></div>}
  </section>;
}

function Row({ camera, stream, first }: { camera: CameraView; stream: StreamView; first: boolean }) {
  const lost = lossPercent(stream);
  return <tr>
    <th scope="row">{first ? <>{camera.id}{camera.note && <small>{camera.note}</small>}</> : ""}</th>
    <td><a href={href("playback", { streams: stream.id })}>{stream.quality}</a></td>
    <td title={stream.detail}><span class={`dot ${toneOf(stream.state)}`} /> {condition(stream)}</td>
    <td>{codecs(stream)}{stream.width ? <small>{stream.width} × {stream.height}</small> : null}</td>
    <td class="figure">{stream.state === "recording" ? rate(stream.bitrate_bps) : "–"}</td>
    <td class="figure">{lost === null ? "–" : percent(lost)}</td>
    <td class="figure">{stream.durable_until ? clock(parseTime(stream.durable_until)) : "–"}</td>
  </tr>;
}
