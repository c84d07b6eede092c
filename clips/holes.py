"""An absence that nothing explains is checked against the names of the chunk files before it is believed.

Kept true: a clip never leaves out footage because the index lost a row, or has not read it in yet; directories are only
listed where there is footage on neither side of a hole and no gap was declared.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from base.errors import IndexDamage, VolumeError
from base.units import format_time, utc
from chunks.path import parse_chunk_path
from chunks.records import Gap
from index import ChunkRow, Snapshot, StreamRow
from index.spans import JOIN_US, join_spans, subtract
from index.suspect import PROVEN

SETTLED_S: Final = 60.0  # a file changed since may not be in the index yet
DAY_US: Final = 86_400 * 1_000_000
DAYS_MAX: Final = 32  # folders looked into for one hole


def refuse_unexplained(
    snapshot: Snapshot, roots: Iterable[Path], stream: StreamRow, rows: list[ChunkRow], gaps: list[Gap],
    start_us: int, end_us: int,
) -> None:  # fmt: skip
    """`IndexDamage` when a chunk file lies in a hole, `VolumeError` while chunks are still read in."""
    spans = np.array([(row.start_us, row.end_us) for row in rows], np.int64).reshape(-1, 2)
    holes = list(_holes(join_spans(spans[:, 0], spans[:, 1], JOIN_US), gaps, start_us, end_us))
    if holes and not snapshot.is_read_in():
        raise VolumeError(
            f"the index is made again, and what {stream.name} has from {format_time(holes[0][0])} on may not be in it "
            "yet; ask again in a moment",
            reason="index-incomplete",
        )
    for hole in holes:
        for path, sequence in _files(roots, stream.name, *hole):
            if not snapshot.knows(stream.id, sequence) and time.time() - path.stat().st_mtime > SETTLED_S:
                raise IndexDamage(f"{path} is not in the index; the recorder makes it again", reason=PROVEN)


def _holes(spans: list[tuple[int, int]], gaps: list[Gap], start_us: int, end_us: int) -> Iterator[tuple[int, int]]:
    at_us = start_us
    for begin_us, stop_us in [*spans, (end_us, end_us)]:
        for hole in subtract([(at_us, min(begin_us, end_us))], gaps) if begin_us > at_us else ():
            if hole[1] - hole[0] > JOIN_US:
                yield hole
        at_us = max(at_us, stop_us)


def _files(roots: Iterable[Path], stream: str, start_us: int, end_us: int) -> Iterator[tuple[Path, int]]:
    """Chunk files that begin in the hole."""
    for root in roots:
        for number in range(start_us // DAY_US, min(end_us // DAY_US + 1, start_us // DAY_US + DAYS_MAX)):
            for path in (root / stream / f"{utc(number * DAY_US):%Y-%m-%d}").glob("*.mp4"):
                name = parse_chunk_path(path)
                if name is not None and start_us <= name.start_us + 999 and name.start_us < end_us:
                    yield path, name.sequence
