"""Scrubbing: damage becomes a gap and goes when it is mended, whatever the disk does, and nothing is read twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from base.errors import DamageError
from chunks.reader import ChunkFile
from chunks.records import GapCause
from chunks.scrubreport import REPORT_NAME, read_report, write_report
from clips.mp4 import ClipFile
from clips.plan import plan
from clips.store import ChunkStore
from index import Index
from index.rebuild import rebuild
from recorder.committer import Committer
from recorder.scrub import Scrubber
from tests import support

S = 1_000_000
NOW_MAX = time.time_ns() // 1000 + 3_600 * S


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[support.Recording]:
    one = support.Recording(tmp_path)
    one.add(support.video(), repeat=5, chunk_s=4.0, fragment_90k=45_000)
    one.flush()
    yield one
    one.close()


@contextmanager
def scrubbing(
    recording: support.Recording, bytes_s_max: int = 0, busy: Callable[[], bool] = lambda: False
) -> Iterator[Scrubber]:
    committer = Committer(recording.index)
    committer.start()
    scrubber = Scrubber(recording.index, committer, bytes_s_max, 30, busy)
    scrubber.follow([recording.volume])
    try:
        yield scrubber
    finally:
        scrubber.stop()
        committer.stop()


def scrub(recording: support.Recording) -> None:
    """One whole turn."""
    (recording.volume.root / REPORT_NAME).unlink(missing_ok=True)
    again(recording)


def again(recording: support.Recording) -> None:
    with scrubbing(recording) as scrubber:
        deadline_s = time.monotonic() + 60
        while not ((status := scrubber.status(recording.volume.id)) and status.last_ended_us and not status.running):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)


def until(what: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def gaps(recording: support.Recording) -> list[tuple[int, int]]:
    with recording.index.read() as snapshot:
        found = snapshot.gaps(recording.stream_id, 0, 1 << 60)
    return [(gap.start_us, gap.end_us) for gap in found if gap.cause is GapCause.DAMAGE]


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def test_a_damaged_fragment_is_a_gap_until_it_is_mended(recording: support.Recording) -> None:
    scrub(recording)
    assert gaps(recording) == []
    path = recording.chunk_paths()[2]
    table = ChunkFile(path).table()
    at = int(table.offset[3]) + 500
    flip(path, at)
    scrub(recording)
    spoilt = [(int(table.wall_us[3]), int(table.end_us[3]))]
    assert gaps(recording) == spoilt
    report = read_report(recording.volume.root)
    assert [(one.sequence, one.offset) for one in report.damage] == [(3, int(table.offset[3]))]
    assert report.last is not None
    assert (report.last.chunks, report.last.damaged) == (5, 1)
    with recording.index.read() as snapshot:
        made = plan(snapshot, recording.store, recording.stream_id, support.T0, support.T0 + 20 * S)
        walls = {(piece.chunk.row.sequence, piece.first, piece.last) for piece in made.pieces}
        list(ClipFile(made).read(0, ClipFile(made).size))
    assert (3, 0, 3) in walls, "what lies before it plays"
    flip(path, at)
    scrub(recording)
    assert gaps(recording) == []
    assert read_report(recording.volume.root).damage == []


def test_what_is_sound_again_is_no_gap_before_the_next_turn(recording: support.Recording) -> None:
    """Known damage is looked at again when scrubbing starts, as after a disk came back, and daily."""
    path = recording.chunk_paths()[2]
    at = int(ChunkFile(path).table().offset[3]) + 500
    flip(path, at)
    scrub(recording)
    assert len(gaps(recording)) == 1
    before = read_report(recording.volume.root)
    flip(path, at)
    with scrubbing(recording) as scrubber:
        until(lambda: (status := scrubber.status(recording.volume.id)) is not None and status.known_damage == 0)
    assert gaps(recording) == []
    after = read_report(recording.volume.root)
    assert (after.last, after.damage) == (before.last, []), "it was no turn"


def test_a_disk_that_left_is_no_damage(recording: support.Recording) -> None:
    """Nothing is declared, and nothing is written where its mount was; it goes on when the disk is back."""
    root = recording.volume.root
    aside = root.with_name("aside")
    with scrubbing(recording, bytes_s_max=200_000) as scrubber:
        until(lambda: (status := scrubber.status(recording.volume.id)) is not None and status.chunks >= 1)
        root.rename(aside)
        root.mkdir()
        until(lambda: (status := scrubber.status(recording.volume.id)) is not None and bool(status.detail))
    assert list(root.iterdir()) == []
    assert gaps(recording) == []
    root.rmdir()
    aside.rename(root)
    again(recording)
    assert gaps(recording) == []
    assert read_report(root).damage == []


def test_damage_outlives_the_index(recording: support.Recording, tmp_path: Path) -> None:
    path = recording.chunk_paths()[1]
    table = ChunkFile(path).table()
    flip(path, int(table.offset[1]) + 300)
    scrub(recording)
    before = gaps(recording)
    assert len(before) == 1
    recording.index.close()
    rebuild(tmp_path / "index", [recording.volume])
    recording.index = Index.open(tmp_path / "index")
    assert gaps(recording) == before


def test_a_chunk_whose_head_is_spoilt_or_that_is_gone_is_a_gap(recording: support.Recording) -> None:
    with recording.index.read() as snapshot:
        rows = snapshot.chunks(recording.stream_id, 0, 1 << 60)
    first, second, *_ = recording.chunk_paths()
    flip(first, 100)
    flip(first, 200)
    second.unlink()
    scrub(recording)
    assert gaps(recording) == [(row.start_us, row.end_us) for row in rows[:2]]


def test_a_turn_goes_on_where_it_was_and_keeps_a_rate(recording: support.Recording) -> None:
    with scrubbing(recording, bytes_s_max=100_000) as scrubber:
        deadline_s = time.monotonic() + 60
        while not ((status := scrubber.status(recording.volume.id)) and status.chunks >= 2):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
    stood = read_report(recording.volume.root)
    assert 2 <= stood.cycle.chunks < 5
    assert not stood.cycle.ended_us
    again(recording)
    report = read_report(recording.volume.root)
    assert report.last is not None
    assert report.last.chunks == 5, "none was counted twice"
    assert report.last.started_us == stood.cycle.started_us


def test_a_clock_that_went_back_holds_no_turn_up(recording: support.Recording) -> None:
    again(recording)
    report = read_report(recording.volume.root)
    assert report.last is not None
    report.cycle.started_us = report.last.started_us = report.cycle.started_us + 3_000 * 86_400 * S
    write_report(recording.volume.root, report)
    with scrubbing(recording) as scrubber:
        until(lambda: (status := scrubber.status(recording.volume.id)) is not None and 0 < status.started_us < NOW_MAX)


def test_another_volume_that_is_away_holds_nothing_up(recording: support.Recording) -> None:
    with recording.index.write() as transaction:
        transaction.set_whole(complete=False)
    again(recording)


def test_nothing_is_read_while_the_volume_is_busy(recording: support.Recording) -> None:
    asked = []

    def busy() -> bool:
        asked.append(1)
        return len(asked) < 5

    with scrubbing(recording, busy=busy) as scrubber:
        deadline_s = time.monotonic() + 60
        while len(asked) < 3:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        status = scrubber.status(recording.volume.id)
        assert status is not None
        assert status.bytes == 0
        while not ((status := scrubber.status(recording.volume.id)) and status.last_ended_us):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)


def test_a_row_that_a_chunk_contradicts_is_told(recording: support.Recording) -> None:
    from index.schema import CHUNK, TIME_KEY
    from index.suspect import look

    with recording.index.write() as transaction:
        key = TIME_KEY.pack(recording.stream_id, support.T0)
        row = list(CHUNK.unpack(transaction._txn.get(key, db=transaction._db.chunks)))
        row[7] += 90
        transaction._txn.put(key, CHUNK.pack(*row), db=transaction._db.chunks)
    scrub(recording)
    told = look(recording.index.path)
    assert told is not None
    assert told.weight == "proven"
    assert "origin_90k" in told.why
    with recording.index.read() as snapshot, pytest.raises(DamageError, match="origin_90k"):
        plan(
            snapshot,
            ChunkStore({recording.volume.id: recording.volume.root}),
            recording.stream_id,
            support.T0,
            support.T0 + S,
        )
