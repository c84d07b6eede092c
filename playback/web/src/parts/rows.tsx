// A table of which only the rows in sight exist, so that thousands scroll like ten. All rows are equally high.

import { useSignal } from "@preact/signals";
import type { ComponentChildren, VNode } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

const BEYOND = 8; // rows kept ready above and below

interface Props {
  label: string;
  count: number;
  height: number;
  head: ComponentChildren;
  columns: number;
  row: (index: number) => VNode;
  onSight?: (first: number, last: number) => void;
}

export function Rows({ label, count, height, head, columns, row, onSight }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const top = useSignal(0);
  const seen = useSignal(600);
  useLayoutEffect(() => {
    const look = new ResizeObserver(() => { seen.value = box.current!.clientHeight; });
    look.observe(box.current!);
    return () => look.disconnect();
  }, []);
  const first = Math.max(0, Math.min(count, Math.floor(top.value / height)) - BEYOND);
  const last = Math.min(count, Math.ceil((top.value + seen.value) / height) + BEYOND);
  useEffect(() => onSight?.(first, last), [first, last, count]);
  return <div ref={box} class="scroll rows" tabIndex={0} role="region" aria-label={label}
    onScroll={(event) => { top.value = event.currentTarget.scrollTop; }}>
    <table class="table" aria-rowcount={count + 1}>
      <thead><tr aria-rowindex={1}>{head}</tr></thead>
      <tbody>
        <Space rows={first} height={height} columns={columns} />
        {Array.from({ length: Math.max(0, last - first) }, (_, i) => row(first + i))}
        <Space rows={count - last} height={height} columns={columns} />
      </tbody>
    </table>
  </div>;
}

function Space({ rows, height, columns }: { rows: number; height: number; columns: number }) {
  return rows > 0 ? <tr aria-hidden="true" class="space"><td colSpan={columns} style={{ height: `${rows * height}px` }} /></tr> : null;
}
