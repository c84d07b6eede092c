"""Deletion on real files, a real index and a real committer: grace, leases, holds, crashes and what stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from base.clock import ClockTrust
from base.config import Config, RetentionConfig, RetentionRule
from base.datadir import DataDir
from base.leases import Leases
from chunks.path import chunk_path
from chunks.records import GapCause
from chunks.volume import Volume
from index import Index
from index.check import check
from index.deletions import deletions_path, read
from index.expire import garbage
from index.holds import Hold, place
from recorder import purge
from recorder.committer import Committer
from recorder.keeper import Keeper
from recorder.policy import DAY_US, Need
from recorder.purge import Purger
from recorder.slot import Slot
from tests.index.conftest import Record, record  # noqa: F401 (a fixture)

ROOT = Path(__file__).parents[2]
NOW_US = 1_790_000_000_000_000
S = 1_000_000


@dataclass
class HandClock:
    """Both clocks and the trust are set by hand."""

    wall: int = NOW_US
    monotonic: int = 10**12
    trusted: ClockTrust = field(default_factory=lambda: ClockTrust(True))

    def wall_us(self) -> int:
        return self.wall

    def monotonic_us(self) -> int:
        return self.monotonic

    async def sleep(self, duration_s: float) -> None:
        raise AssertionError

    def trust(self) -> ClockTrust:
        return self.trusted


@pytest.fixture
def datadir(tmp_path: Path) -> DataDir:
    return DataDir.create(tmp_path / "data")


@pytest.fixture
def volume(datadir: DataDir) -> Volume:
    made = Volume.create(datadir.media_path, datadir.node_id)
    datadir.add_volume(made.id, made.root)
    return made


class Rig:
    """A node's deleting half, stepped by hand."""

    def __init__(self, datadir: DataDir, volume: Volume, write: Record, **rules: Any) -> None:
        self.datadir, self.volume, self.clock = datadir, volume, HandClock()
        self.index = Index.open(datadir.index_path, create=True)
        self.committer = Committer(self.index)
        self.committer.start()
        self.config = Config(retention=RetentionConfig(**{"grace_s": 0.2} | rules))
        self.keeper = Keeper(self.index, self.committer, self.config, datadir, self.clock)
        self.slot = Slot(
            volume.id, volume.root, make_writer=_never, settle=lambda volume, cuts: None, on_failed=_never
        )  # fmt: skip
        self.slot.reason = ""
        self.purger = Purger(self.slot, self.keeper)
        self._write = write
        self.need = Need()
        self.purger._need = lambda *_: self.need  # type: ignore[method-assign]

    def fill(self, *ages_days: float, stream_id: int = 1) -> None:
        """Chunks of ten seconds, oldest first."""
        for sequence, age in enumerate(ages_days, 1):
            records = self._write(stream_id, sequence, NOW_US - round(age * DAY_US), 10, on=self.volume)
            with self.index.write() as transaction:
                transaction.apply(records)

    def there(self, stream_id: int = 1) -> list[int]:
        """Sequences that the index knows; each has its file."""
        with self.index.read() as snapshot:
            rows = snapshot.chunks(stream_id, 0, NOW_US * 2)
        for row in rows:
            assert self.path(row.start_us, row.sequence, stream_id).exists()
        return [row.sequence for row in rows]

    def path(self, start_us: int, sequence: int, stream_id: int = 1) -> Path:
        return chunk_path(self.volume.root, f"cam{stream_id}.main", start_us, sequence)

    def files(self) -> int:
        return len(list(self.volume.root.glob("*/*/*.mp4")))

    def condemned(self) -> list[int]:
        with self.index.read() as snapshot:
            return [one.chunk.sequence for one in garbage(snapshot)]

    def step_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not reached():
            assert time.monotonic() < deadline, (self.purger.told, self.there(), self.condemned())
            self.purger.step()
            time.sleep(0.02)

    def close(self) -> None:
        self.committer.stop()
        self.keeper.log.close()
        self.index.close()


def _never(*_: object) -> Any:
    raise AssertionError


MakeRig = Callable[..., Rig]


