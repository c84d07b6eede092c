"""The deletion records: what retention deleted, when, and by which rule; one text file beside the index.

Kept true: a record is on stable storage before its chunk's file goes, so nothing is ever gone without one; a record
whose file stayed after all is harmless, as what is there counts; the file is bounded: the next one begins with what
the last one adds up to. `docs/format/deletions.md` is the page for people.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from base.errors import FormatError, VolumeError
from chunks.filesystem import preallocate
from chunks.volume import sync_directory
from index.holds import Range, joined
from index.spans import JOIN_US

FORMAT_VERSION: Final = 1
NAME: Final = "deletions.jsonl"
BYTES_MAX: Final = 64 << 20  # some 300,000 records: two days of 1,000 cameras
OLD_FILES: Final = 8
ROOM_BYTES: Final = 1 << 20  # kept allocated, so that a full disk does not keep room from being made on it
SUMMARY: Final = "summary"


class Deletion(msgspec.Struct, kw_only=True, frozen=True):
    """One deleted chunk; with rule `summary` all that was deleted of a stream between two moments, up to `sequence`."""

    stream: str
    sequence: int
    epoch: int
    run: int
    start_us: int
    end_us: int
    bytes: int
    volume: str
    rule: str
    deleted_us: int


class _Head(msgspec.Struct, frozen=True):
    format: int


def deletions_path(index_path: Path) -> Path:
    """Where the records of this index lie."""
    return index_path.parent / NAME


class DeletionLog:
    """The file being written, by one process at a time; safe to use from its threads."""

    def __init__(self, path: Path, *, bytes_max: int = BYTES_MAX) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._handle = -1
        self._size = 0

    def append(self, records: Sequence[Deletion]) -> None:
        """Put records on stable storage; `VolumeError` when that fails, and then none of them counts."""
        with self._lock:
            try:
                if self._handle < 0:
                    self._open()
                if self._size > self._bytes_max:
                    self._begin_anew()
                self._write(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
            except OSError as error:
                raise VolumeError(
                    f"{self.path} cannot be written ({error.strerror}); nothing is deleted until it can", reason="eio"
                ) from error

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        with self._lock:
            if self._handle >= 0:
                os.ftruncate(self._handle, self._size)  # gives back what was kept allocated
                os.close(self._handle)
                self._handle = -1

    def _open(self) -> None:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":  # torn by a crash
                tail = os.pread(handle, min(size, 1 << 16), max(0, size - (1 << 16)))
                size -= len(tail) - (tail.rfind(b"\n") + 1)
                os.ftruncate(handle, size)
        except OSError:
            os.close(handle)
            raise
        self._handle, self._size = handle, size
        if not size:
            self._write(msgspec.json.encode(_Head(FORMAT_VERSION)) + b"\n")
            sync_directory(self.path.parent)

    def _write(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._handle, data[done:], self._size + done)
            os.fdatasync(self._handle)
        except OSError:
            os.ftruncate(self._handle, self._size)
            raise
        self._size += len(data)
        preallocate(self._handle, self._size, ROOM_BYTES)

    def _begin_anew(self) -> None:
        """Go on in a new file that begins with the sum of this one."""
        fresh = self.path.with_suffix(".new")
        lines = [msgspec.json.encode(_Head(FORMAT_VERSION)), *map(msgspec.json.encode, summed(read(self.path)))]
        handle = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        old, old_size = self._handle, self._size
        self._handle, self._size = handle, 0
        try:
            self._write(b"\n".join(lines) + b"\n")
        except OSError:
            self._handle, self._size = old, old_size
            os.close(handle)
            raise
        os.ftruncate(old, old_size)
        os.close(old)
        for number in range(OLD_FILES - 1, 0, -1):
            if _old(self.path, number).exists():
                os.replace(_old(self.path, number), _old(self.path, number + 1))
        os.link(self.path, _old(self.path, 1))
        os.replace(fresh, self.path)
        sync_directory(self.path.parent)


def read(path: Path) -> Iterator[Deletion]:
    """The records of one file; a torn last line is left out, `FormatError` for a file of another format."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file):
            try:
                if number == 0:
                    head = msgspec.json.decode(line, type=_Head)
                    if head.format != FORMAT_VERSION:
                        raise FormatError(f"{path} has format {head.format}, this version reads {FORMAT_VERSION}")
                else:
                    yield msgspec.json.decode(line, type=Deletion)
            except (msgspec.DecodeError, msgspec.ValidationError):
                continue  # torn or damaged: the others count


def summed(records: Iterable[Deletion]) -> list[Deletion]:
    """What was deleted, per stream and unbroken range."""
    ranges: dict[str, list[Range]] = {}
    last: dict[str, Deletion] = {}
    for record in records:
        ranges.setdefault(record.stream, []).append((record.start_us, record.end_us))
        if record.stream not in last or record.sequence >= last[record.stream].sequence:
            last[record.stream] = record
        if len(ranges[record.stream]) > 4096:
            ranges[record.stream] = joined(ranges[record.stream], JOIN_US)
    return [
        Deletion(
            stream=stream, sequence=last[stream].sequence, epoch=last[stream].epoch, run=last[stream].run,
            start_us=start_us, end_us=end_us, bytes=0, volume="", rule=SUMMARY, deleted_us=last[stream].deleted_us,
        )
        for stream, found in ranges.items()
        for start_us, end_us in joined(found, JOIN_US)
    ]  # fmt: skip


def _old(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number}{path.suffix}")
