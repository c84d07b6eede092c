"""A clip over HTTP: time to its first byte at random places, and how fast its bytes come, each one verified."""

from __future__ import annotations

import json
import random
import signal
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

from base.media import StreamConfig, VideoConfig
from base.units import format_time
from bench import fetch
from bench.footage import make
from bench.machine import cpu_s, describe
from bench.sizes import scaled
from chunks.records import ChunkHead, ChunkOpened, ChunkSealed, ClockState, FragmentStored, StoredRecord
from clips import hls
from index import Index

SECONDS = scaled(full=3600, smoke=120)
CLIP_S = scaled(full=600, smoke=60)
SEEKS = scaled(full=300, smoke=20)
DAY_S = scaled(full=86_400, smoke=7200)
DAY_FROM_US = 1_772_328_600_000_000


class Served:
    """A playback process over a made recording."""

    def __init__(self, folder: Path) -> None:
        datadir, self.first_us, self.last_us = make(folder / "data", SECONDS)
        self.port = fetch.free_port()
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
        return urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.path(start_us, end_us)}")

    @staticmethod
    def path(start_us: int, end_us: int) -> str:
        """Path and query of a clip."""
        query = urlencode({"start": format_time(start_us), "end": format_time(end_us)})
        return f"/api/v1/streams/gate.main/clip.mp4?{query}"

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
    """Budget: p50 ≤ 3 ms, p99 ≤ 50 ms warm. Ten-second clips at random places, a new connection each."""
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


def bench_hls_day(benchmark: Any, tmp_path: Path) -> None:
    """Budget: ≤ 20 ms. The playlist of 24 h with a key frame each second, from an index on paper."""
    with Index.open(tmp_path / "index", create=True) as index:
        stream_id = _paper_day(index)

        def make() -> bytes:
            with index.read() as snapshot:
                return hls.vod_playlist(snapshot, stream_id, DAY_FROM_US, DAY_FROM_US + DAY_S * 1_000_000)

        text = benchmark.pedantic(make, rounds=SEEKS // 10, warmup_rounds=2)
    median_ms = round(benchmark.stats.stats.median * 1e3, 2)
    benchmark.extra_info.update(
        segments=text.count(b"#EXTINF"), playlist_mb=round(len(text) / 1e6, 2), median_ms=median_ms, machine=describe()
    )
    print(json.dumps({"median_ms": median_ms}))


def _paper_day(index: Index) -> int:
    """A stream of 144 chunks of ten minutes, by their records alone."""
    config = StreamConfig(VideoConfig("h264"))
    with index.write() as transaction:
        stream_id = transaction.ensure_stream("gate.main").id
        records: list[StoredRecord] = []
        for n in range(DAY_S // 600):
            start_us = DAY_FROM_US + n * 600_000_000
            head = ChunkHead(
                bytes(16),
                bytes(16),
                bytes(16),
                stream_id,
                "gate.main",
                n + 1,
                1,
                1,
                start_us,
                0,
                ClockState.SYNCED,
                0,
                0,
            )
            records.append(ChunkOpened(head, config, 1000))
            for i in range(600):
                at_us = start_us + i * 1_000_000
                records.append(
                    FragmentStored(
                        stream_id, n + 1, i + 1, 1000 + i * 500, 500, at_us, at_us + 1_000_000, True, 25, 400
                    )
                )
            records.append(ChunkSealed(stream_id, n + 1, start_us + 600_000_000, 301_200, 301_000))
        transaction.apply(records)
    return stream_id


@pytest.mark.parametrize("clients", [1, 50])
def bench_clip_bytes(benchmark: Any, served: Served, clients: int, tmp_path: Path) -> None:
    """Budget: ≥ 0.7 × nginx. MB/s and server CPU-s per GB of a clip, and of an equal file from nginx, in turns."""
    length_us = CLIP_S * 1_000_000 // (1 if clients == 1 else 10)
    path = served.path(served.first_us + 1_000_000, served.first_us + 1_000_000 + length_us)
    figures: dict[str, Any] = {}
    ours = Meter(served.process.pid, served.port, path, clients)
    if fetch.installed():
        with urllib.request.urlopen(f"http://127.0.0.1:{served.port}{path}") as answer:
            (tmp_path / "clip.mp4").write_bytes(answer.read())
        nginx = fetch.Nginx(tmp_path)
        try:
            theirs = Meter(nginx.process.pid, nginx.port, "/clip.mp4", clients)
            benchmark.pedantic(lambda: (ours.once(), theirs.once()), rounds=5, warmup_rounds=1)
        finally:
            nginx.stop()
        figures = {"nginx_mb_s": theirs.mb_s, "nginx_cpu_s_per_gb": theirs.cpu_s_per_gb}
        figures["ratio"] = round(ours.mb_s / theirs.mb_s, 2)
    else:
        benchmark.pedantic(ours.once, rounds=5, warmup_rounds=1)
    figures = {"clients": clients, "mb_s": ours.mb_s, "cpu_s_per_gb": ours.cpu_s_per_gb, **figures}
    benchmark.extra_info.update(figures, machine=describe())
    print(json.dumps(figures))
    assert len(set(ours.sizes)) == 1


class Meter:
    """Fetches one path again and again, and keeps what it took of the client's time and the server's CPU."""

    def __init__(self, pid: int, port: int, path: str, clients: int) -> None:
        self.pid, self.port, self.path, self.clients = pid, port, path, clients
        self.sizes: list[int] = []
        self.taken_s: list[float] = []
        self.cpu_s = 0.0

    def once(self) -> None:
        """One fetch by all clients."""
        began_s, used_s = time.perf_counter(), cpu_s(self.pid)
        self.sizes.append(fetch.drain(self.port, self.path, self.clients))
        self.taken_s.append(time.perf_counter() - began_s)
        self.cpu_s += cpu_s(self.pid) - used_s

    @property
    def mb_s(self) -> float:
        """Bytes of a fetch by the median time."""
        return round(self.sizes[0] / 1e6 / statistics.median(self.taken_s), 1)

    @property
    def cpu_s_per_gb(self) -> float:
        """The server's own CPU time."""
        return round(self.cpu_s / (sum(self.sizes) / 1e9), 3)
