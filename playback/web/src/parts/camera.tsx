// One camera: what is registered of it, what it answers when it is called, and how it came and went.

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { ask, Problem, send } from "../lib/api";
import { rate } from "../lib/figures";
import { refresh } from "../lib/node";
import { href } from "../lib/router";
import { DAY, lasting } from "../lib/time";
import { type Camera, streamsOf, type TestView } from "../lib/upkeep";
import { words } from "../lib/words";
import { Conditions, Strip, why } from "./strip";

const t = words({
  add: ["Add a camera", "Thêm camera"],
  close: ["Close", "Đóng"],
  id: ["Name", "Tên"],
  taken: ["{id} is registered already; choose another name, or change that one", "{id} đã được đăng ký; hãy chọn tên khác hoặc sửa camera đó"],
  idHint: ["a–z, 0–9, _ and -", "a–z, 0–9, _ và -"],
  main: ["Address", "Địa chỉ"],
  mainHint: ["rtsp://user:password@host/path", "rtsp://tên:mật-khẩu@máy/đường-dẫn"],
  kept: ["*** keeps the password as long as host, port and scheme stay.", "*** giữ mật khẩu khi máy, cổng và giao thức không đổi."],
  sub: ["Second stream (smaller picture)", "Luồng phụ (hình nhỏ hơn)"],
  transport: ["Transport", "Vận chuyển"],
  record: ["Record", "Ghi"],
  continuous: ["always", "luôn luôn"],
  scheduled: ["by schedule", "theo lịch"],
  demand: ["on demand", "khi cần"],
  schedule: ["Schedule", "Lịch"],
  pre: ["Seconds kept from before", "Số giây giữ trước đó"],
  priority: ["When the node cannot keep up", "Khi nút không kịp ghi"],
  low: ["goes first", "bỏ trước"],
  normal: ["normal", "bình thường"],
  high: ["stays to the last", "giữ đến cuối"],
  note: ["Note", "Ghi chú"],
  enabled: ["record this camera", "ghi camera này"],
  verify: ["check its certificate (rtsps)", "kiểm tra chứng chỉ (rtsps)"],
  basic: ["send the password in clear if it asks so", "gửi mật khẩu không mã hoá nếu bị đòi"],
  save: ["Save", "Lưu"],
  saving: ["Saving…", "Đang lưu…"],
  test: ["Test connection", "Thử kết nối"],
  testing: ["Calling the camera…", "Đang gọi camera…"],
  remove: ["Remove", "Xoá"],
  sure: ["Stop recording {id}? Its footage stays.", "Ngừng ghi {id}? Bản ghi vẫn còn."],
  yes: ["Yes, remove", "Có, xoá"],
  no: ["Keep it", "Giữ lại"],
  history: ["The last seven days", "Bảy ngày qua"],
  watch: ["Watch", "Xem"],
  good: ["It answers, and pictures come", "Camera trả lời và có hình"],
  bad: ["It cannot be recorded so", "Không ghi được như vậy"],
  answers: ["Answers", "Trả lời"],
  tracks: ["Tracks", "Luồng tin"],
  picture: ["Picture", "Hình"],
  first: ["First key frame", "Khung khoá đầu"],
  after: ["after {n} s", "sau {n} giây"],
  every: ["every {n} s", "mỗi {n} giây"],
  long: ["the next took longer than the test", "khung sau lâu hơn phép thử"],
  clock: ["Its clock", "Đồng hồ camera"],
  ahead: ["{n} ahead of the node", "nhanh hơn nút {n}"],
  behind: ["{n} behind the node", "chậm hơn nút {n}"],
  equal: ["as the node's", "khớp với nút"],
  untold: ["not told", "không cho biết"],
  loss: ["Packets lost", "Gói bị mất"],
  says: ["Says of itself", "Tự giới thiệu"],
  took: ["Took", "Mất"],
  ignored: ["not recorded", "không ghi"],
});

type Fields = Omit<Camera, "demanded_until">;
const FRESH: Fields = {
  id: "", main: "", sub: null, transport: "tcp", allow_basic: false, tls_verify: true, enabled: true, note: "",
  record: "continuous", schedule: "", pre_record_s: 0, priority: "normal",
};
const NAMES = Object.keys(FRESH) as (keyof Fields)[];

function only(camera: Fields): Fields {
  return Object.fromEntries(NAMES.map((name) => [name, camera[name]])) as unknown as Fields;
}

