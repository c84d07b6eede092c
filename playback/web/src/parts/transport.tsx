// Play, step, speed, and the moment: shown with its zone and the camera's own time, and typed to jump there.

import { type Signal, useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import type { Acts } from "../play/acts";
import { type Master, RATES } from "../play/master";
import { now } from "../lib/node";
import { clock, dayClock, offset as zone, readTime, SECOND } from "../lib/time";
import { words } from "../lib/words";

const t = words({
  bar: ["Playback", "Điều khiển"],
  play: ["Play", "Phát"], pause: ["Pause", "Dừng"],
  backward: ["Backward, key frames", "Lùi, khung khoá"],
  forward: ["Forward, again: faster", "Tới, nhấn nữa: nhanh hơn"],
  frameBack: ["Previous picture", "Hình trước"], frameOn: ["Next picture", "Hình sau"],
  keyBack: ["Previous key frame", "Khung khoá trước"], keyOn: ["Next key frame", "Khung khoá sau"],
  speed: ["Speed", "Tốc độ"],
  moment: ["Moment; type a time to jump there", "Thời điểm; gõ giờ để nhảy tới"],
  wrong: ["This is no time. Type 22:04:54, 2026-11-25 22:04:54.120, or -30s.", "Không phải giờ. Gõ 22:04:54, 2026-11-25 22:04:54.120 hoặc -30s."],
  camera: ["camera {time} ({ms} ms)", "camera {time} ({ms} ms)"],
  live: ["Live", "Trực tiếp"],
  keys: ["Keys", "Phím tắt"],
  sound: ["Sound", "Âm thanh"],
  waiting: ["waiting", "đang chờ"],
  markIn: ["In", "Đầu"], markInTitle: ["The clip begins here", "Đoạn bắt đầu ở đây"],
  markOut: ["Out", "Cuối"], markOutTitle: ["The clip ends here", "Đoạn kết thúc ở đây"],
});

interface Bar { master: Master; live: Signal<boolean>; head: Signal<number | null>; sound: Signal<boolean>; acts: Acts; offset: number | null }

export function Transport({ master, live, head, sound, acts, offset }: Bar) {
  const playing = master.playing.value;
  const rate = master.rate.value;
  return <div class="transport" role="group" aria-label={t("bar")}>
    <div class="buttons">
      <Button name={t("keyBack")} keys="⇧←" onClick={() => acts.step(-1, true)}>⇤</Button>
      <Button name={t("frameBack")} keys="←" onClick={() => acts.step(-1, false)}>‹</Button>
      <Button name={t("backward")} keys="J" onClick={acts.backward} on={playing && rate < 0}>◀</Button>
      <button id="play" type="button" class="strong" aria-label={t(playing ? "pause" : "play")} title={`${t(playing ? "pause" : "play")} (space)`}
        onClick={acts.toggle}>{playing ? "❚❚" : "▶"}</button>
      <Button name={t("forward")} keys="L" onClick={acts.forward} on={playing && rate > 1}>▶▶</Button>
      <Button name={t("frameOn")} keys="→" onClick={() => acts.step(1, false)}>›</Button>
      <Button name={t("keyOn")} keys="⇧→" onClick={() => acts.step(1, true)}>⇥</Button>
    </div>
    <select aria-label={t("speed")} value={String(Math.abs(rate))} onChange={(event) => acts.play(Number(event.currentTarget.value))}>
      {RATES.map((one) => <option key={one} value={String(one)}>{one}×</option>)}
    </select>
    <Moment head={head} live={live} offset={offset} acts={acts} />
    {master.waiting.value && playing && <span class="hint">{t("waiting")}…</span>}
    <span class="spread" />
    <button type="button" title={`${t("markInTitle")} (I)`} onClick={() => acts.mark("start")}>{t("markIn")}</button>
    <button type="button" title={`${t("markOutTitle")} (O)`} onClick={() => acts.mark("end")}>{t("markOut")}</button>
    <button type="button" aria-pressed={sound.value} onClick={() => { sound.value = !sound.value; }}>{t("sound")}</button>
    <button type="button" class="quiet help" aria-label={t("keys")} title={`${t("keys")} (?)`} onClick={acts.help}>?</button>
    <button id="go-live" type="button" class="go-live" aria-pressed={live.value} title={`${t("live")} (N)`} onClick={acts.live}>{t("live")}</button>
  </div>;
}

function Button({ name, keys, on, onClick, children }: { name: string; keys: string; on?: boolean; onClick: () => void; children: string }) {
  return <button type="button" aria-label={name} title={`${name} (${keys})`} aria-pressed={on === undefined ? undefined : on} onClick={onClick}>{children}</button>;
}

function Moment({ head, live, offset, acts }: { head: Signal<number | null>; live: Signal<boolean>; offset: number | null; acts: Acts }) {
  const typed = useSignal<string | null>(null);
  const wrong = useSignal(false);
  const field = useRef<HTMLInputElement>(null);
  const at = head.value ?? Math.floor(now() / SECOND) * SECOND;
  const jump = (event: Event) => {
    event.preventDefault();
    const moment = readTime(typed.value ?? "", head.peek() ?? now());
    wrong.value = Number.isNaN(moment);
    if (wrong.value) return;
    typed.value = null;
    field.current?.blur();
    acts.seek(moment);
  };
  return <form class="moment" onSubmit={jump}>
    <input id="moment" ref={field} type="text" inputMode="text" autocomplete="off" spellcheck={false} aria-label={t("moment")} aria-invalid={wrong.value}
      title={t("moment")} value={typed.value ?? (live.value ? dayClock(at) : dayClock(at, true))}
      onFocus={(event) => { typed.value = event.currentTarget.value; event.currentTarget.select(); }}
      onInput={(event) => { typed.value = event.currentTarget.value; wrong.value = false; }}
      onBlur={() => { typed.value = null; wrong.value = false; }}
      onKeyDown={(event) => { if (event.key === "Escape") event.currentTarget.blur(); }} />
    <span class="zone">{zone(at)}</span>
    {offset !== null && Math.abs(offset) >= 0.5 && !live.value && <span class="hint camera">{t("camera", { time: clock(at + offset, true), ms: `${offset < 0 ? "−" : "+"}${Math.abs(offset).toFixed(0)}` })}</span>}
    {wrong.value && <span class="problem" role="alert">{t("wrong")}</span>}
  </form>;
}
