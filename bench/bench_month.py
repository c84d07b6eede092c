"""Questions about a month, over HTTP: all streams at one instant, the timeline of one stream and of a thousand.

The index is that of `bench/archive.py`; its figures are for as many days as it holds.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from base.units import US, format_time
from bench.archive import BEGIN_US, STREAMS, Archive, archive
from bench.machine import cpu_s, describe
from bench.served import Served, stream_path
from bench.sizes import scaled

DAY_US = 86_400 * US
ROUNDS = scaled(full=100, smoke=5)
LINES = min(1000, STREAMS)
PIXELS = 1500  # a page's width: the resolution asked for


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return archive(tmp_path_factory.mktemp("month"))


@pytest.fixture(scope="module")
def served(filled: Archive) -> Iterator[Served]:
    one = Served(filled.datadir.path)
    yield one
    one.stop()


def told(benchmark: Any, filled: Archive, served: Served, used_s: float, **figures: object) -> None:
    days = round((filled.end_us - BEGIN_US) / DAY_US, 1)
    stats = benchmark.stats.stats
    rounds = len(stats.data) + 1  # and one to warm up
    benchmark.extra_info.update(
        days=days,
        median_ms=round(stats.median * 1e3, 2),
        max_ms=round(stats.max * 1e3, 2),
        server_cpu_ms=round((cpu_s(served.process.pid) - used_s) / rounds * 1e3, 1),
        **figures,
        machine=describe(),
    )


def bench_month_seek_all(benchmark: Any, filled: Archive, served: Served) -> None:
    """Budget: ≤ 25 ms. POST /seek of every stream at one instant, another one each time."""
    rng = random.Random(3)
    used_s = cpu_s(served.process.pid)

    def ask() -> int:
        at = format_time(rng.randint(BEGIN_US, filled.end_us))
        return len(json.load(served.open("/api/v1/seek", {"at": at}))["results"])

    assert benchmark.pedantic(ask, rounds=ROUNDS, warmup_rounds=1) == STREAMS
    told(benchmark, filled, served, used_s, streams=STREAMS)


def bench_month_timeline(benchmark: Any, filled: Archive, served: Served) -> None:
    """Budget: ≤ 5 ms. GET timeline of the whole time of one stream, another one each time."""
    rng = random.Random(4)
    length_s = (filled.end_us - BEGIN_US) / US
    used_s = cpu_s(served.process.pid)

    def ask() -> int:
        stream = f"cam{rng.randint(1, STREAMS)}.main"
        path = stream_path(stream, "timeline", BEGIN_US, filled.end_us, resolution=length_s / PIXELS)
        return len(json.load(served.open(path))["spans"])

    assert benchmark.pedantic(ask, rounds=ROUNDS, warmup_rounds=1) == 1
    told(benchmark, filled, served, used_s)


def bench_month_timelines(benchmark: Any, filled: Archive, served: Served) -> None:
    """Budget: ≤ 1 s. POST /timeline of a thousand streams' whole time."""
    body = {
        "start": format_time(BEGIN_US),
        "end": format_time(filled.end_us),
        "resolution": (filled.end_us - BEGIN_US) / US / PIXELS,
        "streams": [f"cam{number}.main" for number in range(1, LINES + 1)],
    }
    used_s = cpu_s(served.process.pid)

    def ask() -> int:
        return len(json.load(served.open("/api/v1/timeline", body))["timelines"])

    assert benchmark.pedantic(ask, rounds=max(3, ROUNDS // 10), warmup_rounds=1) == LINES
    told(benchmark, filled, served, used_s, streams=LINES)
