from __future__ import annotations

import ctypes
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from base.errors import DamageError
from chunks.records import StoredRecord
from chunks.volume import Volume
from index import Camera, Index, Transaction
from index.check import Finding, check, leftovers
from index.rebuild import rebuild
from index.schema import CHUNK, SEQUENCE_KEY, STREAM_KEY, TIME_KEY

BASE_US = 1_790_000_000_000_000
Record = Callable[..., list[StoredRecord]]


@pytest.fixture
def archive(index: Index, record: Record) -> Index:
    with index.write() as transaction:
        transaction.put_camera(Camera(id="cam1", main="rtsp://host/1"))
        transaction.apply(record(1, 1, BASE_US, 10))
        transaction.apply(record(1, 2, BASE_US + 10_000_000, 10))
        transaction.apply(record(1, 3, BASE_US + 20_000_000, 5, seal=False))
    return index


@contextmanager
def broken(index: Index) -> Iterator[tuple[Any, Any, Transaction]]:
    with index.write() as transaction:
        yield transaction._txn, transaction._db, transaction


def whats(findings: list[Finding]) -> str:
    return "\n".join(f"{finding.where}: {finding.what}" for finding in findings)


def files(volume: Volume) -> list[Path]:
    found = sorted(volume.root.glob("*/*/*.mp4"))
    for path in found:
        os.utime(path, (1, 1))
    return found


def test_a_sound_archive_has_no_findings(archive: Index, volume: Volume) -> None:
    files(volume)
    assert check(archive, [volume]) == []
    assert check(archive, [volume], deep=True) == []


KEY1 = TIME_KEY.pack(1, BASE_US)
KEY2 = TIME_KEY.pack(1, BASE_US + 10_000_000)


def overlap(txn: Any, db: Any) -> None:
    row = list(CHUNK.unpack(txn.get(KEY1, db=db.chunks)))
    row[5] += 5_000_000
    txn.put(KEY1, CHUNK.pack(*row), db=db.chunks)


def wrong_order(txn: Any, db: Any) -> None:
    row = list(CHUNK.unpack(txn.get(KEY1, db=db.chunks)))
    row[0] = 9
    txn.put(KEY1, CHUNK.pack(*row), db=db.chunks)


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda txn, db: txn.delete(KEY1, db=db.chunks), r"chunk 1: has a sequence number and no row"),
        (lambda txn, db: txn.delete(KEY1, db=db.chunks), r"chunk 1: has 5 key frames and no row"),
        (lambda txn, db: txn.delete(KEY1, db=db.chunks), r"Z-1\.mp4: is not in the index"),
        (overlap, r"chunk 2: begins 5000000 µs before chunk 1 ends"),
        (wrong_order, r"chunk 2: comes after chunk 9 in time"),
        (
            lambda txn, db: txn.delete(SEQUENCE_KEY.pack(1, 2), db=db.sequences),
            r"chunk 2: is not found by its",
        ),
        (lambda txn, db: txn.delete(SEQUENCE_KEY.pack(1, 1), db=db.epochs), r"chunk 3: stream 1 has no epoch 1"),
        (lambda txn, db: txn.delete(SEQUENCE_KEY.pack(1, 3), db=db.open), r"open chunk 3 of stream 1 has no state"),
        (lambda txn, db: txn.put(SEQUENCE_KEY.pack(1, 8), bytes(60), db=db.open), r"chunk 8: has the state of an open"),
        (lambda txn, db: txn.put(KEY1, b"\x01\0\0\0\x07\x01", db=db.key_frames), r"key-frame block at \d+ is damaged"),
        (
            lambda txn, db: txn.put(KEY1, b"\x01\0\0\0\x01\xff\xff\xff\x7f", db=db.key_frames),
            r"chunk 1: 1 key frames are not where",
        ),
        (
            lambda txn, db: txn.put(KEY1, b"\x01\0\0\0\x01\x05", db=db.key_frames),
            r"Z-1\.mp4: has 5 key frames more",
        ),
        (
            lambda txn, db: txn.put(KEY1, b"\x01\0\0\0\x01\x05", db=db.key_frames),
            r"Z-1\.mp4: has 5 key frames more and 1 fewer than the index says",
        ),
        (lambda txn, db: txn.put(TIME_KEY.pack(1, 9), bytes(13), db=db.gaps), r"gap at 9: is empty"),
        (lambda txn, db: txn.put(TIME_KEY.pack(7, 9), bytes(13), db=db.gaps), r"gaps: has rows of stream 7"),
        (lambda txn, db: txn.put(STREAM_KEY.pack(7), b"x", db=db.streams), r"streams: ids and names"),
        (lambda txn, db: txn.delete(b"cam1.main", db=db.stream_names), r"camera cam1: its stream cam1.main"),
    ],
)
def test_each_broken_invariant_is_found(archive: Index, volume: Volume, harm: Any, expected: str) -> None:
    files(volume)
    with broken(archive) as (txn, db, _):
        harm(txn, db)
    assert re.search(expected, whats(check(archive, [volume], deep=True)))


