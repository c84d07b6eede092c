from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from base.errors import FormatError, VolumeError
from chunks.path import chunk_path
from chunks.records import Gap, GapCause
from chunks.volume import Volume
from index import Index
from index.check import check
from index.deletions import Deletion, DeletionLog, deletions_path, read, summed
from index.expire import Rule, condemn
from index.holds import Hold, holds, place
from index.rebuild import rebuild
from tests.index.conftest import Record

BASE_US = 1_790_000_000_000_000
S = 1_000_000
PAGE = Path(__file__).parents[2] / "docs" / "format" / "deletions.md"


def deletion(sequence: int, stream: str = "cam1.main", *, rule: str = "space") -> Deletion:
    start_us = BASE_US + sequence * 10 * S
    return Deletion(
        stream=stream, sequence=sequence, epoch=1, run=1, start_us=start_us, end_us=start_us + 10 * S, bytes=7,
        volume="ab" * 16, rule=rule, deleted_us=BASE_US,
    )  # fmt: skip


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    log = DeletionLog(tmp_path / "deletions.jsonl")
    log.append([deletion(1), deletion(2)])
    log.append([deletion(3, "gate.sub")])
    assert [one.sequence for one in read(log.path)] == [1, 2, 3]
    log.close()
    log.append([deletion(4)])
    assert list(read(log.path))[-1] == deletion(4)
    log.close()
    assert os.stat(log.path).st_mode & 0o777 == 0o600


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    log = DeletionLog(tmp_path / "deletions.jsonl")
    log.append([deletion(1), deletion(2)])
    log.close()
    whole = log.path.read_bytes()
    for cut in range(len(whole) - len(whole.splitlines(keepends=True)[-1]) + 1, len(whole)):
        log.path.write_bytes(whole[:cut])
        assert [one.sequence for one in read(log.path)][:1] == [1]
        log.append([deletion(3)])
        log.close()
        assert [one.sequence for one in read(log.path)] == [1, 3]


def test_the_next_file_begins_with_the_sum_of_the_last(tmp_path: Path) -> None:
    log = DeletionLog(tmp_path / "deletions.jsonl", bytes_max=20_000)
    for sequence in [*range(400), *range(500, 900)]:
        log.append([deletion(sequence), deletion(sequence, "gate.sub")])
    log.close()
    assert log.path.stat().st_size < 40_000
    assert len(list(tmp_path.glob("deletions.*.jsonl"))) == 8
    ranges = {(one.stream, one.start_us, one.end_us) for one in summed(read(log.path))}
    border = [(0, 400), (500, 900)]
    assert ranges == {
        (name, BASE_US + low * 10 * S, BASE_US + high * 10 * S)
        for name in ("cam1.main", "gate.sub")
        for low, high in border
    }
    assert {one.sequence for one in summed(read(log.path))} == {899}


def test_a_disk_that_refuses_is_told_and_nothing_counts(tmp_path: Path) -> None:
    log = DeletionLog(tmp_path / "deletions.jsonl")
    log.append([deletion(1)])
    os.close(log._handle)
    log._handle = os.open(log.path, os.O_RDONLY)
    with pytest.raises(VolumeError, match="nothing is deleted until it can"):
        log.append([deletion(2)])
    assert [one.sequence for one in read(log.path)] == [1]


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deletions.jsonl").write_text('{"format": 2}\n')
    with pytest.raises(FormatError, match="format 2"):
        list(read(tmp_path / "deletions.jsonl"))


def test_the_page_names_every_field() -> None:
    cells = [line.split("|")[1].strip() for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert cells == [f"`{field.name}`" for field in msgspec.structs.fields(Deletion)]
    assert all(f"`{rule.name.lower()}`" in PAGE.read_text() for rule in Rule)


def test_a_rebuild_tells_what_was_deleted_and_keeps_its_numbers_and_the_holds(
    tmp_path: Path, index: Index, volume: Volume, record: Record
) -> None:
    with index.write() as transaction:
        for sequence in (1, 2, 3):
            transaction.apply(record(1, sequence, BASE_US + sequence * 10 * S, 10))
        transaction.apply(record(2, 1, BASE_US, 10))
        held = place(
            transaction,
            Hold(
                streams=("cam1.main",), start_us=BASE_US + 31 * S, end_us=BASE_US + 35 * S, reason="a theft",
                owner="Lan", created_us=BASE_US,
            ),
        ).hold  # fmt: skip
    log = DeletionLog(deletions_path(index.path))
    for stream_id, sequence in ((1, 1), (1, 2), (2, 1)):
        with index.write() as transaction:
            row = transaction.chunk(stream_id, sequence)
            assert row is not None
            assert condemn(transaction, row, Rule.SPACE, BASE_US, []) is not None
        log.append(
            [
                Deletion(
                    stream=f"cam{stream_id}.main", sequence=sequence, epoch=1, run=1, start_us=row.start_us,
                    end_us=row.end_us, bytes=row.size, volume=volume.id.hex(), rule="space", deleted_us=BASE_US,
                )
            ]
        )  # fmt: skip
        if sequence == 1:  # the file of (1, 2) stays: killed between record and unlink
            chunk_path(volume.root, f"cam{stream_id}.main", row.start_us, sequence).unlink()
    log.close()
    index.close()
    report = rebuild(index.path, [volume])
    assert report.findings == []
    with Index.open(index.path) as again, again.read() as snapshot:
        assert [row.sequence for row in snapshot.chunks(1, 0, BASE_US * 2)] == [2, 3]
        assert snapshot.gaps(1, 0, BASE_US * 2) == [Gap(1, BASE_US + 10 * S, BASE_US + 20 * S, GapCause.EXPIRED)]
        assert (snapshot.last_chunk(2), snapshot.next_sequence(2)) == (None, 2)
        assert snapshot.gaps(2, 0, BASE_US * 2) == [Gap(2, BASE_US, BASE_US + 10 * S, GapCause.EXPIRED)]
        assert holds(snapshot) == [held]
        again_findings = check(again, [volume])
    assert again_findings == []
