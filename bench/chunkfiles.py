"""Archives of many chunks on little disk: heads and frame tables are whole and true, media are holes in the files."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from base.media import StreamConfig
from chunks.format import UUID_BOX, TableBuilder, pack_header
from chunks.path import chunk_path
from chunks.records import ChunkHead, ClockState
from chunks.volume import Volume
from native.moof import SEAL_SIZE
from tests.chunks.media import build, encode_video

START_US = 1_770_000_000_000_000
STREAM_AT, WALL_AT = UUID_BOX.size + 4, UUID_BOX.size + 32  # stream and sequence, wall and end, in a seal


@dataclass(frozen=True)
class Shape:
    """Chunks of `fragments` half seconds of 25 pictures a second, in files of `chunk_bytes`."""

    fragments: int = 256
    chunk_bytes: int = 64 << 20

    @property
    def chunk_us(self) -> int:
        """What a chunk holds."""
        return self.fragments * 500_000


class Archive:
    """Writes sealed chunks; a chunk's table is a pattern's, with this chunk's numbers and times put in."""

    def __init__(self, volume: Volume, shape: Shape) -> None:
        self._volume = volume
        self._shape = shape
        media = encode_video("h264", pictures=50)
        self._config: StreamConfig = media.config
        self._records = self._pattern([one for one in build(media, fragment_90k=45_000) if one.video_samples])

    def _pattern(self, made: list) -> list[tuple[bytes, int, bool]]:  # type: ignore[type-arg]
        """(table record, offset, key) of each fragment of a chunk that begins at time 0."""
        header = len(pack_header(self._head(1, 1, START_US), self._config))
        step = (self._shape.chunk_bytes - header - (1 << 20)) // self._shape.fragments
        found = []
        for number in range(self._shape.fragments):
            fragment, offset = made[number % 4], header + number * step
            fragment.prepare(
                number=number + 1, stream_id=1, sequence=1, video_base_90k=made[0].first_dts_90k, audio_base=0,
                wall_us=number * 500_000, end_us=(number + 1) * 500_000, camera_us=0, gap_start_us=0, gap_end_us=0,
                gap_cause=0, gap_packets=0, seed=0,
            )  # fmt: skip
            found.append((bytes(fragment.table_record(offset)), offset, bool(fragment.key)))
        return found

    def _head(self, stream_id: int, sequence: int, start_us: int) -> ChunkHead:
        return ChunkHead(
            node=self._volume.node, volume=self._volume.id, opening=os.urandom(16), stream_id=stream_id,
            stream_name=f"cam{stream_id}.main", sequence=sequence, epoch=1, run=1, start_us=start_us, monotonic_us=1,
            clock_state=ClockState.SYNCED, clock_error_us=0, origin_90k=start_us * 9 // 100,
        )  # fmt: skip

    def write(self, stream_id: int, sequence: int) -> Path:
        """One sealed chunk."""
        start_us = START_US + sequence * self._shape.chunk_us
        head = self._head(stream_id, sequence, start_us)
        header = pack_header(head, self._config)
        table = TableBuilder()
        for record, offset, key in self._patched(stream_id, sequence, start_us):
            table.add(record, offset, key=key)
        end = self._shape.chunk_bytes - (1 << 20)
        footer = table.footer(head, end, start_us + self._shape.chunk_us)
        path = chunk_path(self._volume.root, head.stream_name, start_us, sequence)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(header)
            file.seek(end)
            file.write(footer)
        return path

    def _patched(self, stream_id: int, sequence: int, start_us: int) -> Iterator[tuple[bytes, int, bool]]:
        joined: NDArray[np.uint8] = np.frombuffer(b"".join([r for r, _, _ in self._records]), np.uint8).copy()
        ends = np.cumsum([len(record) for record, _, _ in self._records])
        seals = ends - SEAL_SIZE
        joined[seals[:, None] + STREAM_AT + np.arange(8)] = np.frombuffer(struct.pack(">II", stream_id, sequence), "u1")
        times = start_us + np.arange(len(seals) + 1, dtype=">i8") * 500_000
        both = np.stack([times[:-1], times[1:]], axis=1).astype(">i8")
        joined[seals[:, None] + WALL_AT + np.arange(16)] = both.view("u1").reshape(len(seals), 16)
        data, at = joined.tobytes(), 0
        for (_, offset, key), end in zip(self._records, ends.tolist(), strict=True):
            yield data[at:end], offset, key
            at = end
