// The newest picture again and again, for streams whose codec the browser cannot play. One request at a time.

import { useEffect, useRef, useState } from "preact/hooks";
import { frameUrl, request } from "../lib/api";
import { clock, parseTime } from "../lib/time";

const EVERY_MS = 1500;

export function LiveStill({ stream }: { stream: string }) {
  const image = useRef<HTMLImageElement>(null);
  const [shown, setShown] = useState(0);
  useEffect(() => {
    const ending = new AbortController();
    let url = "";
    let timer = 0;
    const next = async () => {
      try {
        const answer = await request(frameUrl(stream, undefined, { width: 960 }), { cache: "no-store", signal: ending.signal });
        const fresh = URL.createObjectURL(await answer.blob());
        if (ending.signal.aborted || !image.current) { URL.revokeObjectURL(fresh); return; }
        image.current.src = fresh;
        URL.revokeObjectURL(url);
        url = fresh;
        setShown(parseTime(answer.headers.get("Keyreel-Time")));
      } catch { /* the next one may come */ }
      if (!ending.signal.aborted) timer = window.setTimeout(() => void next(), EVERY_MS);
    };
    void next();
    return () => { ending.abort(); clearTimeout(timer); URL.revokeObjectURL(url); };
  }, [stream]);
  return <>
    <img class="picture still" ref={image} alt="" />
    {shown > 0 && <span class="stamp">{clock(shown)}</span>}
  </>;
}
