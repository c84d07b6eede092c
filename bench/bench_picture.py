"""One moment as a JPEG, and a sheet of them, of 1080p footage over HTTP; beside ffmpeg taking the same picture."""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from base.units import format_time
from bench.figures import spread_ms
from bench.footage import FULL_HD
from bench.machine import describe
from bench.served import Recorded, recorded, stream_path
from bench.sizes import scaled

SECONDS = scaled(full=14_400, smoke=120)
PICTURES = scaled(full=100, smoke=5)
SHEETS = scaled(full=10, smoke=2)


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with recorded(tmp_path_factory.mktemp("picture") / "data", SECONDS, FULL_HD) as one:
        yield one


def by_ffmpeg(footage: Recorded, scratch: Path) -> float:
    """Median seconds of `ffmpeg -ss` taking pictures from a chunk file."""
    chunk = min((footage.data / "media").glob("*/*/*.mp4"))
    rng, taken = random.Random(7), []
    for _ in range(max(3, PICTURES // 10)):
        at = rng.uniform(0, min(600, SECONDS) - 5)
        command = ["ffmpeg", "-v", "error", "-y", "-ss", f"{at:.3f}", "-i", str(chunk), "-frames:v", "1", "-q:v", "5"]
        began_s = time.perf_counter()
        subprocess.run([*command, str(scratch / "one.jpg")], check=True)
        taken.append(time.perf_counter() - began_s)
    return statistics.median(taken)


def bench_picture(benchmark: Any, footage: Recorded, tmp_path: Path) -> None:
    """Budget: ≤ 50 ms for 1080p. Pictures at random moments: the exact one, and its key frame."""
    rng = random.Random(6)
    taken: dict[bool, list[float]] = {True: [], False: []}

    def once() -> None:
        at = format_time(rng.randrange(footage.first_us, footage.last_us))
        for exact, times in taken.items():
            query = urlencode({"at": at, "exact": str(exact).lower()})
            began_s = time.perf_counter()
            footage.served.open(f"/api/v1/streams/gate.main/frame.jpg?{query}").read()
            times.append(time.perf_counter() - began_s)

    benchmark.pedantic(once, rounds=PICTURES, warmup_rounds=2)
    figures = {"exact, p50 / p99": spread_ms(taken[True][2:]), "key frame, p50 / p99": spread_ms(taken[False][2:])}
    if shutil.which("ffmpeg"):
        figures["ffmpeg -ss, median"] = f"{by_ffmpeg(footage, tmp_path) * 1e3:.1f} ms"
    benchmark.extra_info.update(figures, machine=describe())


def bench_contact(benchmark: Any, footage: Recorded) -> None:
    """Budget: ≤ 1 s for 24 pictures spread over all of it."""
    path = stream_path("gate.main", "contact.jpg", footage.first_us, footage.last_us, count=24)
    benchmark.pedantic(lambda: footage.served.open(path).read(), rounds=SHEETS)
    median_ms = round(benchmark.stats.stats.median * 1e3, 1)
    benchmark.extra_info.update(pictures=24, hours=SECONDS / 3600, median_ms=median_ms, machine=describe())