@pytest.fixture
def rig(datadir: DataDir, volume: Volume, record: Record) -> Iterator[MakeRig]:  # noqa: F811
    made: list[Rig] = []

    def make(**rules: Any) -> Rig:
        made.append(Rig(datadir, volume, record, **rules))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_what_is_too_old_goes_with_a_record_and_a_gap_of_its_own(rig: MakeRig) -> None:
    one = rig(days_max=7)
    one.fill(40, 20, 3, 1)
    one.step_until(lambda: one.files() == 2)
    one.step_until(lambda: not one.condemned())
    assert one.there() == [3, 4]
    told = list(read(deletions_path(one.index.path)))
    assert [(r.sequence, r.rule, r.stream) for r in told] == [
        (1, "days_max", "cam1.main"),
        (2, "days_max", "cam1.main"),
    ]
    with one.index.read() as snapshot:
        assert {gap.cause for gap in snapshot.gaps(1, 0, NOW_US)} == {GapCause.EXPIRED}
    assert check(one.index, [one.volume]) == []
    assert len(list((one.volume.root / "cam1.main").iterdir())) == 2, "days of which nothing is left are gone too"
    assert (one.purger.told.deleted_chunks, one.purger.told.paused) == (2, "")


def test_the_newest_goes_for_its_age_alone_and_its_number_is_not_used_again(rig: MakeRig) -> None:
    one = rig(days_max=7)
    one.fill(40, 30)
    one.need = Need(1 << 40)
    one.step_until(lambda: one.files() == 0 and not one.condemned())
    with one.index.read() as snapshot:
        assert snapshot.next_sequence(1) == 3


def test_a_hold_in_the_grace_brings_it_back(rig: MakeRig) -> None:
    one = rig(days_max=7, grace_s=3600)
    one.fill(40, 20, 1)
    one.step_until(lambda: one.condemned() == [1, 2])
    with one.index.write() as transaction:
        placed = place(transaction, _hold(NOW_US - 40 * DAY_US + S))
    assert placed.gone == {}
    assert one.there() == [1, 3]
    one.keeper.grace_s = 0
    one.step_until(lambda: not one.condemned())
    assert one.there() == [1, 3]
    one.purger._next_pass_s = 0
    one.need = Need(1 << 40)
    one.purger.step()
    assert one.there() == [1, 3], "short of room or too old: what is held stays"
    assert one.purger.told.short_bytes


def _hold(at_us: int, length_us: int = S) -> Hold:
    return Hold(
        streams=("cam1.main",), start_us=at_us, end_us=at_us + length_us, reason="r", owner="o", created_us=NOW_US
    )


def test_a_reader_with_a_lease_reads_to_the_end(rig: MakeRig) -> None:
    """Also when it takes its lease while the chunk can still be found, and long after the grace."""
    one = rig(days_max=7, grace_s=0.2)
    one.fill(40, 20, 1)
    reading = Leases(one.datadir.run_path)
    lease = reading.take(1, NOW_US - 40 * DAY_US + S, NOW_US - 40 * DAY_US + 2 * S)
    one.step_until(lambda: one.files() == 2)
    assert one.path(NOW_US - 40 * DAY_US, 1).exists()
    for _ in range(20):
        one.purger.step()
    assert one.there() == [1, 3], "what a reader has before him is not even condemned"
    lease.release()
    one.purger._next_pass_s = 0
    one.step_until(lambda: one.files() == 1)


def test_who_found_it_before_it_was_condemned_is_waited_for_and_who_came_later_is_not(rig: MakeRig) -> None:
    one = rig(days_max=7)
    one.fill(40, 1)
    reading = Leases(one.datadir.run_path)
    leases_taken = []
    condemn = one.purger._condemn

    def found_meanwhile(victims: Any) -> bool:
        leases_taken.append(reading.take(1, NOW_US - 41 * DAY_US, NOW_US))
        return condemn(victims)

    one.purger._condemn = found_meanwhile  # type: ignore[method-assign]
    one.step_until(lambda: one.condemned() == [1])
    later = reading.take(1, NOW_US - 41 * DAY_US, NOW_US)
    for _ in range(30):
        one.purger.step()
        time.sleep(0.02)
    assert one.files() == 2
    leases_taken.pop().release()
    one.step_until(lambda: one.files() == 1)
    later.release()


