"""CPU seconds per GB from RTSP/TCP to chunk and index, against `ffmpeg -c copy` on the same cameras.

One run has three parts of equal length: our recorder alone on all streams, both side by side, ffmpeg alone on some of
the same streams. CPU time is read from /proc for the recorder (its threads included) and from the ended ffmpeg
processes; neither includes the cameras. Side by side they share caches and execution units, so both cost more.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from base.status import RecorderStatus, read_status
from bench.machine import cpu_s, describe, rss_bytes, written_bytes
from bench.sizes import SMOKE, scaled
from index import Camera, Index

STREAMS = scaled(full=100, smoke=10)
FFMPEGS = scaled(full=10, smoke=2)
SECONDS = scaled(full=40, smoke=5)
SETTLE_S = scaled(full=10, smoke=1)  # until buffers and the page cache have their size
BITRATE_BPS = 4_000_000


@dataclass
class Load:
    """What was recorded in the measured time, and what it cost."""

    media_bytes: int
    cpu_s: float
    wall_s: float
    rss_bytes: int
    written_bytes: int
    lost: int
    dropped: int

    @property
    def per_gb(self) -> float:
        """CPU seconds per GB of media."""
        return self.cpu_s / (self.media_bytes / 1e9)


def cameras(count: int) -> tuple[subprocess.Popen[bytes], list[str]]:
    """Simulated cameras in a process of their own, and their addresses."""
    command = [sys.executable, "-m", "simcam", "--listen", "127.0.0.1:0", "--cameras", str(count)]
    command += ["--loop", "load", "--bitrate", str(BITRATE_BPS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    base = process.stdout.readline().decode().strip().removesuffix("/cam0")  # printed once the cameras answer
    return process, [f"{base}/cam{number}" for number in range(count)]


def recorder(data: Path, urls: list[str]) -> subprocess.Popen[bytes]:
    """One recorder process with its register filled."""
    from base.datadir import DataDir

    folder = DataDir.create(data)
    index = Index.open(folder.index_path, create=True)
    with index.write() as transaction:
        for number, url in enumerate(urls):
            transaction.put_camera(Camera(id=f"cam{number}", main=url))
    index.close()
    return subprocess.Popen([sys.executable, "-m", "keyreel", "record", "--data", str(data)], stderr=subprocess.DEVNULL)


def status_when_recording(data: Path, count: int) -> RecorderStatus:
    """The status file once every stream records."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        status = read_status(data / "run" / "recorder.json")
        if status and sum(s.state == "recording" and s.media_bytes > 0 for s in status.streams) == count:
            return status
        time.sleep(0.2)
    raise AssertionError(f"not all of {count} streams record")


def ffmpegs(urls: list[str], folder: Path) -> Peers:
    """One `ffmpeg -c copy` per stream into a fragmented MP4, as people do it; none where there is no ffmpeg."""
    folder.mkdir()
    peers = Peers(folder, [])
    for number, url in enumerate(urls if shutil.which("ffmpeg") else []):
        command = ["ffmpeg", "-v", "error", "-nostdin", "-rtsp_transport", "tcp", "-i", url, "-c", "copy"]
        command += ["-movflags", "frag_keyframe+empty_moov", "-t", str(SECONDS), str(folder / f"{number}.mp4")]
        peers.processes.append(subprocess.Popen(command))
    return peers


def measure(pid: int, data: Path, seconds: float) -> Load:
    """Cost of the running recorder over `seconds`, between two status files."""
    first = fresh_status(data)
    cpu, wall, wrote = cpu_s(pid), time.monotonic(), written_bytes(pid)
    time.sleep(seconds)
    last = fresh_status(data)
    return Load(
        media_bytes=sum(s.media_bytes for s in last.streams) - sum(s.media_bytes for s in first.streams),
        cpu_s=cpu_s(pid) - cpu,
        wall_s=time.monotonic() - wall,
        rss_bytes=rss_bytes(pid),
        written_bytes=written_bytes(pid) - wrote,
        lost=sum(s.lost_packets for s in last.streams),
        dropped=sum(s.dropped_gops for s in last.streams),
    )


def fresh_status(data: Path) -> RecorderStatus:
    """The next status file the recorder writes."""
    path = data / "run" / "recorder.json"
    before = path.stat().st_mtime_ns
    while path.stat().st_mtime_ns == before:
        time.sleep(0.01)
    status = read_status(path)
    assert status is not None
    return status


@dataclass
class Peers:
    """ffmpeg processes and where they write."""

    folder: Path
    processes: list[subprocess.Popen[bytes]]

    def cost(self) -> float:
        """Wait for their end; CPU seconds per GB written."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for process in self.processes:
            process.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        size = sum(path.stat().st_size for path in self.folder.glob("*.mp4"))
        return used_s / (size / 1e9) if size else float("nan")


def ingest(data: Path) -> dict[str, Any]:
    """The whole run; returns the figures."""
    simcam, urls = cameras(STREAMS)
    running = [simcam]
    try:
        process = recorder(data, urls)
        running.insert(0, process)
        status_when_recording(data, STREAMS)
        time.sleep(SETTLE_S)
        alone = measure(process.pid, data, SECONDS)
        peers = ffmpegs(urls[:FFMPEGS], data.parent / "beside")
        running += peers.processes
        beside = measure(process.pid, data, SECONDS)
        peers_beside = peers.cost()
        process.send_signal(signal.SIGINT)
        process.wait(60)
        peers = ffmpegs(urls[:FFMPEGS], data.parent / "alone")
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
    """Budget: ≤ 1.5 CPU-s per GB and ≤ 1/5 of ffmpeg; nothing lost, nothing dropped."""
    result = benchmark.pedantic(ingest, args=(tmp_path / "data",), rounds=1, iterations=1)
    benchmark.extra_info.update(result, machine=describe())
    print(json.dumps(result))
    assert result["lost_packets"] == 0
    assert result["dropped_gops"] == 0


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TMPDIR", "/tmp")) / f"ingest-{os.getpid()}"
    where.mkdir(parents=True)
    print(json.dumps(ingest(where / "data"), indent=1))
