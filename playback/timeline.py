"""What is recorded and what is missing: of one stream, or of many at once.

Kept true: all streams of one answer are of one snapshot of the index; an answer's size is bounded whatever range is
asked, by telling it more coarsely and saying how coarsely.
"""

from __future__ import annotations

from typing import Final

import msgspec

from base.clock import wall_us
from base.units import US, format_time
from index import Snapshot, StreamRow
from index.holds import holds
from playback.calls import Ask, NoQuery, range_asked
from playback.schema import (
    GapView,
    HeldView,
    SpanView,
    StreamTimeline,
    TimelineBody,
    TimelineQuery,
    TimelinesView,
    TimelineView,
)
from playback.streams import find_stream, find_streams, moment

SPANS_MAX: Final = 4000  # spans and gaps of one stream's answer
ALL_SPANS_MAX: Final = 100_000  # of an answer about many, some 10 MB; each has an equal share
SHARE_MIN: Final = 16  # however many streams are asked for


async def timeline(ask: Ask[TimelineQuery, None]) -> TimelineView:
    """GET /streams/{id}/timeline."""
    start_us, end_us = range_asked(ask.query.start, ask.query.end)
    finest_us = round(ask.query.resolution * US)

    def collect(snapshot: Snapshot) -> TimelineView:
        told = _told(snapshot, find_stream(snapshot, ask.id), (start_us, end_us), finest_us, SPANS_MAX)
        told.holds = [
            HeldView(hold.id, format_time(hold.start_us), format_time(hold.end_us))
            for hold in holds(snapshot, wall_us())
            if ask.id in hold.streams and hold.start_us < end_us and hold.end_us > start_us
        ]
        known = msgspec.structs.asdict(told)
        return TimelineView(start=format_time(start_us), end=format_time(end_us), **known)

    return await ask.context.read(collect)


async def timelines(ask: Ask[NoQuery, TimelineBody]) -> TimelinesView:
    """POST /timeline."""
    body = ask.body
    start_us, end_us = range_asked(body.start, body.end)
    finest_us = round(body.resolution * US)

    def collect(snapshot: Snapshot) -> list[StreamTimeline]:
        rows = find_streams(snapshot, body.streams)
        most = max(SHARE_MIN, min(SPANS_MAX, ALL_SPANS_MAX // max(len(rows), 1)))
        return [_told(snapshot, row, (start_us, end_us), finest_us, most) for row in rows]

    found = await ask.context.read(collect)
    return TimelinesView(start=format_time(start_us), end=format_time(end_us), timelines=found)


def _told(snapshot: Snapshot, row: StreamRow, asked: tuple[int, int], finest_us: int, most: int) -> StreamTimeline:
    """One stream's part, of at most about `most` spans and gaps."""
    start_us, end_us = asked
    used_us = finest_us
    found = snapshot.timeline(row.id, start_us, end_us, used_us)
    if len(found.spans) + len(found.gaps) > most:
        used_us = max(used_us, (end_us - start_us) // (most // 4))
        found = found.coarser(used_us)
    return StreamTimeline(
        stream=row.name,
        resolution=used_us / US,
        durable_until=moment(found.durable_until_us),
        spans=[SpanView(format_time(start), format_time(end)) for start, end in found.spans],
        gaps=[
            GapView(format_time(gap.start_us), format_time(gap.end_us), gap.cause.word, gap.packets)
            for gap in found.gaps
        ],
    )