def test_room_is_made_oldest_first_over_streams_by_rule(rig: MakeRig) -> None:
    one = rig(rules=[RetentionRule(streams=["cam2.*"], days_min=30)])
    one.fill(20, 10, 5, 1)
    one.fill(40, 25, 8, stream_id=2)
    one.need = Need(1)
    one.purger.step()
    one.need = Need()
    one.step_until(lambda: one.files() == 6)
    assert (one.there(1), one.there(2)) == ([1, 2, 3, 4], [2, 3]), "the oldest of all"
    one.need = Need(1 << 40)
    one.step_until(lambda: one.files() == 3)
    for _ in range(5):
        one.purger.step()
    assert (one.there(1), one.there(2)) == ([4], [2, 3]), "guaranteed days stay, and the newest"
    assert one.purger.told.short_bytes > 0


def test_limits_of_bytes_of_streams_and_groups(rig: MakeRig) -> None:
    one = rig(rules=[RetentionRule(streams=["cam1.*"], bytes_max=1), RetentionRule(streams=["*"], group_bytes_max=1)])
    one.fill(20, 10)
    one.fill(9, 8, stream_id=2)
    one.fill(7, 6, stream_id=3)
    one.step_until(lambda: one.files() == 3)
    assert (one.there(1), one.there(2), one.there(3)) == ([2], [2], [2])


def test_a_step_of_the_clock_deletes_nothing(rig: MakeRig) -> None:
    """Forward by ten years, with a clock that everybody trusts; backward; and one that is not trusted at all."""
    one = rig(days_max=60, grace_s=0.2, days_min=1)
    one.fill(40, 20, 1)
    one.purger.step()
    for step_us in (3650 * DAY_US, -3650 * DAY_US, -NOW_US, 3600 * S):
        one.clock.wall = NOW_US + step_us
        one.clock.monotonic += 60 * S
        one.purger._next_pass_s = 0
        one.purger.step()
        assert (one.there(), one.condemned()) == ([1, 2, 3], [])
    one.clock.wall = NOW_US + 3650 * DAY_US
    one.clock.trusted = ClockTrust(False, "stepped")
    one.purger._next_pass_s = 0
    one.clock.monotonic += 100 * DAY_US
    one.need = Need(1)
    one.purger.step()
    assert (one.there(), one.condemned()) == ([1, 2, 3], [])
    assert one.purger.told.paused == "clock"
    one.clock.trusted = ClockTrust(True)
    one.clock.wall = NOW_US + 25 * DAY_US
    one.need = Need()
    one.purger._next_pass_s = 0
    one.step_until(lambda: one.files() == 2)
    assert one.there() == [2, 3], "time that did pass counts"


def test_without_a_trusted_clock_room_is_made_and_nothing_ends_for_a_date(rig: MakeRig) -> None:
    """A full disk takes the oldest that has no guaranteed days; no guaranteed day runs out and no hold expires."""
    one = rig(rules=[RetentionRule(streams=["cam2.*"], days_min=30)])
    one.fill(50, 20, 10, 1)
    one.fill(60, 40, 8, stream_id=2)
    with one.index.write() as transaction:
        place(transaction, replace(_hold(NOW_US - 50 * DAY_US + S), expires_us=NOW_US + DAY_US))
    one.clock.wall = NOW_US + 3650 * DAY_US
    one.clock.trusted = ClockTrust(False, "unsynced")
    one.keeper = one.purger._keeper = Keeper(  # as after a restart under that clock
        one.index, one.committer, one.config, one.datadir, one.clock
    )
    one.need = Need(1 << 40)
    one.step_until(lambda: one.files() == 5 and not one.condemned())
    for _ in range(5):
        one.purger._next_need_s = 0
        one.purger.step()
    assert (one.there(1), one.there(2)) == ([1, 4], [1, 2, 3])
    assert one.purger.told.paused == "clock"
    assert one.purger.told.short_bytes
    one.clock.trusted = ClockTrust(True)
    one.step_until(lambda: one.files() == 2 and not one.condemned())
    assert (one.there(1), one.there(2)) == ([4], [3]), "with a clock that is trusted the hold is over"


