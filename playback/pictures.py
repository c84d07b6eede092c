"""`frame.jpg` and `contact.jpg`: single moments and a range at a glance, as JPEG.

Kept true: pictures are decoded in threads of their own, `api.pictures_max` at a time per volume; an answer that may
still change is not kept by anyone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from base.clock import wall_us
from base.errors import UserError
from base.units import US, format_time
from clips.contact import Sheet, cells, contact_sheet
from clips.picture import frame_jpeg
from clips.store import ChunkStore
from index import ChunkRow, Snapshot
from playback.calls import Ask, range_asked, time_asked
from playback.lanes import read_media
from playback.schema import ContactQuery, FrameQuery

_SETTLED_US: Final = 60 * US  # a picture older than this is the one for its moment for ever
_SHEET_PIXELS_MAX: Final = 16_384 * 1024


async def frame(ask: Ask[FrameQuery, None]) -> web.Response:
    """GET /streams/{id}/frame.jpg."""
    query = ask.query
    at_us = None if query.at is None else time_asked(query.at, "at")

    def make(snapshot: Snapshot, store: ChunkStore, stream_id: int) -> tuple[bytes, int]:
        moment_us = snapshot.durable_until(stream_id) if at_us is None else at_us
        return frame_jpeg(snapshot, store, stream_id, moment_us, exact=query.exact, width=query.width)

    def pick(snapshot: Snapshot, stream_id: int) -> Iterable[ChunkRow | None]:
        key = snapshot.seek(stream_id, snapshot.durable_until(stream_id) if at_us is None else at_us)
        return () if key is None else (snapshot.chunk(stream_id, key.sequence),)

    jpeg, time_us = await read_media(
        ask.context, ask.id, pick, make, beside="pictures", threads=ask.context.api.pictures_max
    )
    return _jpeg(jpeg, at_us, {"Keyreel-Time": format_time(time_us)})


async def contact(ask: Ask[ContactQuery, None]) -> web.Response:
    """GET /streams/{id}/contact.jpg."""
    query = ask.query
    asked = range_asked(query.start, query.end)
    columns = query.columns or min(query.count, max(1, round(query.count**0.5 * 1.2)))
    if query.count * query.width * query.width > _SHEET_PIXELS_MAX:
        raise UserError("the sheet would be too large; ask for fewer or narrower pictures", reason="bad-query")

    def make(snapshot: Snapshot, store: ChunkStore, stream_id: int) -> Sheet:
        return contact_sheet(snapshot, store, stream_id, asked, query.count, columns, query.width)

    def pick(snapshot: Snapshot, stream_id: int) -> Iterable[ChunkRow | None]:
        return [
            snapshot.chunk(stream_id, key.sequence) for key in cells(snapshot, stream_id, *asked, query.count) if key
        ]

    sheet = await read_media(ask.context, ask.id, pick, make, beside="pictures", threads=ask.context.api.pictures_max)
    told = ",".join("-" if time_us is None else format_time(time_us) for time_us in sheet.times_us)
    return _jpeg(sheet.jpeg, asked[1], {"Keyreel-Times": told, "Keyreel-Columns": str(sheet.columns)})


def _jpeg(jpeg: bytes, until_us: int | None, headers: dict[str, str]) -> web.Response:
    settled = until_us is not None and until_us < wall_us() - _SETTLED_US
    kept = "private, max-age=3600" if settled else "private, no-cache"
    return web.Response(body=jpeg, headers={"Content-Type": "image/jpeg", "Cache-Control": kept, **headers})
