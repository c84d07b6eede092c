// The keys of Playback, as a list.

import type { Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { words } from "../lib/words";

const t = words({
  title: ["Keys", "Phím tắt"],
  close: ["Close", "Đóng"],
  space: ["play or pause", "phát hoặc dừng"],
  jkl: ["backward by key frames, pause, forward; again: faster", "lùi theo khung khoá, dừng, tới; nhấn nữa: nhanh hơn"],
  arrows: ["previous, next picture", "hình trước, hình sau"],
  shift: ["previous, next key frame", "khung khoá trước, sau"],
  pages: ["ten seconds back, ahead", "lùi, tới mười giây"],
  digits: ["speed: ¼ ½ 1 2 4 8 16", "tốc độ: ¼ ½ 1 2 4 8 16"],
  marks: ["the clip begins, ends here", "đoạn bắt đầu, kết thúc ở đây"],
  zoom: ["more, less time in view; or the wheel", "xem rộng hơn, hẹp hơn; hoặc con lăn"],
  live: ["live", "trực tiếp"],
});
const KEYS: [string[], Parameters<typeof t>[0]][] = [
  [["space"], "space"], [["J", "K", "L"], "jkl"], [["←", "→"], "arrows"], [["⇧ ←", "⇧ →"], "shift"], [["PgUp", "PgDn"], "pages"],
  [["1", "…", "7"], "digits"], [["I", "O"], "marks"], [["−", "+"], "zoom"], [["N"], "live"],
];

export function KeysHelp({ open }: { open: Signal<boolean> }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => { if (open.value) dialog.current?.showModal(); else dialog.current?.close(); }, [open.value]);
  return <dialog ref={dialog} class="shortcuts" aria-labelledby="keys-title" onClose={() => { open.value = false; }}>
    <h2 id="keys-title">{t("title")}</h2>
    <dl>{KEYS.map(([keys, what]) => <div key={what}><dt>{keys.map((key) => <kbd key={key}>{key}</kbd>)}</dt><dd>{t(what)}</dd></div>)}</dl>
    <button type="button" onClick={() => { open.value = false; }}>{t("close")}</button>
  </dialog>;
}
