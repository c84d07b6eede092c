"""A start after a crash: from nothing opened to knowing where every stream goes on, with all chunks open and torn.

The index knows half of each chunk's fragments; tails are read, checked, synced and indexed, which is all that recording
waits for. Cutting and sealing come after it and are told apart.
"""

from __future__ import annotations

import time
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from base.media import VideoConfig
from bench.machine import describe
from bench.sizes import scaled
from index import Index
from recorder.committer import Committer
from recorder.startup import Past
from tests.chunks.media import encode_video
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
