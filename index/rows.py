"""What the index answers with: plain values, detached from the transaction they were read in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from chunks.records import Gap
from index.spans import join_gaps, join_spans


class StreamRow(NamedTuple):
    """One recorded quality of a camera; `name` is `<camera>.<quality>`."""

    id: int
    name: str

    @property
    def camera(self) -> str:
        """Id of the camera, the name up to its last dot."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def quality(self) -> str:
        """`main` or `sub`."""
        return self.name.rpartition(".")[2]


class ChunkRow(NamedTuple):
    """What the index knows of one chunk; of an open one, only what is on stable storage.

    `end_us`, `size`, `samples`, `fragments` and `media_bytes` grow until the chunk is sealed; till then `table_offset`
    is 0.
    """

    stream_id: int
    sequence: int
    epoch: int
    run: int
    volume: bytes
    start_us: int
    end_us: int
    size: int
    sealed: bool
    origin_90k: int
    samples: int
    fragments: int
    media_bytes: int
    table_offset: int


class KeyFrame(NamedTuple):
    """A key frame and where its fragment begins: byte `offset` of the chunk `sequence`."""

    time_us: int
    sequence: int
    offset: int


class StreamEnd(NamedTuple):
    """Where a stream goes on whose last chunk was deleted."""

    sequence: int = 0
    epoch: int = 0
    run: int = 0
    end_us: int = 0


class Timeline(NamedTuple):
    """Recorded spans [start_us, end_us) and declared gaps of one stream, both ascending and disjoint."""

    spans: list[tuple[int, int]]
    gaps: list[Gap]
    durable_until_us: int

    def coarser(self, resolution_us: int) -> Timeline:
        """Spans and gaps nearer to each other than `resolution_us` joined; a joined gap has the longest one's cause."""
        flat = np.array(self.spans, np.int64).reshape(-1, 2)
        spans = join_spans(flat[:, 0], flat[:, 1], resolution_us)
        return self._replace(spans=spans, gaps=join_gaps(self.gaps, resolution_us))
