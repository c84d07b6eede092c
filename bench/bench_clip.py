"""A clip over HTTP: time to its first byte at random places, and how fast its bytes come, each one verified."""

from __future__ import annotations

import json
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from base.units import format_time
from bench.footage import make
from bench.machine import cpu_s, describe
from bench.sizes import scaled

SECONDS = scaled(full=3600, smoke=120)
CLIP_S = scaled(full=600, smoke=60)
SEEKS = scaled(full=300, smoke=20)


class Served:
    """A playback process over a made recording."""

    def __init__(self, folder: Path) -> None:
        datadir, self.first_us, self.last_us = make(folder / "data", SECONDS)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "keyreel", "play", "--data", str(datadir.path)]
        self.process = subprocess.Popen([*command, "--listen", f"127.0.0.1:{self.port}"], stderr=subprocess.DEVNULL)
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                self.open(self.first_us, self.first_us + 1_000_000).read()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("playback does not answer")

    def open(self, start_us: int, end_us: int) -> Any:
        """GET of a clip; returns the response before its body is read."""
        query = urlencode({"start": format_time(start_us), "end": format_time(end_us)})
        return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/streams/gate.main/clip.mp4?{query}")

    def stop(self) -> None:
        """End the process."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("clip"))
    yield one
    one.stop()


def bench_clip_first_byte(benchmark: Any, served: Served) -> None:
    """Budget: p99 ≤ 50 ms warm. Ten-second clips at random places, a new connection each."""
    rng = random.Random(1)
    taken: list[float] = []

    def seek() -> None:
        start_us = rng.randrange(served.first_us, served.last_us - 10_000_000)
        before = time.perf_counter()
        answer = served.open(start_us, start_us + 10_000_000)
        answer.read(1)
        taken.append(time.perf_counter() - before)
        answer.close()

    benchmark.pedantic(seek, rounds=SEEKS, warmup_rounds=5)
    ordered = sorted(taken[5:])
    figures = {"p50_ms": statistics.median(ordered) * 1e3, "p99_ms": ordered[int(len(ordered) * 0.99)] * 1e3}
    benchmark.extra_info.update({k: round(v, 2) for k, v in figures.items()}, recorded_s=SECONDS, machine=describe())
    print(json.dumps(figures))


def bench_clip_bytes(benchmark: Any, served: Served) -> None:
    """MB/s and server CPU seconds per GB of one long clip, read by one client."""
    start_us = served.first_us + 1_000_000
    sizes: list[int] = []
    before_s = cpu_s(served.process.pid)

    def fetch() -> None:
        answer = served.open(start_us, start_us + CLIP_S * 1_000_000)
        buffer = bytearray(1 << 20)
        total = 0
        while count := answer.readinto(buffer):
            total += count
        sizes.append(total)

    benchmark.pedantic(fetch, rounds=5, warmup_rounds=1)
    used_s = cpu_s(served.process.pid) - before_s
    figures = {
        "clip_mb": round(sizes[0] / 1e6, 1),
        "mb_s": round(sizes[0] / 1e6 / benchmark.stats.stats.median, 1),
        "server_cpu_s_per_gb": round(used_s / (sum(sizes) / 1e9), 3),
    }
    benchmark.extra_info.update(figures, machine=describe())
    print(json.dumps(figures))
    assert len(set(sizes)) == 1
