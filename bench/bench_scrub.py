"""Scrubbing without a bound: bytes a second read from the disk past the page cache, every one checked."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

from base.datadir import DataDir
from bench.bench_write import written
from bench.machine import describe
from chunks.volume import Volume
from index import Index
from recorder.committer import Committer
from recorder.scrub import Scrubber


def scrubbed(data: Path) -> dict[str, float]:
    """One turn over what `bench_write` writes."""
    folder = DataDir.open(data)
    volume = Volume.open(folder.media_path)
    with Index.open(folder.index_path) as index:
        committer = Committer(index)
        committer.start()
        scrubber = Scrubber(index, committer, 0, 30, lambda: False)
        before, begin_s = _cpu_s(), time.monotonic()
        scrubber.follow([volume])
        while not ((status := scrubber.status(volume.id)) and status.last_ended_us and not status.running):
            time.sleep(0.01)
        took_s, cpu_s = time.monotonic() - begin_s - 1.0, _cpu_s() - before  # a second passes before a turn begins
        scrubber.stop()
        committer.stop()
    assert status.last_damaged == 0
    gb = status.last_bytes / 1e9
    return {"gb": round(gb, 2), "mb_s": round(gb * 1000 / took_s, 1), "cpu_s_per_gb": round(cpu_s / gb, 3)}


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def test_scrub(benchmark: Any, tmp_path: Path) -> None:
    """Budget: ≥ 400 MB/s."""
    written(tmp_path / "data")
    result = benchmark.pedantic(scrubbed, (tmp_path / "data",), rounds=1)
    benchmark.extra_info |= describe() | result
    print(result)
