"""The write path, flat out: how many bytes a second reach stable storage, beside fio on the same volume.

`STREAMS` pipelines are fed faster than life, each through its own builder, into one volume writer; the clock stops when
the last byte is synced. fio writes as many bytes into as many files in blocks of a fragment's size: through the page
cache with a sync at the end, and with O_DIRECT. The better of the two is the peer. Rounds alternate.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from base.datadir import DataDir
from bench.footage import LOAD, HandClock
from bench.machine import describe
from bench.sizes import SMOKE, scaled
from chunks.records import GapCause
from chunks.volume import Volume
from chunks.writer import VolumeWriter
from index import Camera, Index
from native.fragment import FragmentBuilder
from recorder.committer import Committer
from recorder.pipeline import Pipeline, Resume, Rotation
from recorder.storedclock import StoredClock
from simcam.encode import make_loop

STREAMS = scaled(full=200, smoke=8)
SECONDS = scaled(full=40, smoke=4)  # of each stream: 4 GB in all
ROUNDS = scaled(full=3, smoke=1)
BLOCK_BYTES = 256 << 10  # half a second of 4 Mbit/s


def written(data: Path) -> tuple[int, float, float]:
    """(bytes on disk, seconds until all were synced, CPU seconds) of the product's own path."""
    folder = DataDir.create(data)
    volume = Volume.create(folder.media_path, folder.node_id)
    index = Index.open(folder.index_path, create=True, node=folder.node_id)
    with index.write() as transaction:
        transaction.put_camera(Camera(id="gate", main="rtsp://127.0.0.1:1/none", enabled=False))
        streams = [transaction.ensure_stream(f"gate{number}.main") for number in range(STREAMS)]
    committer = Committer(index)
    committer.start()
    failures: list[Exception] = []
    writer = VolumeWriter(volume, on_commit=committer.submit, on_failure=lambda error, _: failures.append(error))
    clock = HandClock(wall_us=time.time_ns() // 1000 - 3_600_000_000)
    pipelines = [
        Pipeline(
            stream,
            Resume(),
            node=folder.node_id,
            rotation=Rotation(600_000_000, 2 << 30),
            clock=StoredClock(clock),
            pick_volume=lambda _: writer,
        )
        for stream in streams
    ]
    writer.start()
    started_s, cpu_s = time.monotonic(), _own_cpu_s()
    _feed(pipelines, writer, clock)
    writer.stop()
    took_s, used_s = time.monotonic() - started_s, _own_cpu_s() - cpu_s
    committer.stop()
    index.close()
    assert not failures, failures
    return writer.written_bytes, took_s, used_s


def _feed(pipelines: list[Pipeline], writer: VolumeWriter, clock: HandClock) -> None:
    builders = [FragmentBuilder("h264", pipeline.on_fragment, fragment_90k=45_000) for pipeline in pipelines]
    track = make_loop(LOAD).video
    samples = [track.table.sample(i, None) for i in range(len(track.pts))]
    for pipeline in pipelines:
        pipeline.begin_run("h264", None, lambda: None, lambda _: 0)
    for number in range(SECONDS * LOAD.fps):
        clock.forward(1_000_000 // LOAD.fps)
        while writer.queue_bytes > writer.queue_bytes_max // 2:
            time.sleep(0.001)
        now_us, sample = clock.monotonic_us(), samples[number % len(samples)]
        for builder in builders:
            builder.push_video(number * 90_000 // LOAD.fps, now_us, sample)
    for builder, pipeline in zip(builders, pipelines, strict=True):
        builder.finish()
        pipeline.end_run(GapCause.STOPPED)


def fio(folder: Path, size: int, *, direct: bool) -> tuple[float, float]:
    """(seconds, CPU seconds) that fio takes for `size` bytes in `STREAMS` files."""
    folder.mkdir()
    how = ["--direct=1", "--ioengine=libaio", "--iodepth=8"] if direct else ["--ioengine=psync", "--end_fsync=1"]
    command = [
        "fio", "--name=peer", f"--directory={folder}", "--rw=write", f"--bs={BLOCK_BYTES}", f"--nrfiles={STREAMS}",
        "--file_service_type=roundrobin", f"--size={size}", "--fallocate=none", "--create_on_open=1",
        "--openfiles=1000", "--output-format=json", *how,
    ]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s = report["jobs"][0]["write"]["runtime"] / 1000
    shutil.rmtree(folder)
    return took_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def rounds(folder: Path) -> dict[str, Any]:
    """All rounds; returns the medians."""
    ours: list[tuple[int, float, float]] = []
    buffered: list[tuple[float, float]] = []
    direct: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        ours.append(written(folder / f"data{number}"))
        shutil.rmtree(folder / f"data{number}")
        size = ours[-1][0]
        buffered.append(fio(folder / "buffered", size, direct=False))
        direct.append(fio(folder / "direct", size, direct=True))
    gb = ours[0][0] / 1e9
    mb_s = gb * 1000 / median(took_s for _, took_s, _ in ours)
    buffered_mb_s, direct_mb_s = (gb * 1000 / median(took_s for took_s, _ in of) for of in (buffered, direct))
    return {
        "streams": STREAMS,
        "gb": round(gb, 2),
        "mb_s": round(mb_s, 1),
        "cpu_s_per_gb": round(median(used_s for _, _, used_s in ours) / gb, 3),
        "fio_buffered_mb_s": round(buffered_mb_s, 1),
        "fio_buffered_cpu_s_per_gb": round(median(used_s for _, used_s in buffered) / gb, 3),
        "fio_direct_mb_s": round(direct_mb_s, 1),
        "fio_direct_cpu_s_per_gb": round(median(used_s for _, used_s in direct) / gb, 3),
        "ratio": round(mb_s / max(buffered_mb_s, direct_mb_s), 2),
        "smoke": SMOKE,
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("fio") is None, reason="fio is not installed")
def bench_write(benchmark: Any, tmp_path: Path) -> None:
    """Budget: ≥ 70 % of what fio sustains on the same volume."""
    result = benchmark.pedantic(rounds, args=(tmp_path,), rounds=1, iterations=1)
    benchmark.extra_info.update(result, machine=describe())
