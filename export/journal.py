"""What an unfinished export remembers of itself beside its target, so that a crash costs no more than one stream.

    .TARGET.journal   JSON lines: the identity of the export, then each stream that is complete
    .TARGET.records   the fragments of the stream being written

Kept true: a line is there only when what it speaks of is on stable storage; one torn by a crash counts as not written;
one process at a time has a target's journal.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec

from base.errors import UserError
from export.package import Entry, hidden, sync_directory, writing


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of an export; `ends` is up to when each stream was on stable storage."""

    request: dict[str, Any]
    export: str
    created_us: int
    hold: int
    ends: dict[str, int]


class StreamDone(msgspec.Struct, frozen=True, kw_only=True):
    """A complete stream: what the manifest says of it, and its files."""

    stream: dict[str, Any]
    entries: list[Entry]


class Journal:
    """The journal of a target; `begun` is None when no export of it was interrupted."""

    def __init__(self, target: Path) -> None:
        self.path = hidden(target, "journal")
        self._records = hidden(target, "records")
        self.begun: Begun | None = None
        self.done: list[StreamDone] = []
        self._file: BinaryIO | None = None

    def __enter__(self) -> Journal:
        with writing(self.path):
            self._file = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(
                "another process exports to this target; wait for it, or name another --to", reason="busy"
            ) from None
        self._file.truncate(self._read(self.path.read_bytes()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self.begun is None:
            self.path.unlink(missing_ok=True)

    def begin(self, begun: Begun) -> None:
        """The first line."""
        self.begun = begun
        self._append(begun)

    def add(self, done: StreamDone) -> None:
        """A stream is complete and kept."""
        self.done.append(done)
        self._append(done)

    def drop(self) -> None:
        """The export ended, one way or the other."""
        for path in (self._records, self.path):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def spool(self) -> Iterator[BinaryIO]:
        """An empty file for the records of one stream."""
        with writing(self._records), self._records.open("w+b") as file:
            yield file
        self._records.unlink(missing_ok=True)

    def _append(self, line: Begun | StreamDone) -> None:
        assert self._file is not None, "a journal is written to while it is entered"
        with writing(self.path):
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            sync_directory(self.path.parent)

    def _read(self, raw: bytes) -> int:
        """Take in whole lines; how many bytes they are."""
        good = 0
        for line in raw.split(b"\n")[:-1]:
            try:
                if self.begun is None:
                    self.begun = msgspec.json.decode(line, type=Begun)
                else:
                    self.done.append(msgspec.json.decode(line, type=StreamDone))
            except (msgspec.DecodeError, msgspec.ValidationError):
                break
            good += len(line) + 1
        return good
