"""Scrubbing flat out: bytes a second read from the disk past the page cache, every one checked. And what it costs who
plays: clips of ten seconds at random places, from a disk of which nothing is in memory, in a process of its own, while
nothing is scrubbed, at the default rate, and without a bound; in turns, as the machine's disk is shared.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from base.config import RecorderConfig
from base.datadir import DataDir
from bench.bench_write import written
from bench.cold import drop_cached
from bench.machine import describe
from bench.sizes import scaled
from chunks.scrubreport import REPORT_NAME
from chunks.volume import Volume
from clips.mp4 import ClipFile
from clips.plan import plan
from clips.store import ChunkStore
from index import Index
from recorder.committer import Committer
from recorder.scrub import LOOK_S, Scrubber

CLIPS = scaled(full=400, smoke=40)
ROUNDS = scaled(full=3, smoke=1)
CLIP_US = 10_000_000
POLL_S = 0.005
RATES = {"none": None, "default": RecorderConfig().scrub_bytes_s_max, "unbounded": 0}


@contextmanager
def scrubbing(data: Path, bytes_s_max: int) -> Iterator[Scrubber]:
    """One turn over what lies there."""
    folder = DataDir.open(data)
    volume = Volume.open(folder.media_path)
    (volume.root / REPORT_NAME).unlink(missing_ok=True)
    with Index.open(folder.index_path) as index:
        committer = Committer(index)
        committer.start()
        scrubber = Scrubber(index, committer, bytes_s_max, 30, lambda: False)
        scrubber.follow([volume])
        try:
            yield scrubber
        finally:
            scrubber.stop()
            committer.stop()


def scrubbed(data: Path) -> dict[str, float]:
    """A whole turn without a bound."""
    volume = Volume.open(DataDir.open(data).media_path)
    before_s, begin_s = _cpu_s(), time.monotonic()
    with scrubbing(data, 0) as scrubber:
        while not ((status := scrubber.status(volume.id)) and status.last_ended_us and not status.running):
            time.sleep(POLL_S)
        took_s, cpu_s = time.monotonic() - begin_s - LOOK_S, _cpu_s() - before_s  # it looks before a turn begins
    assert status.last_damaged == 0
    gb = status.last_bytes / 1e9
    return {"gb": round(gb, 2), "mb_s": round(gb * 1000 / took_s, 1), "cpu_s_per_gb": round(cpu_s / gb, 3)}


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def clips(data: Path, count: int, seed: int) -> list[float]:
    """Seconds that each of so many clips took, planning to last byte."""
    folder, dice = DataDir.open(data), random.Random(seed)
    volume = Volume.open(folder.media_path)
    store = ChunkStore({volume.id: volume.root})
    taken_s = []
    with Index.open(folder.index_path, readonly=True) as index, index.read() as snapshot:
        rows = [row for stream in snapshot.streams() for row in snapshot.chunks(stream.id, 0, 1 << 60)]
        for _ in range(count):
            row = dice.choice(rows)
            at_us = dice.randrange(row.start_us, max(row.end_us - CLIP_US, row.start_us + 1))
            begin_s = time.perf_counter()
            clip = ClipFile(plan(snapshot, store, row.stream_id, at_us, at_us + CLIP_US))
            assert sum(len(part) for part in clip.read(0, clip.size)) == clip.size
            taken_s.append(time.perf_counter() - begin_s)
    return taken_s


def played(data: Path, seed: int) -> list[float]:
    """The same by another process, with nothing in memory."""
    for path in DataDir.open(data).media_path.rglob("*.mp4"):
        drop_cached(path)
    command = [sys.executable, "-m", "bench.bench_scrub", str(data), str(CLIPS), str(seed)]
    return list(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def beside(data: Path) -> dict[str, Any]:
    """Milliseconds of a clip, p50 and p99, for each rate, and how much more p99 is than without scrubbing."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in RATES}
    for seed in range(ROUNDS):
        for name, rate in RATES.items():
            if rate is None:
                taken_s = played(data, seed)
            else:
                with scrubbing(data, rate):
                    taken_s = played(data, seed)
            p50, p99 = np.percentile(np.array(taken_s) * 1e3, [50, 99])
            found[name].append((float(p50), float(p99)))
    result: dict[str, Any] = {}
    for name, figures in found.items():
        result[f"{name}_ms"] = [round(median(one[i] for one in figures), 2) for i in (0, 1)]
        result[f"{name}_p99_ratio"] = round(median(a[1] / b[1] for a, b in zip(figures, found["none"], strict=True)), 2)
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scrub") / "data"
    written(folder)
    return folder


@pytest.mark.timeout(1800)
def bench_scrub(benchmark: Any, data: Path) -> None:
    """Budget: ≥ 400 MB/s."""
    result = benchmark.pedantic(scrubbed, (data,), rounds=1)
    benchmark.extra_info.update(result, machine=describe())


@pytest.mark.timeout(1800)
def bench_scrub_beside_playing(benchmark: Any, data: Path) -> None:
    """Budget: p99 of a clip ≤ 1.2 times at the default rate."""
    result = benchmark.pedantic(beside, (data,), rounds=1)
    benchmark.extra_info.update(result, machine=describe())


if __name__ == "__main__":
    print(json.dumps(clips(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
