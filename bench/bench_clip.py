"""A clip over HTTP: time to its first byte at random places, and how fast its bytes come, each one verified."""

from __future__ import annotations

import json
import random
import statistics
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from base.media import StreamConfig, VideoConfig
from bench import fetch
from bench.machine import cpu_s, describe
from bench.served import Recorded, recorded, stream_path
from bench.sizes import scaled
from chunks.records import ChunkHead, ChunkOpened, ChunkSealed, ClockState, FragmentStored, StoredRecord
from clips import hls
from index import Index

SECONDS = scaled(full=3600, smoke=120)
CLIP_S = scaled(full=600, smoke=60)
SEEKS = scaled(full=300, smoke=20)
DAY_S = scaled(full=86_400, smoke=7200)
DAY_FROM_US = 1_772_328_600_000_000


def clip_path(start_us: int, end_us: int) -> str:
    """Path and query of a clip."""
    return stream_path("gate.main", "clip.mp4", start_us, end_us)


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with recorded(tmp_path_factory.mktemp("clip") / "data", SECONDS) as one:
        yield one


def bench_clip_first_byte(benchmark: Any, hour: Recorded) -> None:
    """Budget: p50 ≤ 3 ms, p99 ≤ 50 ms warm. Ten-second clips at random places, a new connection each."""
    rng = random.Random(1)
    taken: list[float] = []

    def seek() -> None:
        start_us = rng.randrange(hour.first_us, hour.last_us - 10_000_000)
        before = time.perf_counter()
        answer = hour.served.open(clip_path(start_us, start_us + 10_000_000))
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
def bench_clip_bytes(benchmark: Any, hour: Recorded, clients: int, tmp_path: Path) -> None:
    """Budget: ≥ 0.7 × nginx. MB/s and server CPU-s per GB of a clip, and of an equal file from nginx, in turns."""
    length_us = CLIP_S * 1_000_000 // (1 if clients == 1 else 10)
    path = clip_path(hour.first_us + 1_000_000, hour.first_us + 1_000_000 + length_us)
    figures: dict[str, Any] = {}
    ours = Meter(hour.served.process.pid, hour.served.port, path, clients)
    if fetch.installed():
        with urllib.request.urlopen(f"http://127.0.0.1:{hour.served.port}{path}") as answer:
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
