"""HLS over HTTP: playlists and the files they name.

Kept true: a segment's bytes never change, so its answer may be kept for ever; a playlist is made anew for each request;
a blocking reload, and a part asked for before it is stored, wait without a thread, for a bounded time, and count as a
live view.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from base.errors import NotFound, UserError
from clips import hls as clips_hls
from clips import multivariant as clips_multivariant
from clips.hls import KeyFile
from clips.hlslive import LiveText
from clips.segments import SEGMENT_US
from index import Snapshot
from playback.calls import Ask, NoQuery, range_asked
from playback.context import Context
from playback.lanes import chunks_between, find_lane, read_media
from playback.media import send_file
from playback.problems import Problem
from playback.schema import LiveHlsQuery, MultivariantQuery, RangeQuery
from playback.streams import find_stream

PLAYLIST: Final = "application/vnd.apple.mpegurl"
_FOR_EVER: Final = "private, max-age=31536000, immutable"
_SEQUENCE_MAX: Final = 2**32 - 1
_BLOCKED_S: Final = 3 * SEGMENT_US / 1e6  # RFC 8216bis §6.2.5.2: three target durations, then 503
_LOOK_S: Final = 0.1
_AHEAD_MAX: Final = 2  # segments beyond the newest that may be waited for


async def vod(ask: Ask[RangeQuery, None]) -> web.Response:
    """GET /streams/{id}/hls/vod.m3u8: from the index alone, no volume is touched."""
    start_us, end_us = range_asked(ask.query.start, ask.query.end)

    def make(snapshot: Snapshot) -> bytes:
        stream_id = find_stream(snapshot, ask.id).id
        return clips_hls.vod_playlist(snapshot, stream_id, start_us, end_us, ask.context.store)

    return _playlist(await ask.context.read(make))


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


async def multivariant(ask: Ask[MultivariantQuery, None]) -> web.Response:
    """GET /streams/{id}/hls/multivariant.m3u8: from the index alone."""
    start, end = ask.query.start, ask.query.end
    if (start is None) != (end is None):
        raise UserError("give both start and end for a range, or neither for the live stream", reason="bad-query")
    asked = range_asked(start, end) if start is not None and end is not None else None
    return _playlist(
        await ask.context.read(
            lambda snapshot: clips_multivariant.multivariant(snapshot, find_stream(snapshot, ask.id).id, asked)
        )
    )


async def live(ask: Ask[LiveHlsQuery, None]) -> web.Response:
    """GET /streams/{id}/hls/live.m3u8; with `_HLS_msn` the answer waits until that segment or part is in it."""
    number, part = ask.query.msn, ask.query.part
    if number is None:
        if part is not None:
            raise UserError("_HLS_part needs _HLS_msn; give both", reason="bad-query")
        return _playlist((await _live_text(ask.context, ask.id)).text)
    with ask.context.live.hold():
        try:
            async with asyncio.timeout(_BLOCKED_S):
                return await _awaited(ask, number, part)
        except TimeoutError:
            detail = f"segment {number} has not come within {_BLOCKED_S:.0f} s; the camera may be gone, ask without it"
            raise Problem(503, "no-news", detail, retry_after_s=5) from None


async def _awaited(ask: Ask[LiveHlsQuery, None], number: int, part: int | None) -> web.Response:
    """The playlist once it has what was asked for; looked for anew only when the stream has grown."""
    size: tuple[int, int] | None = None
    while True:
        grown = await ask.context.read(lambda snapshot: _size(snapshot, ask.id))
        if grown != size:
            size = grown
            found = await _live_text(ask.context, ask.id)
            if number > found.growing + _AHEAD_MAX:
                raise UserError(f"_HLS_msn {number} is too far ahead of {found.growing}; reload", reason="bad-query")
            if found.growing > number or (part is not None and found.growing == number and found.parts > part):
                return _playlist(found.text)
        await asyncio.sleep(_LOOK_S)


def _size(snapshot: Snapshot, name: str) -> tuple[int, int]:
    """Chunk and bytes a stream has reached."""
    last = snapshot.last_chunk(find_stream(snapshot, name).id)
    return (last.sequence, last.size + last.sealed) if last else (0, 0)


async def _live_text(context: Context, name: str) -> LiveText:
    playlists = context.live_playlists
    return await read_media(
        context, name, playlists.rows, lambda snapshot, _store, stream_id: playlists.text(snapshot, stream_id)
    )


async def segment(ask: Ask[NoQuery, None]) -> web.StreamResponse:
    """GET /streams/{id}/hls/{segment}."""
    name = ask.request.match_info["segment"]
    if name.startswith("keys-"):
        return await _key_file(ask, name)
    if name.startswith("part-"):
        await _stored(ask, name)
    body = await read_media(
        ask.context,
        ask.id,
        lambda snapshot, stream_id: [snapshot.chunk(stream_id, n) for n in clips_hls.chunks_named(name)],
        lambda snapshot, store, stream_id: clips_hls.file(snapshot, store, stream_id, name),
    )
    return web.Response(body=body, headers={"Content-Type": "video/mp4", "Cache-Control": _FOR_EVER})


async def _stored(ask: Ask[NoQuery, None], name: str) -> None:
    """Return when a hinted part is stored, or its chunk has ended without it."""

    def is_to_come(snapshot: Snapshot) -> bool:
        return clips_hls.is_to_come(snapshot, find_stream(snapshot, ask.id).id, name)

    if not await ask.context.read(is_to_come):
        return
    with ask.context.live.hold():
        try:
            async with asyncio.timeout(_BLOCKED_S):
                while await ask.context.read(is_to_come):
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            detail = f"part {name} has not come within {_BLOCKED_S:.0f} s; the camera may be gone, reload the playlist"
            raise Problem(503, "no-news", detail, retry_after_s=5) from None


async def _key_file(ask: Ask[NoQuery, None], name: str) -> web.StreamResponse:
    """The key frames of a chunk, by byte range."""
    digits, dot, ending = name.removeprefix("keys-").partition(".")
    if not (_is_sequence(digits) and len(digits) == 10 and dot and ending == "m4s"):
        raise NotFound(f"{name[:80]!r} is no segment's name; take names from a playlist")
    sequence = int(digits)
    stream_id, lane = await find_lane(
        ask.context, ask.id, lambda snapshot, stream_id: (snapshot.chunk(stream_id, sequence),)
    )

    def build() -> KeyFile:
        with ask.context.index.read() as snapshot:
            return clips_hls.key_file(snapshot, ask.context.store, stream_id, sequence)

    file = await ask.context.read_media(lane, build)
    kept = _FOR_EVER if file.final else "private, no-cache"
    with ask.context.clips.hold():
        headers = {"ETag": file.etag, "Accept-Ranges": "bytes", "Cache-Control": kept}
        return await send_file(ask, file, lane, headers)


def _is_sequence(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) <= _SEQUENCE_MAX


def _playlist(text: bytes) -> web.Response:
    return web.Response(body=text, headers={"Content-Type": PLAYLIST, "Cache-Control": "no-cache"})