def test_what_is_wrong_with_files_is_found(archive: Index, volume: Volume) -> None:
    first, second, third = files(volume)
    assert re.search("lies on volume .*, which is not there", whats(check(archive, [])))
    first.unlink()
    with second.open("ab") as file:
        file.write(b"x")
    os.truncate(third, third.stat().st_size - 5)
    found = whats(check(archive, [volume]))
    assert re.search(r"Z-1\.mp4: the chunk's file cannot be reached", found)
    assert re.search(r"Z-2\.mp4: has \d+ bytes, but was sealed with", found)
    assert re.search(r"Z-3\.mp4: has \d+ bytes, \d+ of them are on record", found)
    deep = whats(check(archive, [volume], deep=True))
    assert re.search(r"Z-2\.mp4: .*frame table", deep)


def test_files_ahead_of_the_index_are_no_findings(index: Index, volume: Volume, record: Record) -> None:
    records = record(1, 1, BASE_US, 10)
    with index.write() as transaction:
        transaction.apply(records[:6])
    record(1, 2, BASE_US + 10_000_000, 3)
    assert check(index, [volume], deep=True) == []


@pytest.mark.parametrize("deep", [True, False])
def test_a_damaged_page_of_the_index_is_a_finding(archive: Index, volume: Volume, deep: bool) -> None:
    files(volume)
    archive.close()
    data = bytearray((archive.path / "data.mdb").read_bytes())
    for at in (match.start() for match in re.finditer(b"cam1.main", bytes(data))):
        data[at // 4096 * 4096 + 10] ^= 0xFF  # flags of the page
    (archive.path / "data.mdb").write_bytes(data)
    with Index.open(archive.path) as index:
        assert "rebuild" in whats(check(index, [volume], deep=deep))
        with pytest.raises(DamageError, match="keyreel rebuild"), index.write() as transaction:
            transaction.ensure_stream("new.main")


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        ("truncate", r"Z-1\.mp4: has \d+ bytes, \d+ of them are on record"),
        ("hole", r"Z-1\.mp4: \d+ bytes at \d+ are damaged"),
        ("zeros", r"Z-1\.mp4: .*(damaged|frame table)"),
        ("copy", r"Z-1\.mp4: has the number of another chunk file"),
        ("another chunk", r"Z-1\.mp4: has another sequence than the index says"),
    ],
)
def test_what_may_happen_to_a_chunk_file_is_found(archive: Index, volume: Volume, harm: str, expected: str) -> None:
    """And none of it ends the check, or a rebuild from what is left."""
    first, second, _ = files(volume)
    size = first.stat().st_size
    with first.open("r+b") as file:
        if harm == "truncate":
            file.truncate(size // 2)
        elif harm == "hole":
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.fallocate(file.fileno(), 3, ctypes.c_long(4096), ctypes.c_long(4096)) == 0
        elif harm == "zeros":
            file.seek(size // 2)
            file.write(bytes(min(65536, size // 2)))
    if harm == "copy":
        shutil.copy2(first, first.with_name("000000.000Z-1.mp4"))
    elif harm == "another chunk":
        shutil.copyfile(second, first)
    files(volume)
    assert re.search(expected, whats(check(archive, [volume], deep=True)))
    archive.close()
    assert rebuild(archive.path, [volume]).chunks >= 2


def test_what_lies_about_is_told_and_is_no_fault(archive: Index, volume: Volume) -> None:
    first, *_ = files(volume)
    first.with_name(f"{first.name}.torn-77").write_bytes(b"tail")
    (volume.root / "holiday.jpg").write_bytes(b"not ours")
    (archive.path.parent / "index.damaged-20260101T000000Z").mkdir()
    assert check(archive, [volume], deep=True) == []
    told = whats(leftovers(archive.path, [volume]))
    assert re.search(r"index.damaged-\S+: an index that was set aside", told)
    assert re.search(r"torn-77: a torn tail, kept for forensics", told)
    assert re.search(r"holiday.jpg: not a file of this system", told)
    assert len(told.splitlines()) == 3
