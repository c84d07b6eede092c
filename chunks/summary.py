"""What the index holds of one chunk, read from the chunk file at once and without its media.

Kept true: nothing is written; the sum of a chunk's records and its summary say the same (`Transaction.apply` and
`Transaction.take_in` leave the same rows); of a chunk that is not sealed, what its fragments' boxes prove.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from base.errors import DamageError
from base.media import StreamConfig
from chunks.format import gap_cause
from chunks.frametable import FrameTable
from chunks.reader import read_footer, read_header
from chunks.records import ChunkHead, Gap
from chunks.walk import sound_steps, walk_fragments


@dataclass(frozen=True, slots=True)
class ChunkSummary:
    """A chunk as it is now; `fragments` is the number of the last one, `table_offset` 0 while it is not sealed."""

    head: ChunkHead
    config: StreamConfig
    header_bytes: int
    size: int
    end_us: int
    fragments: int
    samples: int
    media_bytes: int
    table_offset: int
    keys: list[tuple[int, int]]  # (wall time, offset of the fragment) of each key frame
    gaps: list[Gap]

    @property
    def sealed(self) -> bool:
        """The chunk will not change any more."""
        return self.table_offset > 0


def summarize(path: Path, upto: int | None = None) -> ChunkSummary:
    """Read a chunk's end, or walk its boxes when it has none; `upto`: bytes of it that count, known to be durable."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = read_header(handle, path)
        size = os.fstat(handle).st_size
        try:
            end = read_footer(handle, header.head, size) if upto is None or upto >= size else None
        except DamageError:
            end = None
        if end is not None:
            table, table_offset, end_us = FrameTable.from_records(end.records), end.offset, end.end_us
        else:
            limit = size if upto is None else min(size, upto)
            steps = sound_steps(list(walk_fragments(handle, header.head, header.size, limit, upto or 0)))
            table, table_offset, end_us = FrameTable.from_records(b"".join([step.record for step in steps])), 0, 0
            size = table.end or header.size
    finally:
        os.close(handle)
    head = header.head
    key = table.key
    return ChunkSummary(
        head, header.config, header.size, size,
        max(end_us, int(table.end_us.max(initial=head.start_us))),
        int(table.number[-1]) if len(table) else 0,
        int(table.video_count.sum()), int(table.media_bytes.sum()), table_offset,
        list(zip(table.wall_us[key].tolist(), table.offset[key].tolist(), strict=True)),
        _gaps(head.stream_id, table),
    )  # fmt: skip


def _gaps(stream_id: int, table: FrameTable) -> list[Gap]:
    told = table.gap_end_us > table.gap_start_us
    columns = (table.gap_start_us, table.gap_end_us, table.gap_cause, table.gap_packets)
    rows = zip(*(column[told].tolist() for column in columns), strict=True)
    return [Gap(stream_id, start, end, gap_cause(cause), packets) for start, end, cause, packets in rows]
