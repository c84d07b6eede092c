"""What proving the recording costs: hashing alone, by each way this machine has; and the write path with its ledgers.

`hashing`: fragments of half a second of 4 Mbit/s, far more than the caches hold, as leaves of a hash tree; beside it
hashlib's SHA-256 one by one, and BLAKE3 where it is installed (`pip install blake3`), which would be another format.
`writing`: the product's own write path flat out with and without ledgers, rounds alternate; the difference is hashing,
trees, entries, signatures and their syncs together, with a head each second instead of each minute.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from base.clock import SystemClock
from base.config import load
from base.datadir import DataDir
from bench import bench_write
from bench.machine import describe
from bench.sizes import SMOKE, scaled
from chunks.writer import VolumeWriter
from evidence.chain import prove
from evidence.files import read_ledger
from evidence.keys import Keys
from native.sha256 import IMPLEMENTATIONS, leaves
from recorder.ledgers import Ledgers
from recorder.share import WHOLE
from recorder.storedclock import StoredClock

FRAGMENTS = scaled(full=800, smoke=32)  # 200 MB
FRAGMENT_BYTES = 250_000
ROUNDS = scaled(full=7, smoke=1)
WRITES = scaled(full=3, smoke=1)
HEAD_S = 1
BATCH = 64  # of one commit of a volume with some tens of streams


def _cost(pieces: list[bytes], hashed: Callable[[list[bytes]], object]) -> float:
    """CPU seconds per GB; the median of the rounds."""
    costs = []
    for _ in range(ROUNDS):
        before_s = time.process_time()
        for at in range(0, len(pieces), BATCH):
            hashed(pieces[at : at + BATCH])
        costs.append(time.process_time() - before_s)
    return round(median(costs) / sum(map(len, pieces)) * 1e9, 3)


def hashing() -> dict[str, Any]:
    pieces = [os.urandom(FRAGMENT_BYTES + 37 * i) for i in range(FRAGMENTS)]
    result: dict[str, Any] = {"fragments": FRAGMENTS, "smoke": SMOKE}
    for way in IMPLEMENTATIONS:
        result[f"{way}_cpu_s_per_gb"] = _cost(pieces, lambda some, way=way: leaves(some, way))  # type: ignore[misc]
    result["one_by_one_cpu_s_per_gb"] = _cost(pieces, lambda some: [hashlib.sha256(one).digest() for one in some])
    try:
        blake3 = import_module("blake3").blake3
    except ImportError:
        pass
    else:
        result["blake3_cpu_s_per_gb"] = _cost(pieces, lambda some: [blake3(one).digest() for one in some])
    return result


@pytest.mark.slow
def bench_hashing(benchmark: Any) -> None:
    """Budget: ≤ 0.15 CPU-s per GB."""
    result = benchmark.pedantic(hashing, rounds=1, iterations=1)
    benchmark.extra_info.update(result, machine=describe())


def _written(data: Path, with_ledgers: bool, monkeypatch: pytest.MonkeyPatch) -> float:
    """CPU seconds per GB on disk; with ledgers all of it is proved afterwards."""
    folder = DataDir.create(data)
    if not with_ledgers:
        size, _, used_s = bench_write.written(data)
        return used_s / size * 1e9
    Keys.ensure(folder.keys_path, None, SystemClock().wall_us())
    config = load()
    (data.parent / "config.toml").write_text(f"[evidence]\nhead_s = {HEAD_S}\n")
    config = load(data.parent / "config.toml")
    ledgers = Ledgers(folder, config, WHOLE, "bench")
    ledgers.start(StoredClock(SystemClock()), dict, lambda stream: 0)

    def writer(*args: Any, **more: Any) -> VolumeWriter:
        one = VolumeWriter(*args, **more, witness=ledgers.witness)
        real = one.stop

        def stop() -> None:
            real()
            ledgers.stop()

        one.stop = stop  # type: ignore[method-assign]
        return one

    with monkeypatch.context() as patch:
        patch.setattr(bench_write, "VolumeWriter", writer)
        size, _, used_s = bench_write.written(data)
    keys = Keys.open(folder.keys_path)
    for one in folder.ledger_path.iterdir():
        proven = prove(read_ledger(one), keys.check_signature)
        assert proven.sound
        assert proven.heads
    assert not ledgers.status.missed
    assert not ledgers.status.reason
    return used_s / size * 1e9


def writing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    bare: list[float] = []
    proved: list[float] = []
    for number in range(WRITES):
        for costs, with_ledgers in ((bare, False), (proved, True)):
            data = folder / f"data{number}{with_ledgers}"
            costs.append(_written(data, with_ledgers, monkeypatch))
            shutil.rmtree(data)
    pairs = [more - less for more, less in zip(proved, bare, strict=True)]
    return {
        "streams": bench_write.STREAMS,
        "cpu_s_per_gb": round(median(bare), 3),
        "with_ledgers_cpu_s_per_gb": round(median(proved), 3),
        "ledgers_cpu_s_per_gb": round(median(pairs), 3),
        "smoke": SMOKE,
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
def bench_ledger(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Budget: ≤ 0.15 CPU-s per GB for all that a ledger costs."""
    result = benchmark.pedantic(writing, args=(tmp_path, monkeypatch), rounds=1, iterations=1)
    benchmark.extra_info.update(result, machine=describe())
