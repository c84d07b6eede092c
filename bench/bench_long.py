"""A clip of 25 hours over HTTP: 2.25 million pictures in 151 chunks, laid out before its first byte leaves.

The pictures are small, so that only their number counts; with KEYREEL_BENCH_BYTES=full they are of 4 Mbit/s: 45 GB.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from base.datadir import DataDir
from bench import fetch
from bench.footage import LEAN, LOAD, make
from bench.machine import describe, rss_bytes
from bench.served import Served, stream_path
from bench.sizes import scaled

SECONDS = scaled(full=90_000, smoke=1_800)
ROUNDS = scaled(full=7, smoke=2)
TAIL_BYTES = 1 << 20
LOOP = LOAD if os.environ.get("KEYREEL_BENCH_BYTES") == "full" else LEAN


class Long(NamedTuple):
    """The recording, and the path of its whole clip."""

    datadir: DataDir
    path: str


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Long]:
    datadir, first_us, last_us = make(tmp_path_factory.mktemp("long") / "data", SECONDS, loop=LOOP)
    yield Long(datadir, stream_path("gate.main", "clip.mp4", first_us + 1_000_000, last_us))
    shutil.rmtree(datadir.path)


def taken_ms(served: Served, path: str, byte_range: str = "") -> float:
    """From the request to the first byte, or to the last one of a range."""
    began_s = time.perf_counter()
    answer = served.open(path, byte_range=byte_range)
    answer.read(-1 if byte_range else 1)
    taken_s = time.perf_counter() - began_s
    answer.close()
    return taken_s * 1e3


@pytest.mark.timeout(1800)  # making 45 GB takes minutes
def bench_long_clip(benchmark: Any, long: Long) -> None:
    """Budgets: first byte ≤ 100 ms from a process that has read nothing; a range at the end ≤ 50 ms; memory flat."""
    first, again, tail = [], [], []

    def once() -> None:
        served = Served(long.datadir.path)
        try:
            first.append(taken_ms(served, long.path))
            tail.append(taken_ms(served, long.path, f"bytes=-{TAIL_BYTES}"))
            again.append(taken_ms(served, long.path))
        finally:
            served.stop()

    benchmark.pedantic(once, rounds=ROUNDS)
    served = Served(long.datadir.path)
    try:
        taken_ms(served, long.path)
        before = rss_bytes(served.process.pid)
        size = fetch.drain(served.port, long.path, 1)
        grown = rss_bytes(served.process.pid) - before
    finally:
        served.stop()
    benchmark.extra_info.update(
        hours=SECONDS / 3600,
        clip_mb=round(size / 1e6),
        first_byte_cold_ms=round(statistics.median(first), 1),
        first_byte_again_ms=round(statistics.median(again), 1),
        last_mb_ms=round(statistics.median(tail), 1),
        rss_grown_mb_while_read=round(grown / 1e6, 1),
        machine=describe(),
    )
