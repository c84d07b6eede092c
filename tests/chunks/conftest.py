"""Encoded media and a volume with its writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from base.errors import VolumeError
from chunks.records import StoredRecord
from chunks.volume import Volume
from chunks.writer import OpenChunk, VolumeWriter
from tests.chunks.media import Bench, Media, encode_video

_MADE: dict[tuple[str, int], Media] = {}


@pytest.fixture(scope="session")
def media() -> Callable[..., Media]:
    """media(codec, b_frames=0), encoded once."""

    def make(codec: str = "h264", b_frames: int = 0) -> Media:
        key = (codec, b_frames)
        if key not in _MADE:
            _MADE[key] = encode_video(codec, b_frames=b_frames)
        return _MADE[key]

    return make


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    volume = Volume.create(tmp_path / "disk", bytes(16))
    records: list[StoredRecord] = []
    failures: list[tuple[VolumeError, list[OpenChunk]]] = []
    writer = VolumeWriter(
        volume,
        on_commit=records.extend,
        on_failure=lambda error, chunks: failures.append((error, chunks)),
    )
    writer.start()
    yield Bench(volume, writer, records, failures)
    writer.stop()
