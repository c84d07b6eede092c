// As much of MP4 as synchronised play needs: what an init segment plays, and when each picture of a segment is shown.

export interface Box { kind: string; at: number; end: number } // payload [at, end)

export interface Init { bytes: ArrayBuffer; mime: string; video: number; scale: number; sound: boolean }

/** Pictures of a segment in the order they are shown: presentation times in the track's ticks, and which are key frames. */
export interface Pictures { ticks: Float64Array; key: Uint8Array; end: number }

export function* boxes(view: DataView, start = 0, end = view.byteLength): Generator<Box> {
  let at = start;
  while (at + 8 <= end) {
    let size = view.getUint32(at);
    let head = 8;
    if (size === 1 && at + 16 <= end) { size = Number(view.getBigUint64(at + 8)); head = 16; }
    if (size < head || at + size > end) return;
    yield { kind: fourcc(view, at + 4), at: at + head, end: at + size };
    at += size;
  }
}

const fourcc = (view: DataView, at: number) =>
  String.fromCharCode(view.getUint8(at), view.getUint8(at + 1), view.getUint8(at + 2), view.getUint8(at + 3));

function inside(view: DataView, box: Box | undefined, ...path: string[]): Box | undefined {
  let found = box;
  for (const kind of path) {
    if (!found) return undefined;
    found = [...boxes(view, found.at, found.end)].find((child) => child.kind === kind);
  }
  return found;
}

const hex = (value: number) => value.toString(16).padStart(2, "0").toUpperCase();

/** The init segment at the head of `bytes`, whatever follows it. */
export function readInit(bytes: ArrayBuffer): Init {
  const view = new DataView(bytes);
  const codecs: string[] = [];
  const init: Init = { bytes, mime: "", video: 0, scale: 90_000, sound: false };
  const moov = [...boxes(view)].find((box) => box.kind === "moov");
  if (!moov) throw new Error("this is no init segment");
  for (const trak of boxes(view, moov.at, moov.end)) {
    if (trak.kind !== "trak") continue;
    const tkhd = inside(view, trak, "tkhd");
    const mdhd = inside(view, trak, "mdia", "mdhd");
    const stsd = inside(view, trak, "mdia", "minf", "stbl", "stsd");
    if (!tkhd || !mdhd || !stsd) continue;
    const entry = [...boxes(view, stsd.at + 8, stsd.end)][0];
    if (!entry) continue;
    if (entry.kind === "mp4a" || entry.kind === "Opus") {
      codecs.push(entry.kind === "Opus" ? "opus" : "mp4a.40.2");
      init.sound = true;
      continue;
    }
    init.video = view.getUint32(tkhd.at + (view.getUint8(tkhd.at) ? 20 : 12));
    init.scale = view.getUint32(mdhd.at + (view.getUint8(mdhd.at) ? 20 : 12));
    const config = [...boxes(view, entry.at + 78, entry.end)].find((box) => box.kind === "avcC");
    codecs.unshift(config ? `avc1.${[1, 2, 3].map((at) => hex(view.getUint8(config.at + at))).join("")}` : `${entry.kind}.1.6.L120.B0`);
  }
  init.mime = `video/mp4; codecs="${codecs.join(",")}"`;
  return init;
}

/** Where the first fragment begins: what is before it is the init segment. */
export function firstFragment(bytes: ArrayBuffer): number {
  const found = [...boxes(new DataView(bytes))].find((box) => box.kind === "moof");
  return found ? found.at - 8 : bytes.byteLength;
}

export function readPictures(bytes: ArrayBuffer, init: Init): Pictures {
  const view = new DataView(bytes);
  const found: [ticks: number, key: number][] = [];
  let end = 0;
  for (const moof of boxes(view)) {
    if (moof.kind !== "moof") continue;
    for (const traf of boxes(view, moof.at, moof.end)) {
      if (traf.kind !== "traf") continue;
      const tfhd = inside(view, traf, "tfhd");
      if (tfhd && view.getUint32(tfhd.at + 4) === init.video) end = Math.max(end, readTraf(view, traf, tfhd, found));
    }
  }
  found.sort((a, b) => a[0] - b[0]);
  return { ticks: Float64Array.from(found, (one) => one[0]), key: Uint8Array.from(found, (one) => one[1]), end };
}

/** Adds a track fragment's pictures; returns when the last one ends. */
function readTraf(view: DataView, traf: Box, tfhd: Box, found: [number, number][]): number {
  const flags = view.getUint32(tfhd.at) & 0xffffff;
  let at = tfhd.at + 8 + (flags & 1 ? 8 : 0) + (flags & 2 ? 4 : 0);
  const usual = { duration: 0, flags: 0 };
  if (flags & 8) { usual.duration = view.getUint32(at); at += 4; }
  if (flags & 0x10) at += 4;
  if (flags & 0x20) usual.flags = view.getUint32(at);
  const tfdt = inside(view, traf, "tfdt");
  let decode = tfdt ? (view.getUint8(tfdt.at) ? Number(view.getBigUint64(tfdt.at + 4)) : view.getUint32(tfdt.at + 4)) : 0;
  let end = 0;
  for (const trun of boxes(view, traf.at, traf.end)) {
    if (trun.kind !== "trun") continue;
    const version = view.getUint8(trun.at);
    const has = view.getUint32(trun.at) & 0xffffff;
    const count = view.getUint32(trun.at + 4);
    let p = trun.at + 8 + (has & 1 ? 4 : 0);
    const first = has & 4 ? view.getUint32(p) : null;
    if (has & 4) p += 4;
    for (let i = 0; i < count; i += 1) {
      const duration = has & 0x100 ? view.getUint32(p) : usual.duration;
      if (has & 0x100) p += 4;
      if (has & 0x200) p += 4;
      let what = has & 0x400 ? view.getUint32(p) : usual.flags;
      if (has & 0x400) p += 4;
      if (i === 0 && first !== null) what = first;
      const shift = has & 0x800 ? (version ? view.getInt32(p) : view.getUint32(p)) : 0;
      if (has & 0x800) p += 4;
      found.push([decode + shift, what & 0x10000 ? 0 : 1]); // sample_is_non_sync_sample
      end = Math.max(end, decode + shift + duration);
      decode += duration;
    }
  }
  return end;
}
