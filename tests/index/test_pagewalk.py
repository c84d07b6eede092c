"""A walk in slices finds what a walk at rest finds, and what is sound stays so while others write."""

from __future__ import annotations

import random
import shutil
import threading
from collections import deque
from contextlib import ExitStack
from pathlib import Path

import pytest

from chunks.records import StoredRecord
from index import Index
from index.pagewalk import walk, walk_at_rest
from index.verify import verify_live
from tests.index.test_transaction import BASE_US, chunk

STREAMS = 60
S = 1_000_000


def some(stream_id: int, sequence: int) -> list[StoredRecord]:
    return chunk(stream_id, sequence, BASE_US + 100 * sequence * S, 60)


@pytest.fixture
def grown(index: Index) -> Index:
    """Trees of three levels."""
    for sequence in range(1, 41):
        with index.write() as transaction:
            for stream_id in range(1, STREAMS + 1):
                transaction.apply(some(stream_id, sequence))
    return index


def in_slices(path: Path) -> tuple[list[str], int]:
    """Each as short as can be; and how many there were."""
    begun: list[None] = []
    return walk(path, lambda: begun.append(None), lambda: None, slice_s=0.0), len(begun)


def test_the_same_is_found_in_slices(grown: Index, tmp_path: Path) -> None:
    grown.close()
    found, slices = in_slices(grown.path)
    assert found == walk_at_rest(grown.path) == []
    assert slices >= 5
    sound = (grown.path / "data.mdb").read_bytes()
    used = [at for at in range(len(sound)) if sound[at]]
    dice, damaged = random.Random(5), 0
    for turn in range(60):
        folder = tmp_path / f"turn{turn}"
        folder.mkdir()
        data = bytearray(sound)
        data[dice.choice(used)] ^= 1 << dice.randrange(8)
        (folder / "data.mdb").write_bytes(data)
        at_rest = walk_at_rest(folder)
        assert bool(in_slices(folder)[0]) == bool(at_rest), at_rest
        damaged += bool(at_rest)
        shutil.rmtree(folder)
    assert damaged


def test_commits_between_slices_are_no_damage(grown: Index) -> None:
    """Pages are freed and used again under the walk, as only the newest snapshots are held; each slice sees another
    state, and the last one all of it."""
    held: deque[ExitStack] = deque()
    sequence, slices = 100, 0

    def take() -> None:
        held.append(ExitStack())
        held[-1].enter_context(grown.read())

    def begun() -> None:
        nonlocal slices
        slices += 1
        while len(held) > 1:
            held.popleft().close()

    def following() -> None:
        nonlocal sequence
        if slices < 40:  # else no slice as short as these would ever see all
            for _ in range(12):
                sequence += 1
                with grown.write() as transaction:
                    for stream_id in range(1 + sequence % 7, STREAMS + 1, 7):
                        transaction.apply(some(stream_id, sequence))
        take()

    take()
    assert walk(grown.path, begun, following, slice_s=0.0) == []
    assert slices > 40
    for one in held:
        one.close()


def test_the_child_is_given_snapshots_while_others_write(grown: Index) -> None:
    done = threading.Event()
    failed: list[BaseException] = []

    def commit() -> None:
        sequence = 100
        try:
            while not done.wait(0.02):
                sequence += 1
                with grown.write() as transaction:
                    for stream_id in range(1, STREAMS + 1, 7):
                        transaction.apply(some(stream_id, sequence))
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=commit)
    writer.start()
    try:
        verdict = verify_live(grown, 120)
    finally:
        done.set()
        writer.join()
    assert failed == []
    assert (str(verdict), verdict.rows_read, verdict.slices) == ("", True, 1)
    still = verify_live(grown, 120, 0.0)
    assert (str(still), still.rows_read) == ("", True)
    assert still.slices >= 5
    assert still.held_s > 0


def test_damage_below_what_was_passed_over_is_found_by_the_next_walk(grown: Index) -> None:
    """Also of an index that is open, and that nobody can read to its end any more."""
    assert str(verify_live(grown, 120, 0.0)) == ""
    data = grown.path / "data.mdb"
    at = data.read_bytes().rindex(b"cam7.main")
    with data.open("r+b") as file:
        file.seek(at // 4096 * 4096)
        file.write(b"\xff" * 8)  # the page's own number
    verdict = verify_live(grown, 120, 0.0)
    assert "mp_pgno" in str(verdict)


def test_a_time_that_is_over_is_no_verdict(grown: Index) -> None:
    verdict = verify_live(grown, 0.001)
    assert (verdict.pages, verdict.rows, verdict.rows_read) == ([], [], False)
