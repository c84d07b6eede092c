"""Cameras, a recorder and its peers in processes of their own, and what they cost; shared by the ingest benches."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from base.status import RecorderStatus, read_status
from bench.machine import cpu_s, rss_bytes, written_bytes
from chunks.path import parse_chunk_path
from index import Camera, Index
from simcam.stamps import verify
from tests.e2e.node import chunk_samples


@dataclass
class Load:
    """What was recorded in the measured time, and what it cost."""

    media_bytes: int
    cpus_s: list[float]  # by worker
    wall_s: float
    rss_bytes: int
    written_bytes: int
    lost: int
    dropped: int
    loop_lags_ms: list[float] = field(default_factory=list)  # one a second
    queue_bytes: list[int] = field(default_factory=list)  # one a second
    syncs_ms: list[float] = field(default_factory=list)  # the longest last one of all workers and volumes, one a second

    @property
    def per_gb(self) -> float:
        """CPU seconds per GB of media."""
        return sum(self.cpus_s) / (self.media_bytes / 1e9)


def cameras(count: int, bitrate_bps: int) -> tuple[subprocess.Popen[bytes], list[str]]:
    """Simulated cameras in a process of their own, and their addresses."""
    command = [sys.executable, "-m", "simcam", "--listen", "127.0.0.1:0", "--cameras", str(count)]
    command += ["--loop", "load", "--bitrate", str(bitrate_bps)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    base = process.stdout.readline().decode().strip().removesuffix("/cam0")  # printed once the cameras answer
    return process, [f"{base}/cam{number}" for number in range(count)]


def recorder(
    data: Path, urls: list[str], transport: Literal["tcp", "udp"] = "tcp", **settings: int
) -> subprocess.Popen[bytes]:
    """A recorder with its register filled; `settings` are those of the configuration's [recorder], as `workers=2`."""
    from base.datadir import DataDir

    folder = DataDir.create(data)
    index = Index.open(folder.index_path, create=True)
    with index.write() as transaction:
        for number, url in enumerate(urls):
            transaction.put_camera(Camera(id=f"cam{number}", main=url, transport=transport))
    index.close()
    # A bench may fill what a node would keep free: 400 streams of 4 Mbit/s write 60 GB in five minutes.
    lines = [f"{name} = {value}" for name, value in settings.items()]
    folder.config_path.write_text("\n".join(["[recorder]", *lines, "[retention]", "free_percent_min = 1.0", ""]))
    return subprocess.Popen([sys.executable, "-m", "keyreel", "record", "--data", str(data)], stderr=subprocess.DEVNULL)


def status_when_recording(data: Path, count: int) -> RecorderStatus:
    """The status file once every stream records."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        status = read_status(data / "run")
        if status and sum(s.state == "recording" and s.media_bytes > 0 for s in status.streams) == count:
            return status
        time.sleep(0.2)
    raise AssertionError(f"not all of {count} streams record")


def ffmpegs(urls: list[str], folder: Path, seconds: int) -> Peers:
    """One `ffmpeg -c copy` per stream into a fragmented MP4, as people do it; none where there is no ffmpeg."""
    folder.mkdir()
    peers = Peers(folder, [])
    for number, url in enumerate(urls if shutil.which("ffmpeg") else []):
        command = ["ffmpeg", "-v", "error", "-nostdin", "-rtsp_transport", "tcp", "-i", url, "-c", "copy"]
        command += ["-movflags", "frag_keyframe+empty_moov", "-t", str(seconds), str(folder / f"{number}.mp4")]
        peers.processes.append(subprocess.Popen(command))
    return peers


def measure(data: Path, seconds: float) -> Load:
    """Cost of the running recorder, all its workers together, over `seconds`, between two words of its status."""
    first = fresh_status(data)
    pids = [worker.pid for worker in first.running]
    cpus_s, wall, wrote = [cpu_s(pid) for pid in pids], time.monotonic(), sum(map(written_bytes, pids))
    seen = [fresh_status(data)]
    while time.monotonic() < wall + seconds:
        seen.append(fresh_status(data))
    last = seen[-1]
    return Load(
        media_bytes=sum(s.media_bytes for s in last.streams) - sum(s.media_bytes for s in first.streams),
        cpus_s=[cpu_s(pid) - before_s for pid, before_s in zip(pids, cpus_s, strict=True)],
        wall_s=time.monotonic() - wall,
        rss_bytes=sum(map(rss_bytes, pids)),
        written_bytes=sum(map(written_bytes, pids)) - wrote,
        lost=sum(s.lost_packets for s in last.streams),
        dropped=sum(s.dropped_gops for s in last.streams),
        loop_lags_ms=[status.loop_lag_ms for status in seen],
        queue_bytes=[sum(volume.queue_bytes for volume in status.volumes) for status in seen],
        syncs_ms=[max(volume.last_sync_ms for volume in status.volumes) for status in seen],
    )


def fresh_status(data: Path) -> RecorderStatus:
    """The recorder's next word, from each of its workers."""
    files = sorted((data / "run").glob("recorder-*.json"))
    before = [path.stat().st_mtime_ns for path in files]
    while any(path.stat().st_mtime_ns == then for path, then in zip(files, before, strict=True)):
        time.sleep(0.01)
    status = read_status(data / "run")
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


def judged(data: Path, streams: Iterable[int]) -> tuple[int, int]:
    """(pictures recorded, pictures missing or wrong) by the stamps in the chunk files."""
    pictures = wrong = 0
    for number in streams:
        found = (data / "media" / f"cam{number}.main").glob("*/*.mp4")
        paths = sorted(found, key=lambda path: parse_chunk_path(path).sequence)
        samples = [sample for path in paths for sample in chunk_samples(path)]
        report = verify(samples, "h264")
        pictures += len(samples)
        wrong += report.missing_pictures + len(report.mismatches) + report.unstamped + (not samples)
    return pictures, wrong
