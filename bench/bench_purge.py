"""How fast retention deletes, in an index of a million chunks: choosing, condemning, recording and unlinking.

The index holds 2,000 streams × 500 chunks of 10 minutes at 4 Mbit/s, a block of key frames each; as many files as are
deleted exist, with all their blocks given to them (`fallocate`), so that unlinking frees what it would free. One volume
and its thread; the ingest it is compared with is that of 1,000 cameras on the whole node, 500 MB/s.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

from pytest_benchmark.fixture import BenchmarkFixture

from base.clock import ClockTrust, SystemClock
from base.config import Config, RetentionConfig
from base.datadir import DataDir
from bench.machine import cpu_s, describe
from bench.sizes import scaled
from chunks.path import chunk_path
from chunks.volume import Volume
from index import Index, Transaction
from index.expire import count_all
from index.schema import CHUNK, CHUNK_SEALED, SEQUENCE_KEY, START, TIME_KEY
from native import keyblock
from recorder.committer import Committer
from recorder.keeper import Keeper
from recorder.policy import Need
from recorder.purge import Purger
from recorder.slot import Slot

STREAMS: Final = scaled(full=2000, smoke=100)
CHUNKS: Final = scaled(full=500, smoke=20)  # of each
FILE_BYTES: Final = scaled(full=300_000_000, smoke=4_000_000)
DELETED: Final = scaled(full=64, smoke=32)
CHUNK_US: Final = 600_000_000
BEGIN_US: Final = 1_790_000_000_000_000
INGEST_BYTES_S: Final = 500_000_000
KEY_FRAMES: Final = 60  # one block


class _Clock(SystemClock):
    def trust(self) -> ClockTrust:
        return ClockTrust(True)


def build(index: Index, volume: Volume) -> None:
    """Rows of all chunks, stream by stream; what the recorder counts on the way is counted at the end."""
    frames = [(i * 10_000_000, 900 + i * (FILE_BYTES // KEY_FRAMES)) for i in range(KEY_FRAMES)]
    with index.write() as transaction:
        ids = [transaction.ensure_stream(f"cam{i}.main").id for i in range(STREAMS)]
    for stream_id in ids:
        with index.write() as transaction:
            for sequence in range(1, CHUNKS + 1):
                _put(transaction, volume, stream_id, sequence, frames)
    with index.write() as transaction:
        for key, row in count_all(transaction).items():
            transaction._txn.put(key, row, db=transaction._db.usage)


def start_of(stream_id: int, sequence: int) -> int:
    """Chunks of the streams begin one after the other, as the recorder staggers them."""
    return BEGIN_US + sequence * CHUNK_US + stream_id * (CHUNK_US // STREAMS)


def _put(
    transaction: Transaction, volume: Volume, stream_id: int, sequence: int, frames: list[tuple[int, int]]
) -> None:
    txn, db, start_us = transaction._txn, transaction._db, start_of(stream_id, sequence)
    ((block_us, block),) = keyblock.extend(sequence, 0, b"", [(start_us + at, offset) for at, offset in frames])
    txn.put(TIME_KEY.pack(stream_id, block_us), block, db=db.key_frames)
    row = CHUNK.pack(
        sequence, 1, 1, CHUNK_SEALED, volume.id, start_us + CHUNK_US, FILE_BYTES, start_us * 9 // 100, 15_000, 1_200,
        FILE_BYTES, FILE_BYTES - 9000,
    )  # fmt: skip
    txn.put(TIME_KEY.pack(stream_id, start_us), row, db=db.chunks)
    txn.put(SEQUENCE_KEY.pack(stream_id, sequence), START.pack(start_us), db=db.sequences)


def make_files(volume: Volume) -> None:
    """Of the oldest chunks, with their blocks."""
    oldest = sorted((start_of(i, n), i, n) for n in range(1, DELETED // STREAMS + 3) for i in range(1, STREAMS + 1))
    for start_us, stream_id, sequence in oldest[: DELETED + 2 * 64]:
        path = chunk_path(volume.root, f"cam{stream_id - 1}.main", start_us, sequence)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            if (start_us, stream_id, sequence) in oldest[:DELETED]:
                os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
            file.flush()
            os.fsync(file.fileno())


def _never(*_: object) -> Any:
    raise AssertionError


def bench_purge(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Budget: ≥ 2 × the ingest rate of a whole node."""
    datadir = DataDir.create(tmp_path / "data")
    volume = Volume.create(datadir.media_path, datadir.node_id)
    with Index.open(datadir.index_path, create=True) as index:
        build(index, volume)
        make_files(volume)
        committer = Committer(index)
        committer.start()
        keeper = Keeper(index, committer, Config(retention=RetentionConfig(grace_s=0.2)), datadir, _Clock())
        began_s = time.perf_counter()
        keeper.refresh()
        facts_s = time.perf_counter() - began_s
        keeper.grace_s = 0.0
        slot = Slot(volume.id, volume.root, make_writer=_never, settle=_never, on_failed=_never)
        slot.reason = ""
        purger = Purger(slot, keeper)
        began_s = time.perf_counter()
        purger._choose(Need(1))
        choose_s = time.perf_counter() - began_s

        def purge() -> float:
            cpu = cpu_s(os.getpid())
            missing = DELETED * FILE_BYTES
            purger._need = lambda *_: Need(max(0, missing - purger.told.deleted_bytes - _waiting(purger)))  # type: ignore[method-assign]
            while purger.told.deleted_chunks < DELETED:
                purger._next_need_s = 0.0
                purger.step()
            return cpu_s(os.getpid()) - cpu

        began_s = time.perf_counter()
        used_s = benchmark.pedantic(purge, rounds=1)
        took_s = time.perf_counter() - began_s
        committer.stop()
        keeper.log.close()
    rate = purger.told.deleted_bytes / took_s
    benchmark.extra_info |= describe() | {
        "chunks_in_index": STREAMS * CHUNKS, "deleted": purger.told.deleted_chunks, "MB_s": round(rate / 1e6),
        "chunks_s": round(purger.told.deleted_chunks / took_s, 1), "times_ingest": round(rate / INGEST_BYTES_S, 1),
        "cpu_ms_per_chunk": round(used_s * 1e3 / purger.told.deleted_chunks, 2),
        "choose_ms": round(choose_s * 1e3, 1), "facts_ms": round(facts_s * 1e3, 1),
    }  # fmt: skip
    if FILE_BYTES == 300_000_000:
        assert rate >= 2 * INGEST_BYTES_S


def _waiting(purger: Purger) -> int:
    return purger.told.waiting * FILE_BYTES