/** `camera` null adds one. `onDone` is told whether the register changed. */
export function CameraDialog({ camera, onDone }: { camera: Camera | null; onDone: (changed: boolean) => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const fields = useSignal<Fields>(camera ? only(camera) : FRESH);
  const problem = useSignal("");
  const busy = useSignal(false);
  const asked = useSignal(false);
  useEffect(() => { dialog.current?.showModal(); }, []);
  const put = (change: Partial<Fields>) => { fields.value = { ...fields.value, ...change }; };

  const attempt = async (call: () => Promise<unknown>) => {
    busy.value = true;
    problem.value = "";
    try {
      await call();
      await refresh();
      onDone(true);
    } catch (error) {
      problem.value = error instanceof Error ? error.message : String(error);
      busy.value = false;
    }
  };
  const save = () => attempt(async () => {
    const now = { ...fields.value, schedule: fields.value.record === "schedule" ? fields.value.schedule : "" };
    if (!camera) {
      const taken = await ask(`/cameras/${encodeURIComponent(now.id)}`).then(() => true, (error: unknown) => {
        if (error instanceof Problem && error.status === 404) return false;
        throw error;
      });
      if (taken) throw new Error(t("taken", { id: now.id }));
      return send("POST", "/cameras", now);
    }
    const changed = NAMES.filter((name) => name !== "id" && now[name] !== camera[name]);
    return send("PATCH", `/cameras/${encodeURIComponent(camera.id)}`, Object.fromEntries(changed.map((name) => [name, now[name]])));
  });
  const remove = () => attempt(() => ask("/cameras/" + encodeURIComponent(camera!.id), { method: "DELETE" }));
  const value = fields.value;

  return <dialog ref={dialog} class="wide" aria-labelledby="camera-title" onCancel={(event) => { event.preventDefault(); onDone(false); }}>
    <header><h2 id="camera-title">{camera ? camera.id : t("add")}</h2>
      <button type="button" class="quiet" onClick={() => onDone(false)} aria-label={t("close")}>✕</button></header>
    <form autocomplete="off" onSubmit={(event) => { event.preventDefault(); void save(); }}>
      {!camera && <Field label={t("id")} hint={t("idHint")}><input name="id" required maxLength={63} pattern="[a-z0-9][a-z0-9_\-]*" value={value.id}
        onInput={(event) => put({ id: event.currentTarget.value })} /></Field>}
      <Field label={t("main")} hint={camera?.main.includes("***") ? t("kept") : t("mainHint")}>
        <input name="main" required maxLength={2048} spellcheck={false} value={value.main} onInput={(event) => put({ main: event.currentTarget.value.trim() })} /></Field>
      <Field label={t("sub")}><input name="sub" maxLength={2048} spellcheck={false} value={value.sub ?? ""}
        onInput={(event) => put({ sub: event.currentTarget.value.trim() || null })} /></Field>
      <div class="pair">
        <Choice label={t("transport")} name="transport" value={value.transport} options={[["tcp", "TCP"], ["udp", "UDP"]]} onPick={(transport) => put({ transport })} />
        <Choice label={t("record")} name="record" value={value.record} onPick={(record) => put({ record })}
          options={[["continuous", t("continuous")], ["schedule", t("scheduled")], ["demand", t("demand")]]} />
        <Choice label={t("priority")} name="priority" value={value.priority} onPick={(priority) => put({ priority })}
          options={[["low", t("low")], ["normal", t("normal")], ["high", t("high")]]} />
        {value.record === "schedule" && <Field label={t("schedule")} hint="mon-fri 07:00-19:00; sat 09:00-12:00">
          <input name="schedule" required maxLength={500} value={value.schedule} onInput={(event) => put({ schedule: event.currentTarget.value })} /></Field>}
        {value.record !== "continuous" && <Field label={t("pre")}><input name="pre_record_s" type="number" min={0} max={60} value={value.pre_record_s}
          onInput={(event) => put({ pre_record_s: Number(event.currentTarget.value) })} /></Field>}
      </div>
      <Field label={t("note")}><input name="note" maxLength={1000} value={value.note} onInput={(event) => put({ note: event.currentTarget.value })} /></Field>
      <div class="checks">
        <Check label={t("enabled")} name="enabled" on={value.enabled} onPick={(enabled) => put({ enabled })} />
        <Check label={t("verify")} name="tls_verify" on={value.tls_verify} onPick={(tls_verify) => put({ tls_verify })} />
        <Check label={t("basic")} name="allow_basic" on={value.allow_basic} onPick={(allow_basic) => put({ allow_basic })} />
      </div>
      <p class="problem" role="alert">{problem.value}</p>
      {asked.value ? <div class="actions" role="alert"><p>{t("sure", { id: camera!.id })}</p><span class="spread" />
        <button type="button" onClick={() => { asked.value = false; }}>{t("no")}</button>
        <button type="button" class="danger" disabled={busy.value} onClick={() => void remove()}>{t("yes")}</button></div>
      : <div class="actions">
        {camera && <button type="button" class="danger" onClick={() => { asked.value = true; }}>{t("remove")}</button>}
        <span class="spread" />
        <button class="strong" type="submit" disabled={busy.value}>{busy.value ? t("saving") : t("save")}</button></div>}
    </form>
    <Test camera={camera} fields={value} />
    {camera && <section class="past"><h3>{t("history")}</h3>
      {(streamsOf.value.get(camera.id) ?? []).map((stream) => <article key={stream.id}>
        <h4>{stream.quality} <a href={href("playback", { streams: stream.id })}>{t("watch")}</a></h4>
        <Strip stream={stream.id} span={7 * DAY} />
        <Conditions stream={stream.id} />
      </article>)}</section>}
  </dialog>;
}

function Field({ label, hint, children }: { label: string; hint?: string; children: ComponentChildren }) {
  return <label class="field"><span>{label}</span>{children}{hint && <small>{hint}</small>}</label>;
}

function Choice({ label, name, value, options, onPick }: {
  label: string; name: string; value: string; options: [string, string][]; onPick: (value: string) => void;
}) {
  return <label class="field"><span>{label}</span><select name={name} value={value} onChange={(event) => onPick(event.currentTarget.value)}>
    {options.map(([key, text]) => <option key={key} value={key}>{text}</option>)}</select></label>;
}

function Check({ label, name, on, onPick }: { label: string; name: string; on: boolean; onPick: (on: boolean) => void }) {
  return <label class="check"><input name={name} type="checkbox" checked={on} onChange={(event) => onPick(event.currentTarget.checked)} /> {label}</label>;
}

// -- the test ---------------------------------------------------------------------------------------------------------

function Test({ camera, fields }: { camera: Camera | null; fields: Fields }) {
  const busy = useSignal("");
  const told = useSignal<TestView | null>(null);
  const problem = useSignal("");
  const call = async (quality: "main" | "sub") => {
    busy.value = quality;
    told.value = null;
    problem.value = "";
    try {
      told.value = await send<TestView>("POST", "/cameras/test", {
        address: quality === "main" ? fields.main : fields.sub, quality, ...(camera ? { camera: camera.id } : {}),
        transport: fields.transport, allow_basic: fields.allow_basic, tls_verify: fields.tls_verify,
      });
    } catch (error) {
      problem.value = error instanceof Error ? error.message : String(error);
    }
    busy.value = "";
  };
  return <section class="test" aria-live="polite">
    <div class="actions">
      <button type="button" disabled={!fields.main || Boolean(busy.value)} onClick={() => void call("main")}>{t("test")}{fields.sub ? " · main" : ""}</button>
      {fields.sub && <button type="button" disabled={Boolean(busy.value)} onClick={() => void call("sub")}>{t("test")} · sub</button>}
      {busy.value && <span class="hint">{t("testing")}</span>}
    </div>
    {problem.value && <p class="problem">{problem.value}</p>}
    {told.value && <Answer view={told.value} />}
  </section>;
}

function Answer({ view }: { view: TestView }) {
  const facts: [string, ComponentChildren][] = [];
  if (view.answers.length) facts.push([t("answers"), <ul class="answers">{view.answers.map((one, i) => <li key={i}>
    <span>{one.method}</span> <b class={one.status < 300 ? "good" : "bad"}>{one.status}</b> {one.phrase}</li>)}</ul>]);
  if (view.tracks.length) facts.push([t("tracks"), view.tracks.map((track) => `${track.codec || track.kind}${track.recorded ? "" : ` (${t("ignored")})`}`).join(", ")]);
  if (view.width) facts.push([t("picture"), `${view.width} × ${view.height}, ${view.codecs}${view.frame_rate ? `, ${view.frame_rate} / s, ${rate(view.bitrate_bps)}` : ""}`]);
  if (view.key_frame_s !== null) {
    const then = view.key_frame_every_s === null ? t("long") : t("every", { n: view.key_frame_every_s });
    facts.push([t("first"), `${t("after", { n: view.key_frame_s })}, ${then}`]);
    facts.push([t("clock"), clockText(view.clock_offset_ms)]);
    facts.push([t("loss"), `${view.lost_packets}`]);
  }
  const says = Object.entries(view.told).filter(([name]) => name !== "certificate").map(([name, text]) => `${name}: ${text}`);
  if (says.length) facts.push([t("says"), says.join(" · ")]);
  facts.push([t("took"), `${view.took_s} s`]);
  return <div class={`answer ${view.ok ? "good" : "bad"}`}>
    <p><span class={`dot ${view.ok ? "good" : "bad"}`} /> <b>{view.ok ? t("good") : `${t("bad")}: ${why(view.reason)}`}</b></p>
    {view.detail && <p class="hint">{view.detail}</p>}
    <dl>{facts.map(([name, text]) => <div key={name}><dt>{name}</dt><dd>{text}</dd></div>)}</dl>
  </div>;
}

function clockText(ms: number | null): string {
  if (ms === null) return t("untold");
  if (Math.abs(ms) < 500) return t("equal");
  return t(ms > 0 ? "ahead" : "behind", { n: lasting(Math.abs(ms)) });
}
