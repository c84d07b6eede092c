"""Seek latency and size of the index: how fast `Snapshot.seek` is, and how many bytes a key frame costs.

Builds an index of N key frames through the same packing and rows as recording does: streams × chunks of 10 minutes,
GOPs of 2 s on average (some short, some of 20 s), 4 Mbit/s, times that jitter as cameras' do.

    pytest bench/bench_seek.py                       2 million key frames
    pytest bench/bench_seek.py --full                50 million key frames
    pytest bench/bench_seek.py --key-frames 130e6 --streams 200 --index-dir DIR    (an index already there is used again)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from base.media import StreamConfig, VideoConfig
from chunks.records import ChunkHead, ChunkOpened, ChunkSealed, ClockState
from index import Index
from index.schema import CHUNK, CHUNK_SEALED, SEQUENCE_KEY, START, TIME_KEY
from native import keyblock

BEGIN_US = 1_790_000_000_000_000
CHUNK_US = 600_000_000
BYTES_PER_US = 0.5  # 4 Mbit/s
CONFIG = StreamConfig(VideoConfig("h264", (), (b"\x67" + bytes(30),), (b"\x68" + bytes(6),)))
VOLUME = bytes(16)


@dataclass
class Archive:
    index: Index
    streams: int
    key_frames: int
    end_us: int
    build_s: float


def head(stream_id: int, sequence: int, start_us: int) -> ChunkHead:
    name = f"cam{stream_id:05}.main"
    return ChunkHead(
        *(
            VOLUME,
            VOLUME,
            VOLUME,
            stream_id,
            name,
            sequence,
            1,
            1,
            start_us,
            0,
            ClockState.SYNCED,
            0,
            start_us * 9 // 100,
        )
    )


def gops(rng: np.random.Generator, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Start times and offsets of about `count` GOPs: 95 % of 2 s, the rest 0.2 to 20 s, sizes ± 20 %."""
    lengths = np.where(rng.random(count) < 0.95, 2_000_000, rng.integers(200_000, 3_800_000, count))
    lengths += np.rint(rng.normal(0, 1_500, count)).astype(np.int64)
    sizes = (lengths * BYTES_PER_US * rng.normal(1, 0.2, count).clip(0.3, 2)).astype(np.int64)
    return np.concatenate(([0], lengths.cumsum())), np.concatenate(([900], 900 + sizes.cumsum()))


def build(index: Index, key_frames: int, streams: int) -> None:
    """Chunk after chunk, all streams in turn, as recording fills the index; every chunk is sealed."""
    rng = np.random.default_rng(7)
    per_chunk = CHUNK_US // 2_000_000
    starts = dict.fromkeys(range(1, streams + 1), BEGIN_US)
    for sequence in range(1, max(1, round(key_frames / streams / per_chunk)) + 1):
        with index.write() as transaction:
            for stream_id, start_us in starts.items():
                times, offsets = gops(rng, per_chunk)
                put_chunk(transaction, stream_id, sequence, start_us, times, offsets)
                starts[stream_id] = start_us + int(times[-1])


def put_chunk(transaction: Any, stream_id: int, sequence: int, start_us: int, times: Any, offsets: Any) -> None:
    if sequence == 1:
        transaction.apply([ChunkOpened(head(stream_id, 1, start_us), CONFIG, 900), ChunkSealed(stream_id, 1, 0, 0, 0)])
    txn, databases = transaction._txn, transaction._db
    frames = zip((start_us + times[:-1]).tolist(), offsets[:-1].tolist(), strict=True)
    for block_us, block in keyblock.extend(sequence, 0, b"", frames):
        txn.put(TIME_KEY.pack(stream_id, block_us), block, db=databases.key_frames)
    end_us, size = start_us + int(times[-1]), int(offsets[-1])
    row = CHUNK.pack(
        *(sequence, 1, 1, CHUNK_SEALED, VOLUME, end_us, size + 9000, start_us * 9 // 100),
        *(len(times) * 50, 600, size, size),
    )
    txn.put(TIME_KEY.pack(stream_id, start_us), row, db=databases.chunks)
    txn.put(SEQUENCE_KEY.pack(stream_id, sequence), START.pack(start_us), db=databases.sequences)


@pytest.fixture(scope="session")
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    option = request.config.getoption
    key_frames = int(float(option("--key-frames", None) or (50e6 if option("--full", False) else 2e6)))
    streams = int(option("--streams", None) or 100)
    folder = Path(option("--index-dir", None) or tmp_path_factory.mktemp("seek"))
    is_there = (folder / "data.mdb").exists()
    with Index.open(folder, create=True) as index:
        begin = time.perf_counter()
        if not is_there:
            build(index, key_frames, streams)
        build_s = time.perf_counter() - begin
        with index.read() as snapshot:
            count = sum(len(snapshot.key_frames(row.id, 0, 2**62)) for row in snapshot.streams())
            last = snapshot.last_chunk(1)
            assert last is not None
            yield Archive(index, len(snapshot.streams()), count, last.end_us, build_s)
