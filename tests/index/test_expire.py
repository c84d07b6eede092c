from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
import zstandard

from base.errors import NotFound, UserError
from chunks.records import Gap, GapCause
from index import Index
from index.expire import Rule, condemn, count_all, doom, forget, garbage, rescue, usage
from index.holds import Hold, find, held_bytes, held_ranges, holds, joined, place, release
from index.register import read_copy, register_path
from index.schema import Handles
from tests.index.test_transaction import BASE_US, VOLUME, chunk, dump

S = 1_000_000
GOLDEN = Path(__file__).with_name("golden")


def hold(start: int, end: int, *streams: str, **more: object) -> Hold:
    fields = {"streams": streams or ("cam1.main",), "start_us": BASE_US + start * S, "end_us": BASE_US + end * S}
    fields |= {"reason": "a theft", "owner": "Lan", "created_us": BASE_US}
    return Hold(**fields | more)  # type: ignore[arg-type]


def fill(index: Index, *, chunks: int = 5, streams: int = 1) -> None:
    """Sealed chunks of 10 s, one after the other, with a lost packet in each and an absence before the fourth."""
    with index.write() as transaction:
        for stream_id in range(1, streams + 1):
            for i in range(chunks):
                at_us = BASE_US + (10 * i + (5 if i > 2 else 0)) * S
                transaction.apply(chunk(stream_id, i + 1, at_us, 10, gap_us=BASE_US + 30 * S if i == 3 else 0))
                loss = Gap(stream_id, at_us + 2 * S, at_us + 3 * S, GapCause.PACKET_LOSS, 7)
                transaction.apply([loss])


def rows_of(index: Index) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """Everything but what counts up."""
    return {name: rows for name, rows in dump(index).items() if name not in (b"ends", b"meta")}


def condemn_all(index: Index, *numbers: int, stream_id: int = 1) -> list[int]:
    with index.write() as transaction:
        held = held_ranges(transaction, BASE_US).get(f"cam{stream_id}.main", [])
        rows = [transaction.chunk(stream_id, number) for number in numbers]
        done = [condemn(transaction, row, Rule.SPACE, 5, held) for row in rows if row is not None]
    return [one.chunk.sequence for one in done if one is not None]


def test_a_condemned_chunk_is_found_by_nobody_and_its_time_is_expired(index: Index) -> None:
    fill(index)
    assert condemn_all(index, 1, 2) == [1, 2]
    with index.read() as snapshot:
        assert [row.sequence for row in snapshot.chunks(1, 0, BASE_US * 2)] == [3, 4, 5]
        found = snapshot.seek(1, BASE_US + 15 * S)
        assert found is None
        line = snapshot.timeline(1, BASE_US, BASE_US + 60 * S)
        assert line.gaps[0] == Gap(1, BASE_US, BASE_US + 20 * S, GapCause.EXPIRED)
        assert [gap.cause.name for gap in line.gaps[1:]] == ["PACKET_LOSS", "OFFLINE", "PACKET_LOSS", "PACKET_LOSS"]
        assert [one.chunk.sequence for one in garbage(snapshot)] == [1, 2]
        assert snapshot.knows(1, 1)
        assert usage(snapshot)[1, VOLUME].chunks == 3
        counted = count_all(snapshot)
        with snapshot._txn.cursor(snapshot._db.usage) as cursor:
            assert dict(cursor.iternext()) == counted


def test_told_again_a_condemned_chunk_stays_condemned(index: Index) -> None:
    fill(index)
    condemn_all(index, 1)
    before = dump(index)
    with index.write() as transaction:
        transaction.apply(chunk(1, 1, BASE_US, 10))
    assert dump(index) == before


def test_numbers_go_on_when_the_last_chunk_goes(index: Index) -> None:
    fill(index)
    assert condemn_all(index, *range(1, 6)) == [1, 2, 3, 4, 5]
    with index.write() as transaction:
        forget(transaction, [(1, i) for i in range(1, 6)])
    with index.read() as snapshot:
        assert snapshot.last_chunk(1) is None
        assert (snapshot.next_sequence(1), snapshot.next_run(1), snapshot.next_epoch(1)) == (6, 2, 2)
        assert snapshot.end(1).end_us == BASE_US + 55 * S
        assert not snapshot.knows(1, 1)


