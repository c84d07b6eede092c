"""CPU seconds per GB from RTSP/TCP to chunk and index, against `ffmpeg -c copy` on the same cameras.

One run has three parts of equal length: our recorder alone on all streams, both side by side, ffmpeg alone on some of
the same streams. CPU time is read from /proc for the recorder (its threads included) and from the ended ffmpeg
processes; neither includes the cameras. Side by side they share caches and execution units, so both cost more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.harness import Load, cameras, ffmpegs, measure, recorder, status_when_recording
from bench.machine import describe
from bench.sizes import SMOKE, scaled

STREAMS = scaled(full=100, smoke=10)
FFMPEGS = scaled(full=10, smoke=2)
SECONDS = scaled(full=40, smoke=5)
SETTLE_S = scaled(full=10, smoke=1)  # until buffers and the page cache have their size
BITRATE_BPS = 4_000_000


def ingest(data: Path) -> dict[str, Any]:
    """The whole run; returns the figures."""
    simcam, urls = cameras(STREAMS, BITRATE_BPS)
    running = [simcam]
    try:
        process = recorder(data, urls)
        running.insert(0, process)
        status_when_recording(data, STREAMS)
        time.sleep(SETTLE_S)
        alone = measure(data, SECONDS)
        peers = ffmpegs(urls[:FFMPEGS], data.parent / "beside", SECONDS)
        running += peers.processes
        beside = measure(data, SECONDS)
        peers_beside = peers.cost()
        process.send_signal(signal.SIGINT)
        process.wait(60)
        peers = ffmpegs(urls[:FFMPEGS], data.parent / "alone", SECONDS)
        running += peers.processes
        peers_alone = peers.cost()
    finally:
        for one in running:
            if one.poll() is None:
                one.send_signal(signal.SIGINT)
                one.wait(60)
    return figures(alone, beside, peers_alone, peers_beside)


def figures(alone: Load, beside: Load, peers_alone: float, peers_beside: float) -> dict[str, Any]:
    """Ratios and rates for the results file."""
    return {
        "streams": STREAMS,
        "seconds_each": SECONDS,
        "media_mb_s": round(alone.media_bytes / alone.wall_s / 1e6, 1),
        "cpu_s_per_gb_alone": round(alone.per_gb, 3),
        "cpu_s_per_gb_beside_ffmpeg": round(beside.per_gb, 3),
        "ffmpeg_streams": FFMPEGS,
        "ffmpeg_cpu_s_per_gb_alone": round(peers_alone, 3),
        "ffmpeg_cpu_s_per_gb_beside": round(peers_beside, 3),
        "ratio_alone": round(alone.per_gb / peers_alone, 3),
        "ratio_beside": round(beside.per_gb / peers_beside, 3),
        "rss_mb": round(beside.rss_bytes / 1e6, 1),
        "written_per_media_byte": round(beside.written_bytes / beside.media_bytes, 4),
        "lost_packets": beside.lost,
        "dropped_gops": beside.dropped,
        "smoke": SMOKE,
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def bench_ingest(benchmark: Any, tmp_path: Path) -> None:
    """Budget: ≤ 1.2 CPU-s per GB and ≤ 1/6 of ffmpeg; nothing lost, nothing dropped."""
    result = benchmark.pedantic(ingest, args=(tmp_path / "data",), rounds=1, iterations=1)
    benchmark.extra_info.update(result, machine=describe())
    print(json.dumps(result))
    assert result["lost_packets"] == 0
    assert result["dropped_gops"] == 0


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TMPDIR", "/tmp")) / f"ingest-{os.getpid()}"
    where.mkdir(parents=True)
    print(json.dumps(ingest(where / "data"), indent=1))