def test_what_is_too_old_goes_in_bounded_portions(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "AGED_BYTES_MIN", 0)
    one = rig(days_max=1)
    one.fill(*range(40, 2, -1))
    one.keeper.refresh()
    one.purger.step()
    assert one.purger.told.held_back
    assert len(one.condemned()) <= 1


@pytest.mark.parametrize("reason", ["missing", "eio", "hung", "readonly", "opening"])
def test_nothing_goes_on_a_volume_that_is_not_well(rig: MakeRig, reason: str) -> None:
    one = rig(days_max=7)
    one.fill(40, 1)
    one.slot.reason = reason
    one.purger.step()
    assert (one.there(), one.condemned(), one.purger.told.paused) == ([1, 2], [], "volume")
    one.slot.reason = ""
    one.step_until(lambda: one.files() == 1)


def test_nothing_goes_while_the_index_is_behind(rig: MakeRig) -> None:
    one = rig(days_max=7)
    one.fill(40, 1)
    one.committer.fall_behind([((1, 9), 5)])
    one.purger.step()
    assert (one.there(), one.condemned(), one.purger.told.paused) == ([1, 2], [], "index")


def test_while_chunks_are_read_into_the_index_nothing_goes_and_a_full_volume_is_short(rig: MakeRig) -> None:
    one = rig(days_max=7)
    one.fill(40, 1)
    one.need, one.slot.reason = Need(bytes=1), "enospc"
    with one.index.write() as transaction:
        transaction.set_whole(read_in=False)
    one.purger.step()
    told = one.purger.told
    assert (one.there(), one.condemned(), told.paused, told.short_bytes) == ([1, 2], [], "index", 1)
    with one.index.write() as transaction:
        transaction.set_whole()
    one.need, one.slot.reason = Need(), ""
    one.step_until(lambda: one.files() == 1)
    assert (told.paused, told.short_bytes) == ("", 0)


def test_a_volume_that_is_away_holds_up_no_other(rig: MakeRig) -> None:
    one = rig(days_max=7)
    one.fill(40, 1)
    with one.index.write() as transaction:
        transaction.set_whole(complete=False)
    one.step_until(lambda: one.files() == 1)
    assert one.purger.told.paused == ""


def test_another_disk_in_the_place_of_the_volume_loses_nothing(rig: MakeRig, tmp_path: Path) -> None:
    one = rig(days_max=7)
    one.fill(40, 1)
    one.step_until(lambda: one.condemned() == [1])
    one.volume.root.rename(tmp_path / "away")
    Volume.create(one.volume.root, b"n" * 16)
    time.sleep(0.3)
    with pytest.raises(Exception, match="is the right disk mounted"):
        one.purger.step()
    (one.volume.root / "keyreel-volume.json").unlink()
    one.volume.root.rmdir()
    (tmp_path / "away").rename(one.volume.root)
    assert one.files() == 2
    assert not deletions_path(one.index.path).exists() or list(read(deletions_path(one.index.path))) == []
    one.step_until(lambda: one.files() == 1)


def test_a_file_that_is_another_chunk_stays(rig: MakeRig) -> None:
    one = rig(days_max=7)
    one.fill(40, 1)
    os.replace(one.path(NOW_US - DAY_US, 2), one.path(NOW_US - 40 * DAY_US, 1))
    one.step_until(lambda: one.condemned() == [1])
    time.sleep(0.3)
    for _ in range(5):
        one.purger.step()
    assert one.files() == 1


def test_a_hold_over_what_the_file_says_beyond_the_index_keeps_it(rig: MakeRig) -> None:
    """A flipped bit in the index shortens a chunk; a hold over its end still holds."""
    one = rig(days_max=7)
    one.fill(40, 1)
    start_us = NOW_US - 40 * DAY_US
    with one.index.write() as transaction:
        from index.schema import CHUNK, TIME_KEY

        key = TIME_KEY.pack(1, start_us)
        row = list(CHUNK.unpack(transaction._txn.get(key, db=transaction._db.chunks)))
        row[5] = start_us + S
        transaction._txn.put(key, CHUNK.pack(*row), db=transaction._db.chunks)
        place(transaction, _hold(start_us + 8 * S))
    one.step_until(lambda: one.condemned() == [1])
    one.step_until(lambda: not one.condemned())
    assert one.there() == [1, 2]


