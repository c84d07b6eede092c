// Many cameras from a CSV file. Kept true: nothing is registered before every row was judged and somebody said yes, and what
// is registered then is what was shown, or nothing.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Problem, send } from "../lib/api";
import { refresh } from "../lib/node";
import type { ImportRow, ImportView } from "../lib/upkeep";
import { vocabulary, words } from "../lib/words";

const t = words({
  title: ["Import cameras", "Nhập camera"],
  close: ["Close", "Đóng"],
  how: ["A CSV file whose first line names the fields; id and main are needed:", "Tệp CSV có dòng đầu nêu các trường; cần có id và main:"],
  file: ["CSV file", "Tệp CSV"],
  replace: ["change cameras that are registered already", "đổi cả camera đã đăng ký"],
  reading: ["Looking at every row…", "Đang xem từng dòng…"],
  sum: ["{added} to add, {changed} to change, {same} as they are, {refused} that cannot be", "{added} thêm, {changed} đổi, {same} giữ nguyên, {refused} không được"],
  none: ["Nothing is registered while a row is wrong: it is all or none.", "Chưa dòng nào được đăng ký khi còn dòng sai: tất cả hoặc không."],
  apply: ["Register {n} cameras", "Đăng ký {n} camera"],
  applying: ["Registering…", "Đang đăng ký…"],
  done: ["{n} cameras are registered.", "Đã đăng ký {n} camera."],
  line: ["Line", "Dòng"],
  camera: ["Camera", "Camera"],
  what: ["What happens", "Việc sẽ làm"],
  more: ["{n} more rows are not shown.", "Còn {n} dòng không hiện."],
  rows: ["Rows of the file", "Các dòng của tệp"],
  large: ["The file is larger than {n} kB; split it.", "Tệp lớn hơn {n} kB; hãy chia nhỏ."],
});

const changeOf = vocabulary({
  add: ["is added", "được thêm"],
  change: ["is changed", "được đổi"],
  same: ["stays as it is", "giữ nguyên"],
  exists: ["is registered otherwise already", "đã đăng ký khác"],
  wrong: ["is wrong", "sai"],
});

const SHOWN = 500;
const BYTES_MAX = 900_000;
const ORDER = ["wrong", "exists", "change", "add", "same"];

export function Importer({ onDone }: { onDone: (changed: boolean) => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const text = useSignal("");
  const replace = useSignal(false);
  const view = useSignal<ImportView | null>(null);
  const problem = useSignal("");
  const busy = useSignal<"" | "reading" | "applying">("");
  useEffect(() => { dialog.current?.showModal(); }, []);

  const run = async (apply: boolean) => {
    if (!text.value) return;
    busy.value = apply ? "applying" : "reading";
    problem.value = "";
    try {
      view.value = await send<ImportView>("POST", "/cameras/import", {
        csv: text.value, replace: replace.value, apply, ...(apply ? { register: view.value?.register } : {}),
      });
      if (apply) await refresh();
    } catch (error) {
      if (error instanceof Problem && error.status === 422) view.value = error.body as unknown as ImportView;
      else {
        problem.value = error instanceof Error ? error.message : String(error);
        if (!apply) view.value = null;
      }
    }
    busy.value = "";
  };
  const pick = async (file: File | undefined) => {
    if (!file) return;
    view.value = null;
    if (file.size > BYTES_MAX) { problem.value = t("large", { n: BYTES_MAX / 1000 }); return; }
    text.value = await file.text();
    await run(false);
  };
  const found = view.value;
  const count = found ? found.added + found.changed : 0;
  return <dialog ref={dialog} class="wide" aria-labelledby="import-title"
    onCancel={(event) => { event.preventDefault(); onDone(found?.applied ?? false); }}>
    <header><h2 id="import-title">{t("title")}</h2>
      <button type="button" class="quiet" aria-label={t("close")} onClick={() => onDone(found?.applied ?? false)}>✕</button></header>
    <p class="hint">{t("how")} <code>id,main,sub,transport,enabled,note,record,schedule,pre_record_s,priority,allow_basic,tls_verify</code></p>
    {!found?.applied && <div class="actions">
      <label class="field"><span class="sr">{t("file")}</span><input type="file" accept=".csv,text/csv,text/plain" aria-label={t("file")}
        onChange={(event) => void pick(event.currentTarget.files?.[0])} /></label>
      <label class="check"><input type="checkbox" name="replace" checked={replace.value}
        onChange={(event) => { replace.value = event.currentTarget.checked; void run(false); }} /> {t("replace")}</label>
    </div>}
    <div aria-live="polite">
      {busy.value === "reading" && <p class="hint">{t("reading")}</p>}
      {problem.value && <p class="problem" role="alert">{problem.value}</p>}
      {found && (found.applied ? <p class="done"><span class="dot good" /> {t("done", { n: count })}</p> : <>
        <p><b>{t("sum", { added: found.added, changed: found.changed, same: found.same, refused: found.refused })}</b></p>
        {found.refused > 0 && <p class="problem">{t("none")}</p>}</>)}
    </div>
    {found && !found.applied && <Judged rows={found.rows} />}
    <div class="actions"><span class="spread" />
      {found && !found.applied && <button type="button" class="strong" disabled={!count || found.refused > 0 || Boolean(busy.value)}
        onClick={() => void run(true)}>{busy.value === "applying" ? t("applying") : t("apply", { n: count })}</button>}
      {found?.applied && <button type="button" class="strong" onClick={() => onDone(true)}>{t("close")}</button>}
    </div>
  </dialog>;
}

function Judged({ rows }: { rows: ImportRow[] }) {
  const sorted = [...rows].sort((a, b) => ORDER.indexOf(a.change) - ORDER.indexOf(b.change) || a.line - b.line).slice(0, SHOWN);
  return <>
    <div class="scroll low tall" tabIndex={0} role="region" aria-label={t("rows")}><table class="table tight">
      <thead><tr><th scope="col">{t("line")}</th><th scope="col">{t("camera")}</th><th scope="col">{t("what")}</th></tr></thead>
      <tbody>{sorted.map((row) => <tr key={row.line} class={`row-${row.change}`}>
        <td class="figure">{row.line}</td><th scope="row">{row.id || "–"}</th>
        <td class="wrap">{changeOf(row.change)}{row.fields.length ? `: ${row.fields.join(", ")}` : ""}{row.detail && <small>{row.detail}</small>}</td>
      </tr>)}</tbody>
    </table></div>
    {rows.length > SHOWN && <p class="hint">{t("more", { n: rows.length - SHOWN })}</p>}
  </>;
}
