"""A start after a crash: from nothing opened to knowing where every stream goes on, with all chunks open and torn.

The index knows half of each chunk's fragments; tails are read, checked, synced and indexed, which is all that recording
waits for. Cutting and sealing come after it and are told apart. The same by the command, with a large index.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from base.media import VideoConfig
from bench.archive import KEY_FRAMES, build
from bench.machine import describe
from bench.sizes import scaled
from index import Camera, Index
from recorder.committer import Committer
from recorder.startup import Past
from tests.chunks.media import encode_video
from tests.e2e.node import free_port
from tests.recorder.torn import write_chunks

STREAMS = scaled(full=2000, smoke=100)


def test_start_with_open_chunks(tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    media = encode_video("h264")
    assert isinstance(media.config.video, VideoConfig)
    volume = write_chunks(tmp_path, media, streams=STREAMS, told=1)
    begin_s = time.perf_counter()
    with Index.open(tmp_path / "index") as index:
        committer = Committer(index)
        committer.start()
        past = Past(index, committer)
        benchmark.pedantic(past.settle, (volume, {}), rounds=1)
        resumed = past.resume(complete=True)
        ready_s = time.perf_counter() - begin_s
        assert len(resumed) == STREAMS
        while True:
            with index.read() as snapshot:
                left = len(snapshot.open_chunks())
            if not left:
                break
            time.sleep(0.05)
        sealed_s = time.perf_counter() - begin_s
        past.end()
        committer.stop()
    benchmark.extra_info |= describe() | {"chunks": STREAMS, "ready_s": ready_s, "sealed_s": sealed_s}
    print(f"{STREAMS} open chunks: recording begins after {ready_s:.2f} s, the last is sealed after {sealed_s:.2f} s")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_node_starts(tmp_path: Path, benchmark: BenchmarkFixture, workers: int) -> None:
    """`keyreel serve` after a crash of 2,000 streams, with an index of as many more: until all sessions are there.

    Programs are loaded, the index is judged, volumes are opened, tails are read; cameras refuse the connection.
    """
    data, port = tmp_path / "data", free_port()
    make_folder(data)
    config = tmp_path / "node.toml"
    config.write_text(f"[recorder]\nworkers = {workers}\n")
    command = [sys.executable, "-m", "keyreel", "serve", "--data", str(data), "--listen", f"127.0.0.1:{port}"]
    with (tmp_path / "log").open("wb") as log:

        def start() -> subprocess.Popen[bytes]:
            process = subprocess.Popen([*command, "--config", str(config)], stdout=log, stderr=log)
            while (tmp_path / "log").read_bytes().count(b'"stream added"') < STREAMS:
                assert process.poll() is None, "the node ended"
                time.sleep(0.02)
            return process

        process = benchmark.pedantic(start, rounds=1)
        process.send_signal(signal.SIGINT)
        process.wait(120)
    assert "made again" not in (tmp_path / "log").read_text(), "the index was judged sound"
    used_bytes = (data / "index" / "data.mdb").stat().st_size
    ready_s = benchmark.stats.stats.max
    benchmark.extra_info |= describe() | {"chunks": STREAMS, "index_bytes": used_bytes, "all_sessions_s": ready_s}
    print(
        f"{workers} worker(s), {STREAMS} open chunks, {used_bytes / 1e6:.0f} MB of index: all sessions are there after "
        f"{ready_s:.2f} s"
    )


def make_folder(data: Path) -> None:
    """A node's folder as a crash leaves it, with many chunks that were sealed before."""
    data.mkdir()
    volume = write_chunks(data, encode_video("h264"), streams=STREAMS, told=1)
    node = {"format": 1, "node": volume.node.hex(), "volumes": {volume.id.hex(): "media"}}
    (data / "node.json").write_text(json.dumps(node))
    with Index.open(data / "index", node=volume.node) as index:
        build(index, KEY_FRAMES, STREAMS)
        with index.write() as transaction:
            for number in range(STREAMS):
                transaction.put_camera(Camera(id=f"s{number}", main="rtsp://127.0.0.1:9/refused"))
