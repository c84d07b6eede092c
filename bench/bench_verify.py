"""The hourly verification of an index that is written to meanwhile: in one slice, and in many.

Every second all streams of the archive get a fragment with a key frame, in one transaction, as recording does it; what
a commit frees while a snapshot is held makes the file grow, once it has no free pages left. Slices of half a second are
to an index of this size what slices of 20 s are to one forty times as large.
"""

from __future__ import annotations

import resource
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.archive import BEGIN_US, STREAMS, archive
from bench.machine import describe
from chunks.records import ChunkOpened, FragmentStored, StoredRecord
from index import Index
from index.verify import verify_live
from tests.index.test_transaction import chunk

COMMITS_MAX: Final = 600
COMMITS_COUNTED: Final = 10
LATER_US: Final = 3_600_000_000


class Writer:
    """Commits as a recorder does, until it is told to end."""

    def __init__(self, index: Index, sequence: int) -> None:
        self.commits = 0
        self._index = index
        self._ended = threading.Event()
        self._records = {
            stream_id: _of_another_epoch(
                chunk(stream_id, sequence, BEGIN_US + sequence * LATER_US, COMMITS_MAX, gop=1, seal=False)
            )
            for stream_id in range(1, STREAMS + 1)
        }
        self._commit([one for records in self._records.values() for one in records[:2]])
        self._thread = threading.Thread(target=self._run)

    def growth_bytes(self) -> float:
        """By what a commit makes the file grow while a snapshot is held."""
        with self._index.read():
            before_bytes = self._index.used_bytes()
            while self._index.used_bytes() == before_bytes:
                self._fresh()
            before_bytes = self._index.used_bytes()
            for _ in range(COMMITS_COUNTED):
                self._fresh()
            return (self._index.used_bytes() - before_bytes) / COMMITS_COUNTED

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _commit(self, records: list[StoredRecord]) -> None:
        with self._index.write() as transaction:
            transaction.apply(records)

    def _run(self) -> None:
        while not self._ended.wait(1.0) and self.commits < COMMITS_MAX - 2:
            self._fresh()

    def _fresh(self) -> None:
        self.commits += 1
        fresh = [records[self.commits + 1] for records in self._records.values()]
        assert isinstance(fresh[0], FragmentStored)
        self._commit(fresh)


def _of_another_epoch(records: list[StoredRecord]) -> list[StoredRecord]:
    """Their configuration is not the archive's."""
    first = records[0]
    assert isinstance(first, ChunkOpened)
    return [replace(first, head=replace(first.head, epoch=2)), *records[1:]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive(tmp_path_factory.mktemp("verify")).datadir.index_path


@pytest.mark.parametrize("slice_s", [1e9, 0.5])
def test_verification_beside_commits(folder: Path, benchmark: BenchmarkFixture, slice_s: float) -> None:
    with Index.open(folder) as index:
        writer = Writer(index, 60_000 if slice_s > 1 else 60_001)
        growth_bytes, index_bytes = writer.growth_bytes(), index.used_bytes()
        writer.start()
        try:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            verdict = benchmark.pedantic(verify_live, (index, 900.0, slice_s), rounds=1)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        finally:
            writer.end()
        assert verdict.pages == []
        assert verdict.rows_read
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        figures = {
            "index_bytes": index_bytes, "growth_bytes_per_commit": growth_bytes, "cpu_s": cpu_s,
            "slices": verdict.slices, "held_s": verdict.held_s,
        }  # fmt: skip
    benchmark.extra_info |= describe() | figures
    print(
        f"{index_bytes / 1e6:.0f} MB of index, {verdict.slices} slices, snapshots of {verdict.held_s:.1f} s at most, "
        f"{growth_bytes / 1e6:.1f} MB of growth by each commit meanwhile, {cpu_s:.1f} CPU-s"
    )
