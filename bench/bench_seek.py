"""The index at size, in process: time of a seek, warm and cold, of a seek in all streams, of a month's timeline, of a
commit; bytes per key frame; and the same questions to what is common instead, a row of SQLite per file of 10 s.

The data set is that of `bench/archive.py`. Seeks are uniform over streams and time: hardly any two touch the same page.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.archive import BEGIN_US, CHUNK_US, CONFIG, GOP_US, ID, STREAMS, Archive, archive, build
from bench.machine import describe
from bench.rows import FILE_US, Rows
from bench.sizes import scaled
from chunks.records import ChunkHead, ChunkOpened, ClockState, FragmentStored
from index import Index

SEEKS = scaled(full=200_000, smoke=20_000)
COLD_SEEKS = scaled(full=20_000, smoke=1_000)
COMMITS = scaled(full=120, smoke=20)
ROWS_STREAMS = scaled(full=100, smoke=4)
ROWS_DAYS = scaled(full=30, smoke=1)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return archive(tmp_path_factory.mktemp("seek"))


@pytest.fixture(scope="module")
def index(filled: Archive) -> Iterator[Index]:
    with Index.open(filled.datadir.index_path) as opened:
        yield opened


def percentiles(ask: Callable[[int, int], object], asked: list[tuple[int, int]]) -> tuple[float, float]:
    """p50 and p99 in µs, the clock's own cost included."""
    times = np.empty(len(asked))
    for i, (stream_id, time_us) in enumerate(asked):
        begin = time.perf_counter_ns()
        ask(stream_id, time_us)
        times[i] = time.perf_counter_ns() - begin
    p50, p99 = np.percentile(times, [50, 99]) / 1000
    return float(p50), float(p99)


def bench_seek_cold(benchmark: Any, filled: Archive) -> None:
    """Budget: ≤ 1 page read beyond the branch pages. Comes first: pages that are mapped here could not be dropped."""
    command = [sys.executable, "-m", "bench.cold", str(filled.datadir.index_path), str(COLD_SEEKS), str(filled.end_us)]
    told = benchmark.pedantic(lambda: subprocess.run(command, capture_output=True, check=True), rounds=1)
    benchmark.extra_info.update({"machine": describe(), "pages read per seek": f"{float(told.stdout):.3f}"})


def bench_seek(benchmark: Any, filled: Archive, index: Index) -> None:
    """One stream, one instant: inside a snapshot, and with a snapshot of its own."""
    rng = random.Random(1)
    asked = [(rng.randint(1, STREAMS), rng.randint(BEGIN_US, filled.end_us)) for _ in range(SEEKS)]

    def alone(stream_id: int, time_us: int) -> None:
        with index.read() as snapshot:
            snapshot.seek(stream_id, time_us)

    with index.read() as snapshot:
        assert all(snapshot.seek(stream_id, time_us) for stream_id, time_us in asked)  # also warms
        p50, p99 = percentiles(snapshot.seek, asked)
        benchmark(snapshot.seek, *asked[0])
    alone_p50, alone_p99 = percentiles(alone, asked)
    benchmark.extra_info.update(
        {
            "machine": describe(),
            "key frames": f"{filled.key_frames:,} over {STREAMS:,} streams",
            "seek, p50 / p99": f"{p50:.2f} / {p99:.2f} µs",
            "snapshot and seek, p50 / p99": f"{alone_p50:.2f} / {alone_p99:.2f} µs",
            "index bytes per key frame, all told": f"{filled.bytes_per_key_frame:.2f}",
        }
    )


def bench_seek_many(benchmark: Any, filled: Archive, index: Index) -> None:
    """All streams at one instant in the past."""
    streams, middle_us = range(1, STREAMS + 1), (BEGIN_US + filled.end_us) // 2

    def ask() -> None:
        with index.read() as snapshot:
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


def bench_rows(benchmark: Any, tmp_path: Path) -> None:
    """The peer: a row of SQLite per file of 10 s, on fewer streams than ours; the key frame is found in the file."""
    rows = Rows(tmp_path / "files.sqlite", ROWS_STREAMS, ROWS_DAYS)
    rng = random.Random(1)
    end_us = BEGIN_US + ROWS_DAYS * 86_400_000_000 - 1
    asked = [(rng.randint(1, ROWS_STREAMS), rng.randint(BEGIN_US, end_us)) for _ in range(SEEKS // 10)]
    p50, p99 = percentiles(rows.seek, asked)
    key_p50, key_p99 = percentiles(rows.key_frame, asked[: SEEKS // 100])
    spans = benchmark.pedantic(rows.timeline, args=(1, BEGIN_US, end_us), rounds=5, warmup_rounds=1)
    assert len(spans) == 1
    files = ROWS_STREAMS * ROWS_DAYS * 8640
    size = (tmp_path / "files.sqlite").stat().st_size
    rows.close()
    benchmark.extra_info.update(
        {
            "machine": describe(),
            "files": f"{files:,} of {ROWS_STREAMS} streams, {ROWS_DAYS} days each",
            "seek of a file, p50 / p99": f"{p50:.2f} / {p99:.2f} µs",
            "… and of its key frame, p50 / p99": f"{key_p50:.0f} / {key_p99:.0f} µs",
            "bytes per key frame of ours": f"{size / files / (FILE_US / GOP_US):.1f}",
            "timeline of a stream": f"{benchmark.stats.stats.median * 1e3:.1f} ms",
        }
    )


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
