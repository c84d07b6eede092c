"""Seeking: many streams at one instant, from the index; with `exact`, the very picture, from the chunks.

Kept true: all answers of one call are of one snapshot of the index; an answer that footage still to come may change is
marked provisional; without `exact` no volume is touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from base.errors import UserError
from base.units import format_time
from clips.position import Position, position_at, time_of_media
from index import ChunkRow, KeyFrame, Snapshot
from playback.calls import Ask, NoQuery, time_asked
from playback.lanes import read_media
from playback.schema import SeekBody, SeekResult, SeekView
from playback.streams import find_streams, moment

EXACT_MAX: Final = 64  # streams whose chunks are read in one call
_NEAR_US: Final = 900_000_000


async def seek(ask: Ask[NoQuery, SeekBody]) -> SeekView:
    """POST /seek."""
    body = ask.body
    at_us = await _instant(ask, body)
    if body.exact and (body.streams is None or len(body.streams) > EXACT_MAX):
        raise UserError(f"`exact` reads the chunks of at most {EXACT_MAX} named streams; name them", reason="bad-body")

    def collect(snapshot: Snapshot) -> list[SeekResult]:
        rows = find_streams(snapshot, body.streams)
        found = snapshot.seek_many([row.id for row in rows], at_us)
        until = [snapshot.durable_until(row.id) for row in rows]
        return [_result(row.name, key, until_us, at_us) for row, key, until_us in zip(rows, found, until, strict=True)]

    results = await ask.context.read(collect)
    if body.exact:
        await asyncio.gather(*(_exactly(ask, result, at_us) for result in results if result.time is not None))
    return SeekView(at=format_time(at_us), results=results)


def _result(name: str, key: KeyFrame | None, until_us: int, at_us: int) -> SeekResult:
    known = SeekResult(name, durable_until=moment(until_us), provisional=at_us >= until_us)
    if key is not None:
        known.time, known.chunk, known.offset = format_time(key.time_us), key.sequence, key.offset
    return known


async def _instant(ask: Ask[NoQuery, SeekBody], body: SeekBody) -> int:
    """The wall time asked for, from `at`, or from a media time of the one stream named."""
    if (body.at is None) == (body.media_90k is None):
        raise UserError("give either at or media_90k", reason="bad-body")
    if body.at is not None:
        return time_asked(body.at, "at")
    if body.streams is None or len(body.streams) != 1:
        raise UserError("a media time is one stream's own; name exactly one in streams", reason="bad-body")
    media_90k = body.media_90k or 0
    near_us = media_90k * 100 // 9

    def pick(snapshot: Snapshot, stream_id: int) -> Iterable[ChunkRow | None]:
        return snapshot.chunks(stream_id, near_us - _NEAR_US, near_us + _NEAR_US)

    return await read_media(
        ask.context, body.streams[0], pick, lambda snapshot, store, id_: time_of_media(snapshot, store, id_, media_90k)
    )


async def _exactly(ask: Ask[NoQuery, SeekBody], result: SeekResult, at_us: int) -> None:
    """Put the picture's own times into a result."""

    def pick(snapshot: Snapshot, _id: int) -> Iterable[ChunkRow | None]:
        return (snapshot.chunk(_id, result.chunk or 0),)

    def read(snapshot: Snapshot, store: object, stream_id: int) -> Position | None:
        return position_at(snapshot, ask.context.store, stream_id, at_us)

    found = await read_media(ask.context, result.stream, pick, read)
    if found is not None:
        result.frame, result.media_90k = format_time(found.time_us), found.media_90k
