from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from base.media import StreamConfig, VideoConfig
from chunks.records import ChunkHead, ClockState, Gap, GapCause, StoredRecord
from chunks.volume import Volume
from chunks.writer import VolumeWriter
from index import Index
from native.fragment import Fragment, FragmentBuilder

SPS = bytes.fromhex("6742c01eda0280bfe5c044000003000400000300f03c58ba80")
PPS = bytes.fromhex("68ce3c80")
CONFIG = StreamConfig(VideoConfig("h264", (), (SPS,), (PPS,)))
FRAME_90K = 9000  # 10 pictures a second
GOP = 20
Record = Callable[..., list[StoredRecord]]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.open(tmp_path / "index", create=True) as opened:
        yield opened


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume.create(tmp_path / "media", b"n" * 16)


def nal(kind: int, number: int) -> bytes:
    body = bytes([kind, 0x80]) + number.to_bytes(4, "big") * 40
    return len(body).to_bytes(4, "big") + body


def fragments(seconds: int) -> list[Fragment]:
    made: list[Fragment] = []
    builder = FragmentBuilder("h264", made.append, parameter_sets=(SPS, PPS))
    for i in range(seconds * 10):
        builder.push_video(i * FRAME_90K, i * 100_000, nal(0x65 if i % GOP == 0 else 0x41, i))
    builder.finish()
    return made


@pytest.fixture
def record(volume: Volume) -> Record:
    """Writes a real chunk file; returns the records that its writer committed."""

    def write(
        stream_id: int,
        sequence: int,
        start_us: int,
        seconds: int,
        *,
        seal: bool = True,
        gap_us: int = 0,
        gap: Gap | None = None,
        on: Volume = volume,
    ) -> list[StoredRecord]:
        committed: list[StoredRecord] = []
        writer = VolumeWriter(on, on_commit=committed.extend, on_failure=lambda error, chunks: None)
        head = ChunkHead(
            on.node, on.id, bytes([stream_id, sequence]) * 8, stream_id, f"cam{stream_id}.main", sequence, 1, 1,
            start_us, 1, ClockState.SYNCED, 0, start_us * 9 // 100, gap_us, GapCause.OFFLINE,
        )  # fmt: skip
        writer.start()
        chunk = writer.open_chunk(head, CONFIG)
        for fragment in fragments(seconds):
            at_us = start_us + fragment.first_dts_90k * 100 // 9
            end_us = start_us + fragment.end_dts_90k * 100 // 9
            assert writer.append(
                chunk, fragment, start_us=at_us, end_us=end_us, video_base_90k=0, audio_base=0, gap=gap
            )
            gap = None
        if seal:
            writer.seal(chunk)
        writer.stop()
        assert writer.error is None
        return committed

    return write