def test_a_damaged_file_goes_by_its_name(rig: MakeRig) -> None:
    one = rig(days_max=7)
    one.fill(40, 1)
    one.path(NOW_US - 40 * DAY_US, 1).write_bytes(b"spoilt" * 100)
    one.step_until(lambda: one.files() == 1 and not one.condemned())


# --- crashes

KILLED = """
import os, sys, time
from pathlib import Path
from base.datadir import DataDir
from index import expire, deletions
from recorder import purge
from tests.recorder.test_purge import Rig
from chunks.volume import Volume
data, step = Path(sys.argv[1]), sys.argv[2]
datadir = DataDir.open(data)
def dies(module, name, after):
    real = getattr(module, name)
    def call(*args, **kwargs):
        result = real(*args, **kwargs) if after else None
        os.kill(os.getpid(), 9)
        return result
    setattr(module, name, call)
where, _, name = step.rpartition(".")
place, when = where.split(":")
places = {"purge": purge, "os": purge.os, "log": deletions.DeletionLog, "purger": purge.Purger}
dies(places[place], name, when == "after")
one = Rig(datadir, Volume.open(datadir.media_path), None, days_max=7)
while True:
    one.purger.step()
    time.sleep(0.02)
"""
STEPS = [
    "purge:before.condemn", "purge:after.condemn", "purger:after._condemn", "purger:before._delete",
    "purge:before.doom", "purge:after.doom", "purger:after._doom", "log:before.append", "log:after.append",
    "os:before.unlink", "os:after.unlink", "purge:after._unlink", "purge:before.forget", "purge:after.forget",
    "purger:after._delete",
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step_the_next_process_ends_it(rig: MakeRig, step: str) -> None:
    one = rig(days_max=7)
    one.fill(40, 20, 3, 1)
    one.close()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(one.datadir.path), step], cwd=ROOT, timeout=60, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    again = rig(days_max=7)
    with again.index.read() as snapshot:
        known = {row.sequence for row in snapshot.chunks(1, 0, NOW_US * 2)}
    assert {3, 4} <= known
    assert again.there() == sorted(known), "what is found has its file"
    assert [one for one in check(again.index, [again.volume]) if "cannot be reached" in one.what] == []
    again.step_until(lambda: again.files() == 2 and not again.condemned())
    assert again.there() == [3, 4]
    assert {one.sequence for one in read(deletions_path(again.index.path))} == {1, 2}
    assert check(again.index, [again.volume]) == []
    assert purge.BATCH > 2


# --- readers


def test_a_long_clip_under_way_is_read_whole_while_everything_else_goes(rig: MakeRig) -> None:
    """Its chunks are opened while it is read, few at a time; without its lease it would break off."""
    from base.errors import VolumeError
    from clips.mp4 import ClipFile
    from clips.plan import plan
    from clips.store import ChunkStore

    one = rig(days_max=7)
    ages = [40 - i / 8640 for i in range(40)]  # end to end, ten seconds each
    one.fill(*ages, 1)
    store = ChunkStore({one.volume.id: one.volume.root}, files_max=2)
    start_us, end_us = NOW_US - 40 * DAY_US, NOW_US - 40 * DAY_US + 400 * S
    reading = Leases(one.datadir.run_path)

    def lay_out() -> ClipFile:
        with one.index.read() as snapshot:
            return ClipFile(plan(snapshot, store, 1, start_us, end_us))

    lease = reading.take(1, start_us, end_us)
    clip = lay_out()
    blocks = clip.read(0, clip.size)
    got = len(next(blocks))
    one.need = Need(1 << 40)
    for _ in range(20):
        one.purger._next_pass_s = 0
        one.purger.step()
        time.sleep(0.02)
    got += sum(len(block) for block in blocks)
    assert got == clip.size
    assert one.files() == 41
    again = lay_out().read(0, clip.size)
    next(again)
    lease.release()
    one.purger._next_pass_s = 0
    one.step_until(lambda: one.files() == 1)
    with pytest.raises(VolumeError, match="is gone"):
        list(again)
