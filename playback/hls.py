"""HLS over HTTP: playlists and the segments they name.

Kept true: a segment's bytes never change, so its answer may be kept for ever; a playlist is made anew for each request.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from clips import hls as clips_hls
from index import ChunkRow, Snapshot
from playback.calls import Ask, NoQuery, range_asked
from playback.lanes import chunks_between, newest_chunk, read_media
from playback.schema import RangeQuery

PLAYLIST: Final = "application/vnd.apple.mpegurl"
_FOR_EVER: Final = "private, max-age=31536000, immutable"
_SEQUENCE_MAX: Final = 2**32 - 1


async def vod(ask: Ask[RangeQuery, None]) -> web.Response:
    """GET /streams/{id}/hls/vod.m3u8."""
    start_us, end_us = range_asked(ask.query.start, ask.query.end)
    return _playlist(
        await read_media(
            ask.context,
            ask.id,
            chunks_between(start_us, end_us),
            lambda snapshot, store, stream_id: clips_hls.vod_playlist(snapshot, store, stream_id, start_us, end_us),
        )
    )


async def iframes(ask: Ask[RangeQuery, None]) -> web.Response:
    """GET /streams/{id}/hls/iframes.m3u8."""
    start_us, end_us = range_asked(ask.query.start, ask.query.end)
    return _playlist(
        await read_media(
            ask.context,
            ask.id,
            chunks_between(start_us, end_us),
            lambda snapshot, store, stream_id: clips_hls.key_playlist(snapshot, store, stream_id, start_us, end_us),
        )
    )


async def live(ask: Ask[NoQuery, None]) -> web.Response:
    """GET /streams/{id}/hls/live.m3u8."""
    playlists = ask.context.live_playlists
    text = await read_media(
        ask.context, ask.id, newest_chunk, lambda snapshot, _store, stream_id: playlists.text(snapshot, stream_id)
    )
    return _playlist(text)


async def segment(ask: Ask[NoQuery, None]) -> web.Response:
    """GET /streams/{id}/hls/{segment}."""
    name = ask.request.match_info["segment"]
    body = await read_media(
        ask.context,
        ask.id,
        lambda snapshot, stream_id: _chunk_of(snapshot, stream_id, name),
        lambda snapshot, store, stream_id: clips_hls.file(snapshot, store, stream_id, name),
    )
    return web.Response(body=body, headers={"Content-Type": "video/mp4", "Cache-Control": _FOR_EVER})


def _chunk_of(snapshot: Snapshot, stream_id: int, name: str) -> Iterable[ChunkRow | None]:
    """The chunk that a segment's name tells, so that the volume is known before it is touched."""
    _, _, rest = name.partition("-")
    digits = rest.partition("-")[0]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10) or int(digits) > _SEQUENCE_MAX:
        return ()
    return (snapshot.chunk(stream_id, int(digits)),)


def _playlist(text: str) -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": PLAYLIST, "Cache-Control": "no-cache"})
