"""The index at size: time of a seek, of a seek in all streams, of a month's timeline, of a commit; bytes per key frame.

The data set: streams × chunks of 10 minutes, 4 Mbit/s, GOPs of 2 s (one in twenty of 0.2 to 3.8 s), times and sizes
that jitter as cameras' do; blocks and rows are made by the product's own packing, in the order in which recording
fills them. 50 million key frames over 2,000 streams; 2 million over 100 in a smoke run; or as many as

    KEYREEL_SEEK_KEY_FRAMES=1.3e9 KEYREEL_SEEK_DIR=/big/disk/seek make bench PYTEST=bench/bench_seek.py

says. An index that already lies in KEYREEL_SEEK_DIR is used again. Seeks are uniform over streams and time: hardly
any two touch the same page.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from base.media import StreamConfig, VideoConfig
from bench.machine import describe
from bench.sizes import scaled
from chunks.records import ChunkHead, ChunkOpened, ClockState, FragmentStored
from index import Index, Snapshot, Transaction
from index.schema import CHUNK, CHUNK_SEALED, DATABASES, SEQUENCE_KEY, START, TIME_KEY
from native import keyblock

BEGIN_US = 1_790_000_000_000_000
CHUNK_US = 600_000_000
GOP_US = 2_000_000
BYTES_PER_US = 0.5  # 4 Mbit/s
CONFIG = StreamConfig(VideoConfig("h264", (), (b"\x67" + bytes(30),), (b"\x68" + bytes(6),)))
ID = bytes(16)
Times = npt.NDArray[np.int64]

KEY_FRAMES = int(float(os.environ.get("KEYREEL_SEEK_KEY_FRAMES") or scaled(full=50_000_000, smoke=2_000_000)))
STREAMS = scaled(full=2000, smoke=100)
SEEKS = scaled(full=200_000, smoke=20_000)
COMMITS = scaled(full=120, smoke=20)
PAGE_BYTES = 4096


@dataclass
class Archive:
    """A filled index, and what it took."""

    index: Index
    key_frames: int
    end_us: int
    bytes_per_key_frame: float


def gops(rng: np.random.Generator) -> tuple[Times, Times]:
    """Starts and offsets of one chunk's GOPs, and where the last one ends."""
    count = CHUNK_US // GOP_US
    lengths = np.where(rng.random(count) < 0.95, GOP_US, rng.integers(200_000, 3_800_000, count))
    lengths += np.rint(rng.normal(0, 1_500, count)).astype(np.int64)
    sizes = (lengths * BYTES_PER_US * rng.normal(1, 0.2, count).clip(0.3, 2)).astype(np.int64)
    return np.concatenate(([0], lengths.cumsum())), np.concatenate(([900], 900 + sizes.cumsum()))


def build(index: Index, key_frames: int, streams: int) -> None:
    """Chunk after chunk, all streams in turn; every chunk is sealed."""
    rng = np.random.default_rng(7)
    starts = dict.fromkeys(range(1, streams + 1), BEGIN_US)
    with index.write() as transaction:
        assert [transaction.ensure_stream(f"cam{stream_id}.main").id for stream_id in starts] == list(starts)
    for sequence in range(1, max(1, round(key_frames / streams * GOP_US / CHUNK_US)) + 1):
        with index.write() as transaction:
            for stream_id, start_us in starts.items():
                times, offsets = gops(rng)
                put_chunk(transaction, stream_id, sequence, start_us + times, offsets)
                starts[stream_id] = start_us + int(times[-1])


def put_chunk(transaction: Transaction, stream_id: int, sequence: int, times: Times, offsets: Times) -> None:
    txn, databases = transaction._txn, transaction._db
    frames = zip(times[:-1].tolist(), offsets[:-1].tolist(), strict=True)
    for block_us, block in keyblock.extend(sequence, 0, b"", frames):
        txn.put(TIME_KEY.pack(stream_id, block_us), block, db=databases.key_frames)
    start_us, end_us, size = int(times[0]), int(times[-1]), int(offsets[-1])
    row = CHUNK.pack(
        sequence, 1, 1, CHUNK_SEALED, ID, end_us, size + 9000, start_us * 9 // 100, len(times) * 50, 600, size, size
    )  # fmt: skip
    txn.put(TIME_KEY.pack(stream_id, start_us), row, db=databases.chunks)
    txn.put(SEQUENCE_KEY.pack(stream_id, sequence), START.pack(start_us), db=databases.sequences)


