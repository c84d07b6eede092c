"""A hold placed while retention deletes the same chunk: what was acknowledged exists. Two processes, a real index."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from base.datadir import DataDir
from chunks.path import chunk_path
from chunks.volume import Volume
from index import Index
from index.expire import garbage
from index.holds import Hold, Placed, place
from tests.faults.conftest import AT_LENGTH
from tests.index.test_transaction import BASE_US, VOLUME, chunk

ROOT = Path(__file__).parents[2]
WANTED = 10_000 if AT_LENGTH else 300
RACES = 100  # of one round
CHUNKS = 400
DELAY_S = 0.008  # two transactions of the deleter
S = 1_000_000

DELETER = """
import sys, time
from pathlib import Path
import structlog
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
from base.datadir import DataDir
from chunks.volume import Volume
from recorder import purge
from recorder.policy import Need
from tests.recorder.test_purge import Rig
purge.BATCH = 2  # so that there are many borders to meet at
for line in sys.stdin:
    datadir = DataDir.open(Path(line.strip()))
    rig = Rig(datadir, Volume.open(datadir.media_path), None)
    rig.keeper.grace_s, rig.need = 0.0, Need(1 << 60)
    print("ready", flush=True)
    while not (datadir.path / "stop").exists():
        rig.purger._next_need_s = 0.0
        rig.purger.step()
    rig.need = Need()
    while rig.condemned():
        rig.purger.step()
    rig.close()
    print("done", flush=True)
"""


class Counts(NamedTuple):
    """What became of the holds."""

    kept: int
    back: int  # of these, what was condemned already and came back
    late: int  # of what was gone before, and was said to be


def prepare(folder: Path) -> tuple[DataDir, Volume]:
    """A node with many chunks, each of ten seconds and some bytes."""
    datadir = DataDir.create(folder)
    volume = Volume.create(datadir.media_path, datadir.node_id)
    datadir.add_volume(volume.id, volume.root)
    with Index.open(datadir.index_path, create=True) as index, index.write() as transaction:
        for i in range(CHUNKS):
            start_us = BASE_US + 10 * i * S
            records = chunk(1, i + 1, start_us, 10)
            records[0] = _on(records[0], volume.id)
            transaction.apply(records)
            path = chunk_path(volume.root, "cam1.main", start_us, i + 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"media")
    return datadir, volume


def _on(opened: object, volume: bytes) -> object:
    from dataclasses import replace

    from chunks.records import ChunkOpened

    assert isinstance(opened, ChunkOpened)
    assert opened.head.volume == VOLUME
    return replace(opened, head=replace(opened.head, volume=volume))


def race(index: Index, chance: random.Random) -> tuple[int, Placed, bool] | None:
    """Hold a chunk that was seen a moment ago, near to where deleting is: (sequence, the hold, it was condemned)."""
    with index.read() as snapshot:
        rows = snapshot.chunks(1, 0, BASE_US * 2)
        held = {one.start_us for one in _held(snapshot)}
    near = [row for row in rows if row.start_us + S not in held][:5]
    if len(near) < 2:
        return None
    row = chance.choice(near[:-1])
    time.sleep(chance.random() * DELAY_S)
    with index.write() as transaction:
        hold = Hold(
            streams=("cam1.main",), start_us=row.start_us + S, end_us=row.start_us + 2 * S, reason="r", owner="o",
            created_us=BASE_US,
        )  # fmt: skip
        was_condemned = any(one.chunk.sequence == row.sequence for one in garbage(transaction, 1))
        return row.sequence, place(transaction, hold), was_condemned


def _held(snapshot: object) -> list[Hold]:
    from index.holds import holds

    return holds(snapshot)  # type: ignore[arg-type]


def one_round(folder: Path, deleter: subprocess.Popen[str], chance: random.Random) -> Counts:
    datadir, volume = prepare(folder)
    assert deleter.stdin is not None
    assert deleter.stdout is not None
    deleter.stdin.write(f"{folder}\n")
    deleter.stdin.flush()
    assert deleter.stdout.readline() == "ready\n"
    acknowledged, late, back = set(), 0, 0
    with Index.open(datadir.index_path) as index:
        for _ in range(RACES):
            done = race(index, chance)
            if done is None:
                break
            if done[1].gone:
                late += 1
            else:
                acknowledged.add(done[0])
                back += done[2]
        (folder / "stop").touch()
        assert deleter.stdout.readline() == "done\n"
        with index.read() as snapshot:
            there = {row.sequence: row for row in snapshot.chunks(1, 0, BASE_US * 2)}
    assert acknowledged <= there.keys(), "held, and the index does not know it"
    for sequence in acknowledged:
        path = chunk_path(volume.root, "cam1.main", there[sequence].start_us, sequence)
        assert path.read_bytes() == b"media", "held, and its file is gone"
    return Counts(len(acknowledged), back, late)


def test_what_is_held_exists(tmp_path: Path) -> None:
    chance = random.Random(11)
    deleter = subprocess.Popen(
        [sys.executable, "-c", DELETER], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    kept = back = late = 0
    for turn in range(WANTED):
        one = one_round(tmp_path / str(turn), deleter, chance)
        kept, back, late = kept + one.kept, back + one.back, late + one.late
        if kept + late >= WANTED and min(kept - back, back, late):
            break
    print(f"{kept} holds kept what they cover, {back} of them brought it back; {late} were told that it was gone")
    _, errors = deleter.communicate(timeout=30)
    assert deleter.returncode == 0, errors
    assert kept + late >= WANTED
    assert min(kept - back, back, late) > 0, "each outcome was met"
