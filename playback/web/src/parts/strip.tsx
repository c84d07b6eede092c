// A stream's comings and goings as a strip. Kept true: an absence is never too short to be seen, as each piece of the strip
// shows the worst that was in it; many strips are asked for in one call.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { send } from "../lib/api";
import { now, reach } from "../lib/node";
import { reasonOf } from "../lib/terms";
import { dayClock, DAY, formatTime, lasting, parseTime, SECOND } from "../lib/time";
import { conditionOf, type StateView, type StatesView, whyOf } from "../lib/upkeep";
import { words } from "../lib/words";

const t = words({
  strip: ["Last {span}: recorded {share} %, {n} absences", "{span} qua: ghi {share} %, {n} lần vắng"],
  unknown: ["Nothing is known of the last {span}", "Không biết gì về {span} qua"],
  none: ["Nothing is remembered yet.", "Chưa có gì được ghi nhớ."],
  since: ["Since", "Từ lúc"],
  lasted: ["For", "Trong"],
  state: ["State", "Trạng thái"],
  cut: ["Older ones were let go: it came and went too often.", "Các lần cũ hơn đã bị bỏ vì đến và đi quá nhiều."],
});

const PIECES = 144; // ten minutes of a day
const AGAIN_MS = 30_000;
const MOST = 100; // streams in one call
const WORST = ["", "removed", "recording", "standby", "waiting", "paused", "down", "offline"];

interface Known { states: StateView[]; whole: number }
const known = signal(new Map<string, Known>());
const wanted = new Map<string, number>();
let timer = 0;

async function look(): Promise<void> {
  clearTimeout(timer);
  timer = 0;
  const names = [...wanted.keys()];
  try {
    for (let at = 0; at < names.length; at += MOST) {
      const body = { streams: names.slice(at, at + MOST), start: formatTime(now() - 7 * DAY) };
      const answer = await send<StatesView>("POST", "/states", body);
      const fresh = new Map(known.peek());
      for (const one of answer.streams) fresh.set(one.stream, { states: one.states, whole: parseTime(one.whole_from) });
      known.value = fresh;
    }
  } catch { /* what is known stays on screen; the frame says that the server is away */ }
  if (wanted.size && !timer) timer = window.setTimeout(() => void look(), AGAIN_MS);
}

/** Ask for this stream's conditions while the component is there. */
function useStates(name: string): Known | undefined {
  useEffect(() => {
    wanted.set(name, (wanted.get(name) ?? 0) + 1);
    if (!known.peek().has(name)) { clearTimeout(timer); timer = window.setTimeout(() => void look(), 120); }
    return () => {
      const left = (wanted.get(name) ?? 1) - 1;
      if (left) wanted.set(name, left);
      else wanted.delete(name);
    };
  }, [name]);
  return known.value.get(name);
}

export const why = (reason: string): string => { const told = reasonOf(reason); return told === reason ? whyOf(reason) : told; };

interface Piece { state: string; from: number; to: number }

/** The strip's pieces, equal ones together; places are 0 to `PIECES`. */
function pieces(states: StateView[], start: number, end: number): Piece[] {
  const worst = new Array<string>(PIECES).fill("");
  states.forEach((one, index) => {
    const from = Math.max(start, parseTime(one.time));
    const to = index + 1 < states.length ? parseTime(states[index + 1]!.time) : end;
    if (to <= start || from >= end) return;
    const last = Math.min(PIECES - 1, Math.max(0, Math.ceil(((to - start) / (end - start)) * PIECES) - 1));
    for (let i = Math.floor(((from - start) / (end - start)) * PIECES); i <= last; i += 1) {
      if (WORST.indexOf(one.state) > WORST.indexOf(worst[i]!)) worst[i] = one.state;
    }
  });
  const found: Piece[] = [];
  worst.forEach((state, i) => {
    const last = found.at(-1);
    if (last?.state === state) last.to = i + 1;
    else found.push({ state, from: i, to: i + 1 });
  });
  return found;
}

/** Share of the time that was recorded, and how many absences began in it; null when nothing is known. */
function summary(states: StateView[], start: number, end: number): { share: number; absences: number } | null {
  let recorded = 0;
  let all = 0;
  let absences = 0;
  states.forEach((one, index) => {
    const from = Math.max(start, parseTime(one.time));
    const to = Math.min(end, index + 1 < states.length ? parseTime(states[index + 1]!.time) : end);
    if (to <= from) return;
    all += to - from;
    if (one.state === "recording") recorded += to - from;
    else if (one.state === "offline" || one.state === "down" || one.state === "waiting") absences += 1;
  });
  return all ? { share: Math.floor((1000 * recorded) / all) / 10, absences } : null;
}

export function Strip({ stream, span = DAY }: { stream: string; span?: number }) {
  const found = useStates(stream);
  void reach.value;
  const end = now();
  const start = end - span;
  const states = found?.states ?? [];
  const told = summary(states, start, end);
  const text = told ? t("strip", { span: lasting(span), share: told.share, n: told.absences }) : t("unknown", { span: lasting(span) });
  return <svg class="strip" viewBox={`0 0 ${PIECES} 10`} preserveAspectRatio="none" role="img" aria-label={text}>
    <title>{text}</title>
    <rect class="s-none" x="0" y="7" width={PIECES} height="1.5" />
    {pieces(states, start, end).map((one) => <rect key={one.from} class={`s-${one.state || "none"}`} x={one.from} width={one.to - one.from}
      y={one.state === "recording" ? 3 : one.state === "offline" || one.state === "waiting" ? 0 : 6}
      height={one.state === "recording" ? 7 : one.state === "offline" || one.state === "waiting" ? 10 : one.state ? 4 : 0} />)}
  </svg>;
}

/** The newest conditions in words. */
export function Conditions({ stream, most = 40 }: { stream: string; most?: number }) {
  const found = useStates(stream);
  const states = found?.states ?? [];
  if (!states.length) return <p class="hint">{t("none")}</p>;
  const rows = states.map((one, index) => {
    const from = parseTime(one.time);
    const to = index + 1 < states.length ? parseTime(states[index + 1]!.time) : now();
    return { ...one, from, lasted: Math.max(SECOND, to - from) };
  }).reverse().slice(0, most);
  return <>
    <div class="scroll low" tabIndex={0} role="region" aria-label={t("state")}><table class="table tight">
      <thead><tr><th scope="col">{t("since")}</th><th scope="col">{t("lasted")}</th><th scope="col">{t("state")}</th></tr></thead>
      <tbody>{rows.map((one) => <tr key={one.time}>
        <td class="figure">{dayClock(one.from)}</td><td class="figure">{lasting(one.lasted)}</td>
        <td><i class={`k s-${one.state}`} /> {conditionOf(one.state)}{one.reason ? `: ${why(one.reason)}` : ""}</td>
      </tr>)}</tbody>
    </table></div>
    {found && !Number.isNaN(found.whole) && <p class="hint">{t("cut")}</p>}
  </>;
}