def bytes_in_use(snapshot: Snapshot) -> int:
    """Pages of all databases; free pages are not counted, they are used again."""
    stats = [snapshot._txn.stat(database) for database in snapshot._db]
    assert len(stats) == len(DATABASES)
    return PAGE_BYTES * sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = Path(os.environ.get("KEYREEL_SEEK_DIR") or tmp_path_factory.mktemp("seek"))
    is_there = (folder / "data.mdb").exists()
    with Index.open(folder, create=True) as index:
        if not is_there:
            build(index, KEY_FRAMES, STREAMS)
        with index.read() as snapshot:  # reading all of it also warms the page cache
            streams = [row.id for row in snapshot.streams()]
            key_frames = sum(len(snapshot.key_frames(stream_id, 0, 2**62)) for stream_id in streams)
            end_us = max(snapshot.chunks(streams[0], BEGIN_US, 2**62)[-1].end_us, BEGIN_US)
            in_use = bytes_in_use(snapshot)
        yield Archive(index, key_frames, end_us, in_use / key_frames)


def percentiles(ask: Callable[[int, int], object], asked: list[tuple[int, int]]) -> tuple[float, float]:
    """p50 and p99 in µs, the clock's own cost included."""
    times = np.empty(len(asked))
    for i, (stream_id, time_us) in enumerate(asked):
        begin = time.perf_counter_ns()
        ask(stream_id, time_us)
        times[i] = time.perf_counter_ns() - begin
    p50, p99 = np.percentile(times, [50, 99]) / 1000
    return float(p50), float(p99)


def bench_seek(benchmark: Any, archive: Archive) -> None:
    """One stream, one instant: inside a snapshot, and with a snapshot of its own."""
    rng = random.Random(1)
    asked = [(rng.randint(1, STREAMS), rng.randint(BEGIN_US, archive.end_us)) for _ in range(SEEKS)]

    def alone(stream_id: int, time_us: int) -> None:
        with archive.index.read() as snapshot:
            snapshot.seek(stream_id, time_us)

    with archive.index.read() as snapshot:
        assert all(snapshot.seek(stream_id, time_us) for stream_id, time_us in asked)  # also warms
        p50, p99 = percentiles(snapshot.seek, asked)
        benchmark(snapshot.seek, *asked[0])
    alone_p50, alone_p99 = percentiles(alone, asked)
    benchmark.extra_info.update(
        {
            "machine": describe(),
            "key frames": f"{archive.key_frames:,} over {STREAMS:,} streams",
            "seek, p50 / p99": f"{p50:.2f} / {p99:.2f} µs",
            "snapshot and seek, p50 / p99": f"{alone_p50:.2f} / {alone_p99:.2f} µs",
            "index bytes per key frame, all told": f"{archive.bytes_per_key_frame:.2f}",
        }
    )


def bench_seek_many(benchmark: Any, archive: Archive) -> None:
    """All streams at one instant in the past."""
    streams, middle_us = range(1, STREAMS + 1), (BEGIN_US + archive.end_us) // 2

    def ask() -> None:
        with archive.index.read() as snapshot:
            snapshot.seek_many(streams, middle_us)

    benchmark(ask)
    benchmark.extra_info.update({"machine": describe(), "streams": f"{STREAMS:,}"})


def bench_timeline(benchmark: Any, tmp_path: Path) -> None:
    """30 days of one stream: 4,320 chunks."""
    with Index.open(tmp_path / "index", create=True) as index:
        build(index, 4320 * CHUNK_US // GOP_US, 1)
        with index.read() as snapshot:
            timeline = benchmark(snapshot.timeline, 1, BEGIN_US, 2**62, 60_000_000)
        assert len(timeline.spans) == 1
    benchmark.extra_info.update({"machine": describe(), "chunks": "4,320"})


def head(stream_id: int) -> ChunkHead:
    name = f"cam{stream_id}.main"
    return ChunkHead(ID, ID, ID, stream_id, name, 1, 1, 1, BEGIN_US, 0, ClockState.SYNCED, 0, 0)


def bench_commit(benchmark: Any, tmp_path: Path) -> None:
    """A second of recording: one fragment of each stream, every other a key frame, durable when it returns."""
    with Index.open(tmp_path / "index", create=True) as index:
        with index.write() as transaction:
            transaction.apply([ChunkOpened(head(stream_id), CONFIG, 900) for stream_id in range(1, STREAMS + 1)])
        number = 0

        def second() -> tuple[tuple[list[FragmentStored]], dict[str, Any]]:
            nonlocal number
            number += 1
            start_us, offset = BEGIN_US + number * 1_000_000, 900 + number * 500_000
            fragments = [
                FragmentStored(
                    stream_id, 1, number, offset, 500_000, start_us, start_us + 1_000_000,
                    (number + stream_id) % 2 == 0, 25, 499_000,
                )
                for stream_id in range(1, STREAMS + 1)
            ]  # fmt: skip
            return (fragments,), {}

        def commit(fragments: list[FragmentStored]) -> None:
            with index.write() as transaction:
                transaction.apply(fragments)

        benchmark.pedantic(commit, setup=second, rounds=COMMITS)
    benchmark.extra_info.update({"machine": describe(), "streams": f"{STREAMS:,}"})
