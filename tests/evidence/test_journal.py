"""A ledger's files: torn ends, errors of the disk, new files, old ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidence import journal as journal_module
from evidence.chain import prove
from evidence.files import extract, first_entry, identity_of, ledger_files, read_file, read_ledger
from evidence.journal import Journal, prune
from evidence.ledger import Chunk, ChunkState, Content, GapNote, Head, Ledger, Opened, pack_entry, signed_bytes
from tests.evidence.ledgers import KEY, KEY_ID, LEDGER_ID, START_US, check

IDENTITY = Ledger(LEDGER_ID, bytes(16), 7, "gate.main", "keyreel test")
SECOND_US = 1_000_000


def gaps(count: int, at_us: int = START_US) -> list[tuple[int, Content]]:
    return [(at_us + i, GapNote(i, i + 1, 3, 0)) for i in range(count)]


def opened(sequence: int, start_us: int) -> Opened:
    return Opened(sequence.to_bytes(16, "big"), bytes(16), sequence, 1, 1, start_us, 100, bytes(32))


def root(sequence: int, fragments: int, state: ChunkState, start_us: int) -> Chunk:
    opening = sequence.to_bytes(16, "big")
    return Chunk(opening, sequence, state, 1, fragments, start_us, start_us + fragments * SECOND_US, 9, bytes(32))


def sign(journal: Journal, at_us: int) -> None:
    unsigned = journal.next_entry(at_us, Head(journal.identity.ledger, KEY_ID, bytes(64)))
    head = Head(journal.identity.ledger, KEY_ID, KEY.sign(signed_bytes(unsigned.raw)))
    journal.append_entry(pack_entry(unsigned.number, unsigned.time_us, unsigned.previous, head))


def test_what_is_appended_goes_on_over_openings_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import evidence.journal

    monkeypatch.setattr(evidence.journal, "FILE_BYTES", 2000)
    for life in range(4):
        one = Journal(tmp_path / "gate.main", IDENTITY._replace(ledger=os.urandom(16)))
        assert one.settled == (life == 0)
        one.append(gaps(30))
        assert not one.settled
        one.sync()
        assert one.settled
        assert one.durable_number == one.at.number
    entries = list(read_ledger(tmp_path / "gate.main"))
    proven = prove(entries, check)
    assert proven.sound
    assert proven.ledger is not None
    assert len({entry.content.ledger for entry in entries if isinstance(entry.content, Ledger)}) == 1
    files = ledger_files(tmp_path / "gate.main")
    assert len(files) > 3
    assert [path.stem for path in files] == [f"{file.number:012d}" for path in files if (file := first_entry(path))]
    assert sum(isinstance(entry.content, GapNote) for entry in entries) == 120


def test_a_file_torn_at_any_byte_goes_on_behind_its_last_whole_entry(tmp_path: Path) -> None:
    folder = tmp_path / "gate.main"
    one = Journal(folder, IDENTITY)
    one.append(gaps(4))
    one.sync()
    (path,) = ledger_files(folder)
    data = path.read_bytes()
    entries = list(read_ledger(folder))
    for size in range(0, len(data) + 1, 3):
        for old in folder.iterdir():
            old.unlink()
        path.write_bytes(data[:size])
        again = Journal(folder, IDENTITY)
        whole = [entry for entry in entries if sum(len(e.raw) for e in entries[: entry.number + 1]) <= size]
        assert again.at.number == len(whole)
        again.append(gaps(1))
        again.sync()
        after = list(read_ledger(folder))
        assert prove(after, check).sound
        assert after[: len(whole)] == whole
        torn = b"".join(aside.read_bytes() for aside in folder.glob("*.torn-*"))
        assert b"".join(entry.raw for entry in whole) + torn == data[:size]


def test_after_an_error_all_is_as_the_disk_last_confirmed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gate.main"
    one = Journal(folder, IDENTITY)
    one.append(gaps(3))
    one.sync()
    before = list(read_ledger(folder))
    real = os.pwrite
    monkeypatch.setattr(journal_module.os, "pwrite", lambda handle, data, at: real(handle, data[:11], at) and _full())
    with pytest.raises(OSError, match="No space"):
        one.append(gaps(3))
    monkeypatch.undo()
    one.undo()
    assert list(read_ledger(folder)) == before
    assert read_file(ledger_files(folder)[0]).torn_bytes == 0
    one.append(gaps(2))
    monkeypatch.setattr(journal_module.os, "fdatasync", lambda handle: _full())
    with pytest.raises(OSError, match="No space"):
        one.sync()
    monkeypatch.undo()
    one.undo()
    assert one.settled
    one.append(gaps(5))
    one.sync()
    entries = list(read_ledger(folder))
    assert prove(entries, check).sound
    assert len(entries) == 9


def _full() -> int:
    raise OSError(28, "No space left on device")


def test_a_chunk_without_a_last_word_is_told_at_the_next_opening(tmp_path: Path) -> None:
    folder = tmp_path / "gate.main"
    one = Journal(folder, IDENTITY)
    steps: list[tuple[Content, int | None]] = [
        (opened(1, START_US), 0),
        (root(1, 3, ChunkState.GROWING, START_US), 3),
        (root(1, 5, ChunkState.GROWING, START_US), 5),
        (root(1, 7, ChunkState.SEALED, START_US), -1),
        (opened(2, START_US), 0),
        (root(2, 4, ChunkState.GIVEN_UP, START_US), -1),
    ]
    for content, covered in steps:
        one.append([(START_US, content)])
        one.sync()
        again = Journal(folder, IDENTITY)
        assert again.unfinished is not None
        assert again.unfinished.covered == covered


def test_old_files_go_and_the_rest_still_proves_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "FILE_BYTES", 1500)
    folder = tmp_path / "gate.main"
    one = Journal(folder, IDENTITY)
    for day in range(10):
        one.append(gaps(20, START_US + day * SECOND_US))
        one.sync()
    before = len(ledger_files(folder))
    assert prune(folder, START_US) == 0
    gone = prune(folder, START_US + 5 * SECOND_US)
    assert 0 < gone < before
    proven = prove(read_ledger(folder), check)
    assert proven.sound
    assert proven.first != 0
    first = first_entry(ledger_files(folder)[1])
    assert first is not None
    assert first.time_us >= START_US + 5 * SECOND_US
    prune(folder, START_US + 1000 * SECOND_US)
    assert len(ledger_files(folder)) == 1
    assert identity_of(folder) == IDENTITY


def test_what_another_process_wrote_is_neither_written_over_nor_undone(tmp_path: Path) -> None:
    folder = tmp_path / "gate.main"
    one, other = Journal(folder, IDENTITY), Journal(folder, IDENTITY)
    one.append(gaps(2))
    one.sync()
    again = Journal(folder, IDENTITY)
    again.append(gaps(3))
    again.sync()
    before = list(read_ledger(folder))
    with pytest.raises(OSError, match="another process wrote"):
        one.append(gaps(1))
    one.undo()
    assert list(read_ledger(folder)) == before
    assert other.at.number == 0
    last = Journal(folder, IDENTITY)
    last.append(gaps(1))
    last.sync()
    assert prove(read_ledger(folder), check).sound
    assert len(list(read_ledger(folder))) == len(before) + 1


def test_the_part_for_a_range_is_whole_and_no_longer_than_it_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evidence import files

    monkeypatch.setattr(journal_module, "FILE_BYTES", 1200)
    folder = tmp_path / "gate.main"
    one = Journal(folder, IDENTITY)
    for number in range(40):
        at_us = START_US + number * 10 * SECOND_US
        one.append([(at_us, opened(number, at_us)), (at_us + 9, root(number, 10, ChunkState.SEALED, at_us))])
        sign(one, at_us + 9 * SECOND_US)
        one.sync()
    everything = list(read_ledger(folder))
    read: list[Path] = []
    real = files.read_file
    monkeypatch.setattr(files, "read_file", lambda path: read.append(path) or real(path))
    for first, last in ((0, 0), (3, 9), (39, 39), (20, 21), (0, 39)):
        read.clear()
        start_us = START_US + first * 10 * SECOND_US + 1
        end_us = START_US + (last + 1) * 10 * SECOND_US - 1
        part = extract(folder, start_us, end_us)
        assert prove(part, check).sound
        spoken = {entry.content.sequence for entry in part if isinstance(entry.content, Chunk)}
        assert spoken >= set(range(first, last + 1))
        assert any(isinstance(entry.content, Opened) and entry.content.sequence == first for entry in part)
        assert isinstance(part[-1].content, Head)
        assert len(part) <= (last - first + 1) * 4 + 12
        assert part == everything[part[0].number : part[-1].number + 1]
        assert (
            len(read) <= len({entry.number for entry in part if isinstance(entry.content, Ledger)}) + 6 < 16
            or last == 39
        )
