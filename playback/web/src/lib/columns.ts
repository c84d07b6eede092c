// How many columns show pictures of 16:9 largest in a box.

import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

export function bestColumns(count: number, width: number, height: number): number {
  let best = 1;
  let largest = 0;
  for (let columns = 1; columns <= count; columns += 1) {
    const wide = Math.min(width / columns, (height / Math.ceil(count / columns)) * (16 / 9));
    if (wide > largest * 1.02) { largest = wide; best = columns; }
  }
  return best;
}

/** A grid's box and its columns; measured again when the box changes. */
export function useColumns<E extends HTMLElement>(count: number): { box: RefObject<E | null>; columns: number; rows: number } {
  const box = useRef<E>(null);
  const [size, setSize] = useState({ width: 1200, height: 600 });
  const seen = useRef<E | null>(null);
  const watch = useRef<ResizeObserver | null>(null);
  useLayoutEffect(() => { // after each drawing, as the grid may come later than the page
    if (seen.current === box.current) return;
    seen.current = box.current;
    watch.current ??= new ResizeObserver(([entry]) => {
      if (entry) setSize({ width: entry.contentRect.width, height: entry.contentRect.height });
    });
    watch.current.disconnect();
    if (box.current) watch.current.observe(box.current);
  });
  useEffect(() => () => watch.current?.disconnect(), []);
  const columns = bestColumns(count, size.width, size.height);
  return { box, columns, rows: Math.max(1, Math.ceil(count / columns)) };
}
