// How pictures of 16:9 fill a box best.

import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

const GAP_PX = 6;

/** Columns and the width of a tile, so that tiles are as large as they can be. */
export function arrange(count: number, width: number, height: number): { columns: number; tile: number } {
  let best = { columns: 1, tile: 0 };
  for (let columns = 1; columns <= Math.max(1, count); columns += 1) {
    const rows = Math.ceil(count / columns) || 1;
    const across = (width - (columns - 1) * GAP_PX) / columns;
    const tile = Math.floor(Math.min(across, ((height - (rows - 1) * GAP_PX) / rows) * (16 / 9)));
    if (tile > best.tile) best = { columns, tile };
  }
  return best;
}

/** A grid's box and how it is arranged; measured again when the box changes. */
export function useArranged<E extends HTMLElement>(count: number): { box: RefObject<E | null>; columns: number; style: Record<string, string | number> } {
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
  const { columns, tile } = arrange(count, size.width, size.height);
  return { box, columns, style: { "--columns": columns, "--tile": `${tile}px` } };
}