def test_a_hold_brings_back_what_is_condemned_as_it_was(index: Index) -> None:
    fill(index, streams=2)
    before = rows_of(index)
    condemn_all(index, 1, 2, 3, 4)
    with index.write() as transaction:
        placed = place(transaction, hold(0, 45))
    assert placed.gone == {}
    after = rows_of(index)
    assert len(after.pop(b"holds")) == 1
    before.pop(b"holds")
    assert after == before
    assert condemn_all(index, 1, 2, 3, 4, 5) == [5], "what is held is not condemned"


def test_what_is_doomed_is_gone_and_the_hold_says_so(index: Index) -> None:
    fill(index)
    condemn_all(index, 1, 2)
    with index.write() as transaction:
        assert [one.key for one in doom(transaction, [(1, 1), (1, 9)])] == [(1, 1)]
    with index.write() as transaction:
        placed = place(transaction, hold(5, 45))
    assert placed.gone == {"cam1.main": [(BASE_US + 5 * S, BASE_US + 10 * S)]}
    with index.read() as snapshot:
        assert [row.sequence for row in snapshot.chunks(1, 0, BASE_US * 2)] == [2, 3, 4, 5]
        assert snapshot.timeline(1, BASE_US, BASE_US + 12 * S).gaps == [
            Gap(1, BASE_US, BASE_US + 10 * S, GapCause.EXPIRED)
        ]


def test_any_order_of_condemning_and_rescuing_ends_where_it_began(index: Index) -> None:
    fill(index, chunks=12)
    before = rows_of(index)
    chance = random.Random(5)
    for _ in range(40):
        condemn_all(index, *chance.sample(range(1, 13), 4))
        with index.write() as transaction:
            start_us = BASE_US + chance.randrange(120) * S
            assert rescue(transaction, 1, start_us, start_us + 30 * S) == []
    with index.write() as transaction:
        rescue(transaction, 1, 0, BASE_US * 2)
    after = rows_of(index)
    assert {name: rows for name, rows in after.items() if name != b"gaps"} == {
        name: rows for name, rows in before.items() if name != b"gaps"
    }
    with index.read() as snapshot:
        assert not [gap for gap in snapshot.gaps(1, 0, BASE_US * 2) if gap.cause is GapCause.EXPIRED]


def test_holds_are_remembered_after_release_and_in_the_copy_of_the_register(index: Index) -> None:
    fill(index)
    with index.write() as transaction:
        first = place(transaction, hold(0, 12, case="26-1187")).hold
        second = place(transaction, hold(8, 20, expires_us=BASE_US + 100 * S)).hold
    with index.write() as transaction:
        release(transaction, first.id, by="Minh", reason="closed", now_us=BASE_US + S)
        with pytest.raises(UserError, match="released already, by Minh"):
            release(transaction, first.id, by="Minh", reason="", now_us=1)
        with pytest.raises(NotFound):
            release(transaction, 99, by="Minh", reason="", now_us=1)
    with index.read() as snapshot:
        assert [one.id for one in holds(snapshot)] == [1, 2]
        assert holds(snapshot, BASE_US + S) == [second]
        assert holds(snapshot, BASE_US + 100 * S) == []
        released = find(snapshot, 1)
        assert released is not None
        assert (released.case, released.released_by, released.release_reason) == ("26-1187", "Minh", "closed")
        assert held_ranges(snapshot, BASE_US) == {"cam1.main": [(BASE_US + 8 * S, BASE_US + 20 * S)]}
        assert held_bytes(snapshot, 1, [(BASE_US, BASE_US + S), (BASE_US + 2 * S, BASE_US + 12 * S)])[VOLUME][0] == 2
    copy = read_copy(register_path(index.path))
    assert copy is not None
    assert (copy.format, [one.id for one in copy.holds], copy.next_hold) == (2, [1, 2], 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_us": BASE_US, "end_us": BASE_US},
        {"streams": ()},
        {"streams": ("a.main", "a.main")},
        {"reason": " "},
        {"owner": ""},
        {"case": "x" * 2000},
        {"reason": "a\x1b[31m"},
        {"expires_us": BASE_US - 1},
        {"review_us": -1},
    ],
)
def test_a_wrong_hold_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match="the hold cannot be placed"):
        hold(0, 1, **wrong)


