// A live stream by HLS, for networks that let no WebSocket through: finished segments, some seconds behind.
// Kept true: one request at a time; a segment is handed on once, in order, after the init segment it needs.

import { request, streamUrl } from "../lib/api";
import { type Init, readInit, readPictures } from "../play/boxes";
import { type Piece, readPlaylist } from "../play/source";

const POLL_MS = 1000;
const AT_FIRST = 2; // segments

export interface Taker {
  init: (mime: string, bytes: ArrayBuffer, wall: number, media: number) => void;
  media: (bytes: ArrayBuffer) => void;
  failed: (error: Error) => void;
}

export class HlsFeed {
  private readonly ending = new AbortController();
  private timer = 0;
  private last = "";
  private init: Init | null = null;
  private initUrl = "";

  constructor(private readonly name: string, private readonly taker: Taker) { void this.poll(); }

  stop(): void {
    this.ending.abort();
    clearTimeout(this.timer);
  }

  private async poll(): Promise<void> {
    const { signal } = this.ending;
    try {
      const text = await (await request(streamUrl(this.name, "hls/live.m3u8"), { signal, cache: "no-store" })).text();
      const listed = readPlaylist(text, streamUrl(this.name, "hls/"));
      const seen = listed.findIndex((piece) => piece.url === this.last);
      for (const piece of seen < 0 ? listed.slice(-AT_FIRST) : listed.slice(seen + 1)) await this.take(piece, signal);
    } catch (error) {
      if (!signal.aborted) this.taker.failed(error as Error);
    }
    if (!signal.aborted) this.timer = window.setTimeout(() => void this.poll(), POLL_MS);
  }

  private async take(piece: Piece, signal: AbortSignal): Promise<void> {
    const fresh = piece.init !== this.initUrl;
    if (fresh) this.init = readInit(await (await request(piece.init, { signal })).arrayBuffer());
    const media = await (await request(piece.url, { signal })).arrayBuffer();
    if (fresh) {
      const first = readPictures(media, this.init!).ticks[0] ?? 0;
      this.taker.init(this.init!.mime, this.init!.bytes, piece.start, (first / this.init!.scale) * 1000);
      this.initUrl = piece.init;
    }
    this.last = piece.url;
    this.taker.media(media);
  }
}
