// Where pieces of a recording come from: HLS segments as recorded, or previews in H.264 where the codec does not play.
// Kept true: a piece's bytes never change once it is listed; what is listed is asked for in windows of some minutes.

import { clipUrl, Problem, request, streamUrl } from "../lib/api";
import { formatTime, MINUTE, parseTime, SECOND } from "../lib/time";
import { firstFragment, type Init, readInit } from "./boxes";

export interface Piece { url: string; init: string; start: number; end: number }

export interface Loaded { init: Init; media: ArrayBuffer; start: number }

export interface Source {
  /** The piece that covers a moment, or the next one that begins before `until`; undefined: nothing there (now). */
  find(at: number, until: number): Piece | undefined;
  /** Makes sure that [start, end) is known; true when it asked the server. */
  learn(start: number, end: number, signal: AbortSignal): Promise<boolean>;
  load(piece: Piece, signal: AbortSignal): Promise<Loaded>;
}

const BEFORE = 30 * SECOND;
const AFTER = 5 * MINUTE;
const AGAIN = 1500;

export class HlsSource implements Source {
  private pieces: Piece[] = [];
  private known = { start: Infinity, end: -Infinity, asked: 0 };
  private readonly inits = new Map<string, Promise<Init>>();

  constructor(private readonly name: string, private readonly edge: () => number) {}

  find(at: number, until: number): Piece | undefined {
    return this.pieces.find((piece) => piece.end > at && piece.start < until);
  }

  async learn(start: number, end: number, signal: AbortSignal): Promise<boolean> {
    const { known } = this;
    const listed = this.pieces.at(-1)?.end ?? -Infinity;
    const grows = known.end > this.edge() - 10 * SECOND && end > listed; // the newest pieces are listed once they are finished
    const covered = known.start <= start && known.end >= Math.min(end, this.edge());
    if (covered && !(grows && performance.now() - known.asked > AGAIN)) return false;
    const [from, to] = [Math.max(0, start - BEFORE), end + AFTER];
    const url = streamUrl(this.name, "hls/vod.m3u8", { start: formatTime(from), end: formatTime(to) });
    let text = "";
    try {
      text = await (await request(url, { signal })).text();
    } catch (error) {
      if (!(error instanceof Problem) || error.reason !== "no-footage") throw error;
    }
    this.pieces = readPlaylist(text, streamUrl(this.name, "hls/"));
    this.known = { start: from, end: to, asked: performance.now() };
    return true;
  }

  async load(piece: Piece, signal: AbortSignal): Promise<Loaded> {
    let init = this.inits.get(piece.init);
    if (!init) {
      init = request(piece.init).then(async (answer) => readInit(await answer.arrayBuffer()));
      init.catch(() => this.inits.delete(piece.init));
      this.inits.set(piece.init, init);
    }
    const [head, media] = await Promise.all([init, request(piece.url, { signal }).then((answer) => answer.arrayBuffer())]);
    return { init: head, media, start: piece.start };
  }
}

export function readPlaylist(text: string, base: string): Piece[] {
  const pieces: Piece[] = [];
  let [init, start, length, gap] = ["", NaN, 0, false];
  for (const line of text.split("\n")) {
    if (line.startsWith("#EXT-X-MAP:")) init = base + (/URI="([^"]+)"/.exec(line)?.[1] ?? "");
    else if (line.startsWith("#EXT-X-PROGRAM-DATE-TIME:")) start = parseTime(line.slice(25));
    else if (line.startsWith("#EXTINF:")) length = Number.parseFloat(line.slice(8)) * 1000;
    else if (line.startsWith("#EXT-X-GAP")) gap = true;
    else if (line && !line.startsWith("#")) {
      if (!gap) pieces.push({ url: base + line, init, start, end: start + length });
      gap = false;
    }
  }
  return pieces;
}

const PREVIEW = 6 * SECOND;
const PREVIEW_WIDTH_PX = 960;

/** H.264 made by the server on the way, in pieces of some seconds; gaps are found by its refusal. */
export class PreviewSource implements Source {
  private readonly empty = new Set<number>();

  constructor(private readonly name: string, private readonly edge: () => number) {}

  find(at: number, until: number): Piece | undefined {
    for (let slot = Math.floor(at / PREVIEW) * PREVIEW; slot < until; slot += PREVIEW) {
      if (this.empty.has(slot) || slot + PREVIEW > this.edge()) continue;
      const url = clipUrl(this.name, slot, slot + PREVIEW, { transcode: "h264", width: PREVIEW_WIDTH_PX });
      return { url, init: "", start: slot, end: slot + PREVIEW };
    }
    return undefined;
  }

  learn(): Promise<boolean> { return Promise.resolve(false); }

  async load(piece: Piece, signal: AbortSignal): Promise<Loaded> {
    try {
      const answer = await request(piece.url, { signal });
      const bytes = await answer.arrayBuffer();
      const head = firstFragment(bytes);
      return { init: readInit(bytes.slice(0, head)), media: bytes.slice(head), start: parseTime(answer.headers.get("Keyreel-Start")) };
    } catch (error) {
      if (error instanceof Problem && error.reason === "no-footage") this.empty.add(piece.start);
      throw error;
    }
  }
}
