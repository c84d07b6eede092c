"""An archive without an index: `keyreel rebuild` alone, and a start that records while the chunks are read in.

16,384 sealed chunks of 64 MiB in 200 streams are what a terabyte has; their media are holes in the files, as nothing of
them is read. The start has 200 more chunks that a crash left open, with real fragments and torn ends.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from bench.chunkfiles import Archive, Shape
from bench.machine import describe
from bench.sizes import scaled
from chunks.volume import Volume
from index import Index
from index.rebuild import RebuildReport, rebuild
from index.renewal import make_ready
from recorder.committer import Committer
from recorder.indexcare import IndexCare
from recorder.startup import Past
from recorder.takein import TakeIn
from tests.chunks.media import encode_video
from tests.recorder.torn import write_chunks

CHUNKS = scaled(full=16_384, smoke=256)
STREAMS = scaled(full=200, smoke=8)


def _fill(volume: Volume, first_stream: int) -> None:
    archive = Archive(volume, Shape())
    for number in range(CHUNKS):
        archive.write(first_stream + number % STREAMS, 1 + number // STREAMS)


def test_rebuild(tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    volume = Volume.create(tmp_path / "media", bytes(16))
    _fill(volume, 1)
    before_s = time.process_time()
    report: RebuildReport = benchmark.pedantic(rebuild, (tmp_path / "index", [volume]), rounds=1)
    cpu_s = time.process_time() - before_s
    assert report.chunks == CHUNKS
    benchmark.extra_info |= describe() | {"chunks": CHUNKS, "fragments": report.fragments, "cpu_s": cpu_s}
    print(f"{report}; {cpu_s:.1f} CPU-s")


def test_start_without_an_index(tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    """Until recording may begin, and until the index is whole."""
    volume = write_chunks(tmp_path, encode_video("h264"), streams=STREAMS)
    _fill(volume, STREAMS + 1)
    shutil.rmtree(tmp_path / "index")
    begin_s = time.perf_counter()

    def start() -> tuple[Index, Committer, Past]:
        make_ready(tmp_path / "index", volume.node, lambda: [volume])
        index = Index.open(tmp_path / "index")
        committer = Committer(index)
        committer.start()
        past = Past(index, committer)
        past.settle(volume, {})
        assert len(past.resume(complete=True)) == 2 * STREAMS
        return index, committer, past

    index, committer, past = benchmark.pedantic(start, rounds=1)
    ready_s = time.perf_counter() - begin_s
    taking = TakeIn(index, committer, lambda: False)
    care = IndexCare(index, volume.node, committer, past, taking, lambda: ([volume], True))
    care.start()
    while True:
        with index.read() as snapshot:
            if snapshot.is_whole():
                break
        time.sleep(0.02)
    whole_s = time.perf_counter() - begin_s
    care.stop()
    committer.stop()
    index.close()
    benchmark.extra_info |= describe() | {"chunks": CHUNKS + STREAMS, "ready_s": ready_s, "whole_s": whole_s}
    print(f"{CHUNKS} chunks, {STREAMS} open: recording begins after {ready_s:.2f} s, all are in after {whole_s:.2f} s")
