"""A clip's first byte anywhere in a long recording, while the same node records 200 streams of 4 Mbit/s.

The recording is one stream with as many pictures, fragments and chunks as 4 Mbit/s have, of few bytes; of a day, or of

    KEYREEL_BENCH_DAYS=30 make bench PYTEST="-k busy"

as many as are asked for. ffmpeg cuts the same clips out of the stored chunk files, as people do without a server.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from bench.figures import spread_ms
from bench.footage import LEAN, make
from bench.harness import cameras, judged, measure, recorder, status_when_recording
from bench.machine import describe
from bench.served import Recorded, Served, stream_path
from bench.sizes import scaled

DAYS = float(os.environ.get("KEYREEL_BENCH_DAYS") or scaled(full=1, smoke=0))
SECONDS = round(DAYS * 86_400) or 300
STREAMS = scaled(full=200, smoke=8)
CLIP_US = 10_000_000
CLIPS = scaled(full=300, smoke=10)
CUTS = scaled(full=10, smoke=2)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    datadir, first_us, last_us = make(tmp_path_factory.mktemp("busy") / "data", SECONDS, loop=LEAN)
    simcam, urls = cameras(STREAMS, 4_000_000)
    process = recorder(datadir.path, urls)
    try:
        status_when_recording(datadir.path, STREAMS)
        served = Served(datadir.path)
        yield Busy(Recorded(served, datadir.path, first_us, last_us), [process, simcam])
        served.stop()
    finally:
        end(process, simcam)
        shutil.rmtree(datadir.path)


class Busy(NamedTuple):
    """What is read, and the recorder and the cameras that work beside it."""

    recorded: Recorded
    beside: list[subprocess.Popen[bytes]]


def end(*processes: subprocess.Popen[bytes]) -> None:
    """Stop them in order, those that still run."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(120)


@pytest.mark.timeout(1800)  # making 30 days of footage takes minutes
def bench_busy_first_byte(benchmark: Any, busy: Busy) -> None:
    """Budget: p50 ≤ 3 ms, p99 ≤ 50 ms; recording loses nothing, by the stamps. A new connection each."""
    read = busy.recorded
    rng = random.Random(8)
    first: list[float] = []
    whole: list[float] = []

    def once() -> None:
        start_us = rng.randrange(read.first_us, read.last_us - CLIP_US)
        began_s = time.perf_counter()
        answer = read.served.open(stream_path("gate.main", "clip.mp4", start_us, start_us + CLIP_US))
        answer.read(1)
        first.append(time.perf_counter() - began_s)
        answer.read()
        whole.append(time.perf_counter() - began_s)

    benchmark.pedantic(once, rounds=CLIPS, warmup_rounds=3)
    load = measure(read.data, 1)
    figures = {"first byte, p50 / p99": spread_ms(first[3:]), "whole clip, p50 / p99": spread_ms(whole[3:])}
    if shutil.which("ffmpeg"):
        figures["ffmpeg -ss -c copy, p50 / p99"] = spread_ms(ffmpeg_cuts(read, rng))
    end(*busy.beside)
    pictures, wrong = judged(read.data, range(STREAMS))
    benchmark.extra_info.update(
        {
            "recorded": f"{SECONDS / 86_400:.2f} days",
            "streams": STREAMS,
            **figures,
            "lost_packets": load.lost,
            "dropped_gops": load.dropped,
            "pictures": pictures,
            "missing_or_wrong": wrong,
            "machine": describe(),
        }
    )
    print(json.dumps(figures))
    assert (load.lost, load.dropped, wrong) == (0, 0, 0)


def ffmpeg_cuts(busy: Recorded, rng: random.Random) -> list[float]:
    """Seconds of `ffmpeg -ss … -c copy` on the chunk that holds a moment, which it is told."""
    chunks = sorted((busy.data / "media" / "gate.main").glob("*/*.mp4"))
    taken = []
    for _ in range(CUTS):
        chunk = rng.choice(chunks)
        at_s = rng.uniform(0, min(600, SECONDS) / 2)
        command = ["ffmpeg", "-v", "error", "-y", "-ss", f"{at_s:.3f}", "-i", str(chunk)]
        began_s = time.perf_counter()
        subprocess.run([*command, "-t", "10", "-c", "copy", str(busy.data / "cut.mp4")], check=True)
        taken.append(time.perf_counter() - began_s)
    return taken
