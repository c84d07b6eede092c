// What was found on the volumes and in the index, and what became of it.

import { size } from "../lib/figures";
import { href } from "../lib/router";
import { dayClock, formatTime, parseTime, SECOND } from "../lib/time";
import type { ReportsView } from "../lib/upkeep";
import { words } from "../lib/words";

const t = words({
  recovery: ["When the recorder took the volumes", "Khi bộ ghi nhận các ổ"],
  clean: ["Nothing was left unfinished.", "Không có gì dang dở."],
  volume: ["Volume", "Ổ"],
  when: ["When", "Lúc"],
  torn: ["Torn chunks", "Đoạn dở dang"],
  sealed: ["Sealed", "Đã niêm"],
  cut: ["Cut off, kept aside", "Đã cắt, giữ riêng"],
  aside: ["Set aside", "Để riêng"],
  missed: ["Read into the index", "Đưa vào chỉ mục"],
  failed: ["Could not be sealed", "Không niêm được"],
  going: ["going on", "đang làm"],
  index: ["Index", "Chỉ mục"],
  whole: ["Every chunk is in it.", "Mọi đoạn đều có trong đó."],
  reading: ["{done} of {all} chunks are read in.", "Đã đọc {done}/{all} đoạn."],
  verified: ["Verified {time}.", "Kiểm tra lúc {time}."],
  made: ["Made again {n} times since the recorder started, last {time} ({why}).", "Làm lại {n} lần từ khi bộ ghi chạy, gần nhất {time} ({why})."],
  findings: ["{n} files could not be taken in.", "{n} tệp không đưa vào được."],
  damage: ["Damage that is known", "Hư hỏng đã biết"],
  undamaged: ["None: what was read again was as it was written.", "Không có: dữ liệu đọc lại đúng như đã ghi."],
  stream: ["Stream", "Luồng"],
  what: ["What", "Gì"],
  bytes: ["Bytes", "Byte"],
  found: ["Found", "Phát hiện"],
  unread: ["The list of {path} cannot be read now.", "Hiện không đọc được danh sách của {path}."],
});

export function Reports({ view }: { view: ReportsView }) {
  const index = view.index;
  const left = view.recoveries.filter((one) => one.torn || one.missed || one.aside || one.failed || !one.done);
  return <>
    <section class="card" aria-labelledby="recovery-title"><h2 id="recovery-title">{t("recovery")}</h2>
      {!left.length ? <p class="hint">{t("clean")}</p> : <div class="scroll" tabIndex={0} role="region" aria-label={t("recovery")}><table class="table tight">
        <thead><tr>{(["volume", "when", "torn", "sealed", "cut", "aside", "missed", "failed"] as const).map((key) => <th key={key} scope="col">{t(key)}</th>)}</tr></thead>
        <tbody>{left.map((one) => <tr key={one.volume}><th scope="row">{one.path}</th>
          <td class="figure">{one.time ? dayClock(parseTime(one.time)) : "–"}{!one.done && <small>{t("going")}</small>}</td>
          <td class="figure">{one.torn}</td><td class="figure">{one.sealed}</td><td class="figure">{size(one.cut_bytes)}</td><td class="figure">{one.aside}</td>
          <td class="figure">{one.missed}</td><td class={`figure${one.failed ? " problem" : ""}`}>{one.failed}</td></tr>)}</tbody></table></div>}
    </section>
    {index && <section class="card" aria-labelledby="index-title"><h2 id="index-title"><span class={`dot ${index.whole ? "good" : "wait"}`} /> <span>{t("index")}</span></h2>
      <p>{index.whole ? t("whole") : t("reading", { done: index.chunks_done, all: index.chunks_total })}</p>
      {index.verified && <p class="hint">{t("verified", { time: dayClock(parseTime(index.verified)) })}</p>}
      {index.made && <p class="hint">{t("made", { n: index.renewals, time: dayClock(parseTime(index.made)), why: index.why })}</p>}
      {index.findings > 0 && <p class="problem">{t("findings", { n: index.findings })}</p>}
    </section>}
    <section class="card" aria-labelledby="damage-title"><h2 id="damage-title"><span class={`dot ${view.damage.length ? "bad" : "good"}`} /> <span>{t("damage")}</span></h2>
      {!view.damage.length ? <p class="hint">{t("undamaged")}</p> : <div class="scroll low" tabIndex={0} role="region" aria-label={t("damage")}><table class="table tight">
        <thead><tr>{(["stream", "when", "what", "bytes", "found"] as const).map((key) => <th key={key} scope="col">{t(key)}</th>)}</tr></thead>
        <tbody>{view.damage.map((one) => <tr key={`${one.stream}${one.start}`}>
          <th scope="row"><a href={href("playback", { streams: one.stream, at: formatTime(parseTime(one.start) - 2 * SECOND) })}>{one.stream}</a></th>
          <td class="figure">{dayClock(parseTime(one.start))}</td><td class="wrap">{one.what}</td><td class="figure">{size(one.bytes)}</td>
          <td class="figure">{dayClock(parseTime(one.found))}</td></tr>)}</tbody></table></div>}
      {view.unread.map((path) => <p key={path} class="problem">{t("unread", { path })}</p>)}
    </section>
  </>;
}
