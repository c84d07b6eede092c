"""Hundreds of cameras in one recorder process: what a GB and a stream cost, and whether every picture is there.

Each case records `SECONDS` after a settling time, stops in order, and lets the stamps of the simulated cameras judge
the chunk files: every picture from the first to the last, byte for byte. KEYREEL_BENCH_SECONDS makes it longer; 400
streams of 4 Mbit/s write 200 MB a second.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from bench.harness import Load, cameras, ffmpegs, judged, measure, recorder, status_when_recording
from bench.machine import describe
from bench.sizes import SMOKE, scaled

SECONDS = int(os.environ.get("KEYREEL_BENCH_SECONDS", scaled(full=30, smoke=4)))
SETTLE_S = scaled(full=10, smoke=1)
PEER_SECONDS = min(SECONDS, 60)
FFMPEGS = scaled(full=10, smoke=2)
CASES: dict[str, tuple[int, int, Literal["tcp", "udp"]]] = {
    "200 x 4 Mbit/s": (scaled(full=200, smoke=8), 4_000_000, "tcp"),
    "200 x 4 Mbit/s, UDP": (scaled(full=200, smoke=8), 4_000_000, "udp"),
    "400 x 4 Mbit/s": (scaled(full=400, smoke=8), 4_000_000, "tcp"),
    "1000 x 1 Mbit/s": (scaled(full=1000, smoke=8), 1_000_000, "tcp"),
}


def scale(data: Path, streams: int, bitrate_bps: int, transport: Literal["tcp", "udp"]) -> dict[str, Any]:
    """One case; returns its figures."""
    with simulated(streams, bitrate_bps) as urls:
        load = recorded(data, urls, transport)
        peers = ffmpegs(urls[:FFMPEGS] if transport == "tcp" else [], data.parent / "peer", PEER_SECONDS)
        peer = peers.cost()
    mine = figures(load, streams, judged(data, range(streams)))
    return {"ffmpeg_cpu_s_per_gb": round(peer, 3), "ratio": round(load.per_gb / peer, 3), **mine}


@contextmanager
def simulated(streams: int, bitrate_bps: int) -> Iterator[list[str]]:
    """Cameras that run inside the block; their addresses."""
    simcam, urls = cameras(streams, bitrate_bps)
    try:
        yield urls
    finally:
        end(simcam)


def recorded(data: Path, urls: list[str], transport: Literal["tcp", "udp"] = "tcp", workers: int = 1) -> Load:
    """Record until all streams are there and settled, measure, and stop in order."""
    process = recorder(data, urls, transport, workers=workers)
    try:
        status_when_recording(data, len(urls))
        time.sleep(SETTLE_S)
        return measure(data, SECONDS)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop it in order, if it still runs."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def figures(load: Load, streams: int, verdict: tuple[int, int]) -> dict[str, Any]:
    """What the case cost, and the judges' word."""
    return {
        "media_mb_s": round(load.media_bytes / load.wall_s / 1e6, 1),
        "cpu_s_per_gb": round(load.per_gb, 3),
        "rss_mb_per_stream": round(load.rss_bytes / streams / 1e6, 3),
        "loop_lag_ms_p99": round(float(np.percentile(load.loop_lags_ms, 99)), 2),
        "sync_ms_p50": round(float(np.median(load.syncs_ms)), 1),
        "queue_mb_max": round(max(load.queue_bytes) / 1e6, 1),
        "written_per_media_byte": round(load.written_bytes / load.media_bytes, 4),
        "lost_packets": load.lost,
        "dropped_gops": load.dropped,
        "pictures": verdict[0],
        "pictures_missing_or_wrong": verdict[1],
        "smoke": SMOKE,
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES)
def bench_scale(benchmark: Any, tmp_path: Path, case: str) -> None:
    """Budget: ≤ 1.2 CPU-s/GB and ≤ 1/6 of ffmpeg at 200 streams, ≤ 1 MB a stream; nothing missing in any case."""
    streams, bitrate_bps, transport = CASES[case]
    arguments = (tmp_path / "data", streams, bitrate_bps, transport)
    result = benchmark.pedantic(scale, args=arguments, rounds=1, iterations=1)
    shutil.rmtree(tmp_path / "data")
    benchmark.extra_info.update(result, machine=describe())
    assert result["pictures_missing_or_wrong"] == 0
    assert result["dropped_gops"] == 0
