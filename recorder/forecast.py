"""How fast footage comes in, and how long there is room for it; from the index alone, so a restart forgets nothing.

Kept true: a rate is bytes stored over the last hours by the footage's own clock, whatever the machine's clock says; a
figure that cannot be told yet is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from base.units import US
from index import Snapshot
from index.expire import Usage, usage
from index.holds import held_bytes, held_ranges
from index.schema import CHUNK_DTYPE, CHUNK_SEALED, TIME_KEY_DTYPE

WINDOW_US: Final = 6 * 3600 * US  # a rate is the mean of so long: a night's quiet is not mistaken for a month's
LEAST_US: Final = 10 * US  # footage of less than that says nothing of a rate
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Facts:
    """What the index says of all streams and volumes at one moment."""

    usage: Mapping[tuple[int, bytes], Usage] = field(default_factory=dict)
    open_bytes: Mapping[bytes, int] = field(default_factory=dict)  # by volume, of chunks that are not sealed
    held: Mapping[tuple[int, bytes], int] = field(default_factory=dict)  # (stream, volume) → bytes
    rates: Mapping[tuple[int, bytes], float] = field(default_factory=dict)  # (stream, volume) → bytes a second
    names: Mapping[int, str] = field(default_factory=dict)
    streams: Mapping[int, tuple[int, int, float]] = field(default_factory=dict)

    def stored(self, volume: bytes) -> int:
        """Bytes of footage on a volume."""
        return sum(one.bytes for (_, where), one in self.usage.items() if where == volume) + self.open_bytes.get(
            volume, 0
        )

    def held_on(self, volume: bytes) -> int:
        """Bytes on a volume that are held."""
        return sum(size for (_, where), size in self.held.items() if where == volume)

    def rate_on(self, volume: bytes) -> float:
        """Bytes a second that come to a volume."""
        return sum(rate for (_, where), rate in self.rates.items() if where == volume)

    def of_stream(self, stream_id: int) -> tuple[int, int, float]:
        """(stored bytes, held bytes, bytes a second) of a stream on all volumes."""
        return self.streams.get(stream_id, (0, 0, 0.0))


class Outlook(NamedTuple):
    """How long a volume's room lasts at the rate that comes in; None where nothing comes in."""

    days_left: float | None  # until footage has to be deleted to make room
    days_kept: float | None  # of footage, when the volume is as full as it may be
    days_held: float | None  # of that, what holds cost


def gather(snapshot: Snapshot, now_us: int) -> Facts:
    """Read it all; some 50 µs a stream."""
    known = usage(snapshot)
    streams = snapshot.streams()
    open_bytes: dict[bytes, int] = {}
    for row in snapshot.open_chunks():
        open_bytes[row.volume] = open_bytes.get(row.volume, 0) + row.size
    newest_us = max([row.end_us for row in snapshot.open_chunks()], default=0)
    newest_us = newest_us or max((snapshot.durable_until(stream.id) for stream in streams), default=0)
    ranges = held_ranges(snapshot, now_us)
    held = {
        (stream.id, volume): size
        for stream in streams
        if stream.name in ranges
        for volume, (_, size) in held_bytes(snapshot, stream.id, ranges[stream.name]).items()
    }
    rates: dict[tuple[int, bytes], float] = {}
    for stream in streams:
        rates.update(_rates(snapshot, stream.id, newest_us))
    names = {stream.id: stream.name for stream in streams}
    return Facts(known, open_bytes, held, rates, names, _by_stream(known, held, rates))


def _by_stream(
    known: Mapping[tuple[int, bytes], Usage],
    held: Mapping[tuple[int, bytes], int],
    rates: Mapping[tuple[int, bytes], float],
) -> dict[int, tuple[int, int, float]]:
    """(stored bytes, held bytes, bytes a second) on all volumes together."""
    found: dict[int, tuple[int, int, float]] = {}
    for key in {*known, *held, *rates}:
        stored, kept, rate = found.get(key[0], (0, 0, 0.0))
        mine = known[key].bytes if key in known else 0
        found[key[0]] = stored + mine, kept + held.get(key, 0), rate + rates.get(key, 0.0)
    return found


def _rates(snapshot: Snapshot, stream_id: int, until_us: int) -> dict[tuple[int, bytes], float]:
    """Bytes a second by volume over the window that ends where the node's footage ends."""
    since_us = until_us - WINDOW_US
    rows = list(snapshot._time_rows(snapshot._db.chunks, stream_id, since_us, until_us))
    if not rows:
        return {}
    starts = np.frombuffer(b"".join([key for key, _ in rows]), TIME_KEY_DTYPE)["start_us"].astype(np.int64)
    table = np.frombuffer(b"".join([value for _, value in rows]), CHUNK_DTYPE)
    ends, sizes = table["end_us"].astype(np.int64), table["size"].astype(np.float64)
    for i in np.flatnonzero(table["flags"] & CHUNK_SEALED == 0):
        row = snapshot._chunk_row(*rows[i])
        ends[i], sizes[i] = row.end_us, row.size
    spans = np.maximum(ends - starts, 1)
    inside = np.clip(np.minimum(ends, until_us) - np.maximum(starts, since_us), 0, None)
    covered_us = until_us - max(since_us, int(starts[0]))
    if covered_us < LEAST_US:
        return {}
    found: dict[tuple[int, bytes], float] = {}
    for volume, size in zip(table["volume"].tolist(), (sizes * inside / spans).tolist(), strict=True):
        found[stream_id, volume] = found.get((stream_id, volume), 0.0) + size * US / covered_us
    return found


def outlook(facts: Facts, volume: bytes, free_bytes: int, floor_bytes: int) -> Outlook:
    """What the facts mean for one volume with so much room above its floor."""
    rate = facts.rate_on(volume) * DAY_S
    if rate <= 0:
        return Outlook(None, None, None)
    room = free_bytes - floor_bytes
    held = facts.held_on(volume)
    return Outlook(
        max(room, 0) / rate, max(room + facts.stored(volume) - held, 0) / rate, held / rate
    )  # fmt: skip
