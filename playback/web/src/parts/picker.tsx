// A list of the node's streams to choose some from.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { codecs } from "../lib/figures";
import { streams } from "../lib/node";
import { condition, toneOf } from "../lib/terms";
import { words } from "../lib/words";

const t = words({
  streams: ["Streams", "Luồng"],
  find: ["Find a stream", "Tìm luồng"],
  close: ["Close", "Đóng"],
  most: ["{n} of at most {most}", "{n}, tối đa {most}"],
});

interface Chosen {
  most: number;
  chosen: string[];
  onChange: (names: string[]) => void;
  onClose: () => void;
}

export function Picker({ most, chosen, onChange, onClose }: Chosen) {
  const wanted = useSignal("");
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const shown = streams.value.filter((stream) => stream.id.toLowerCase().includes(wanted.value.toLowerCase()));
  return <aside class="picker" id="picker" aria-label={t("streams")} onKeyDown={(event) => { if (event.key === "Escape") onClose(); }}>
    <div class="picker-head">
      <input ref={field} type="search" placeholder={t("find")} aria-label={t("find")} autocomplete="off" value={wanted.value}
        onInput={(event) => { wanted.value = event.currentTarget.value; }} />
      <button class="quiet" type="button" aria-label={t("close")} onClick={onClose}>×</button>
    </div>
    <ul class="streams">
      {shown.map((stream) => {
        const on = chosen.includes(stream.id);
        return <li key={stream.id}><label title={stream.detail}>
          <input type="checkbox" checked={on} disabled={!on && chosen.length >= most}
            onChange={() => onChange(on ? chosen.filter((name) => name !== stream.id) : [...chosen, stream.id])} />
          <span class="name">{stream.id}</span><span class="codec">{codecs(stream).split(" + ")[0]}</span>
          <span class="meta"><span class={`dot ${toneOf(stream.state)}`} /> {condition(stream)}</span>
        </label></li>;
      })}
    </ul>
    <p class="meta">{t("most", { n: chosen.length, most })}</p>
  </aside>;
}