def test_a_hold_of_no_stream_is_refused(index: Index) -> None:
    with pytest.raises(NotFound, match=r"keyreel status"), index.write() as transaction:
        place(transaction, hold(0, 1, "nobody.main"))


def test_ranges_are_joined() -> None:
    assert joined([(5, 6), (1, 3), (2, 4), (6, 7)]) == [(1, 4), (5, 7)]


# --- format 1


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "old" / "index"
    folder.mkdir(parents=True)
    packed = (GOLDEN / "format-1.mdb.zst").read_bytes()
    (folder / "data.mdb").write_bytes(zstandard.ZstdDecompressor().decompress(packed))
    register_path(folder).write_bytes((GOLDEN / "register-1.json").read_bytes())
    return folder


def test_an_index_of_format_1_reads_as_it_is(old: Path) -> None:
    before = (old / "data.mdb").read_bytes()
    with Index.open(old, readonly=True) as index, index.read() as snapshot:
        assert [len(snapshot.chunks(row.id, 0, BASE_US * 2)) for row in snapshot.streams()] == [3, 1]
        assert (usage(snapshot), holds(snapshot), list(garbage(snapshot))) == ({}, [], [])
        assert snapshot.next_sequence(1) == 4
    assert (old / "data.mdb").read_bytes() == before
    copy = read_copy(register_path(old))
    assert copy is not None
    assert (copy.holds, copy.next_hold, [one.id for one in copy.cameras]) == ([], 1, ["cam1"])


def test_an_index_of_format_1_becomes_one_of_format_2_with_the_same_rows(old: Path) -> None:
    with Index.open(old, readonly=True) as index:
        before = dump(index)
    with Index.open(old) as index:
        after = dump(index)
        with index.read() as snapshot:
            assert {key: (one.chunks, one.recorded_us) for key, one in usage(snapshot).items()} == {
                (1, VOLUME): (2, 300 * S),
                (2, VOLUME): (1, 50 * S),
            }
    old_names = [name.encode() for name in Handles._fields[1:13]]
    assert {name: after[name] for name in old_names} == {name: before[name] for name in old_names}
    assert (b"format", b"2") in after[b"meta"]
    Index.open(old, readonly=True).close()


def test_killed_inside_the_upgrade_the_index_is_of_the_old_format_still(old: Path) -> None:
    """At each row that the upgrade writes; the next open does it all."""
    import subprocess
    import sys

    code = """
import os, sys
from index import environment, expire
count, real = int(sys.argv[2]), expire.count_all
def killed(snapshot):
    rows = dict(list(real(snapshot).items())[:count])
    class Dying(dict):
        def items(self):
            yield from rows.items()
            os.kill(os.getpid(), 9)
    return Dying()
environment.count_all = killed
environment.Index.open(sys.argv[1])
"""
    for count in range(3):
        done = subprocess.run([sys.executable, "-c", code, str(old), str(count)], check=False, timeout=60)
        assert done.returncode == -9
        with Index.open(old, readonly=True) as index, index.read() as snapshot:
            assert usage(snapshot) == {}
            assert snapshot._txn.get(b"format", db=snapshot._db.meta) == b"1"
    with Index.open(old) as index, index.read() as snapshot:
        assert len(usage(snapshot)) == 2


def test_rows_of_garbage_survive_their_own_layout() -> None:
    from index.expire import Garbage

    row = Garbage(3, False, 7, 8, b"row", [(1, b"block")], [(1, 2, 3, 4)])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=Garbage) == row
