"""The write side of one stream's ledger: entries at the end of its newest file.

Kept true: an entry follows the one before it that is in the file; what a crash tore is kept beside the file and cut at
a whole entry; what is read at the opening is what the disk holds, not what a failed write left in memory; after an
error everything is again as it was when the disk last confirmed it. One thread at a time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from chunks.filesystem import drop_cached
from chunks.volume import sync_directory
from evidence.files import FILE_BYTES, file_name, first_entry, ledger_files
from evidence.ledger import (
    HEADER,
    MAGIC,
    NO_HASH,
    Chunk,
    ChunkState,
    Content,
    Entry,
    Ledger,
    Opened,
    pack_entry,
    read_entries,
    unpack_entry,
)


class Place(NamedTuple):
    """Where a ledger ends."""

    number: int  # of the next entry
    previous: bytes
    time_us: int
    path: Path | None  # of the newest file, and its size
    size: int


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A chunk that an earlier life left without a last word: fragments up to `covered` are under a root."""

    opened: Opened
    covered: int


class ForeignError(OSError):
    """Somebody else changed the file since; what is in it is not ours to undo, it is read again."""


class Journal:
    """A ledger's end, in memory some hundred bytes; files are opened for each writing alone."""

    __slots__ = ("_confirmed", "_durable", "_fresh", "_torn", "at", "folder", "identity", "unfinished")

    def __init__(self, folder: Path, identity: Ledger) -> None:
        """The ledger in this folder, or a new one there; `identity` is a new one's, and says who writes from now on."""
        self.folder = folder
        self.identity = identity
        self.unfinished: Unfinished | None = None
        self.at = Place(0, NO_HASH, 0, None, 0)
        self._fresh: list[Path] = []  # files begun since the last sync
        self._torn = False
        if folder.is_dir():
            self._find_end()
        self._durable = self.at
        self._confirmed = self.at.path is None  # what an earlier life wrote is synced before it counts

    @property
    def durable_number(self) -> int:
        """Entries below this number are on stable storage."""
        return self._durable.number

    @property
    def settled(self) -> bool:
        """All that was appended is on stable storage."""
        return self._confirmed and self._durable is self.at and not self._torn

    def append(self, contents: Sequence[tuple[int, Content]]) -> int:
        """Write entries (time, content) behind the others; how many bytes. OSError: nothing of it counts, `undo`."""
        if self._torn:
            self.undo()
        done = 0
        for time_us, content in contents:
            if self.at.path is None or self.at.size >= FILE_BYTES:
                done += self._begin_file(time_us)
            done += self._write([self._entry(time_us, content)])
        return done

    def append_entry(self, entry: Entry) -> int:
        """Write one that was made by `next_entry`, which nothing may have come after."""
        return self._write([entry])

    def next_entry(self, time_us: int, content: Content) -> Entry:
        """What would be appended now."""
        return self._entry(time_us, content)

    def sync(self) -> None:
        """Make everything appended durable, file by file."""
        paths = [*self._fresh, *([self.at.path] if self.at.path and self.at.path not in self._fresh else [])]
        for path in paths:
            handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(handle)
            finally:
                os.close(handle)
        if self._fresh:
            sync_directory(self.folder)
            sync_directory(self.folder.parent)
        self.confirm()

    def confirm(self) -> None:
        """Everything appended is durable, by a sync of the whole file system."""
        self._durable, self._confirmed = self.at, True
        self._fresh.clear()

    def undo(self) -> None:
        """After an error: let go of what was not confirmed; OSError when even that fails, `append` begins so."""
        self._torn = True
        while self._fresh:
            self._fresh[-1].unlink(missing_ok=True)
            self._fresh.pop()
        if self._durable.path is not None:
            os.truncate(self._durable.path, self._durable.size)
        self.at = self._durable
        self._torn = False

    # -- within -------------------------------------------------------------------------------------------------------

    def _entry(self, time_us: int, content: Content) -> Entry:
        return pack_entry(self.at.number, max(time_us, self.at.time_us), self.at.previous, content)

    def _begin_file(self, time_us: int) -> int:
        self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        path = self.folder / file_name(self.at.number)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640))
        self._fresh.append(path)
        self.at = self.at._replace(path=path, size=0)
        return self._write([self._entry(time_us, self.identity)])

    def _write(self, entries: Sequence[Entry]) -> int:
        assert self.at.path is not None, "no file was begun"
        data = b"".join(entry.raw for entry in entries)
        handle = os.open(self.at.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.fstat(handle).st_size != self.at.size:
                raise ForeignError(errno.ESTALE, "its newest file is not as it was left: another process wrote it")
            done = 0
            while done < len(data):
                done += os.pwrite(handle, data[done:], self.at.size + done)
        except ForeignError:
            self._durable = self.at = self.at._replace(path=None)
            raise
        except OSError:
            self._torn = True
            raise
        finally:
            os.close(handle)
        last = entries[-1]
        self.at = Place(last.number + 1, last.hash, last.time_us, self.at.path, self.at.size + len(data))
        return len(data)

    def _find_end(self) -> None:
        """The last whole entry of the newest file that has one; what is behind it is kept aside."""
        files = ledger_files(self.folder)
        while files:
            path = files[-1]
            data = _read_disk(path)
            starts, end = _walk(data)
            if end < len(data) or not starts:
                _keep_aside(path, data, end)
            if starts:
                last = unpack_entry(data, starts[-1])
                assert last is not None
                self.at = Place(last.number + 1, last.hash, last.time_us, path, end)
                self._read_identity(path)
                self.unfinished = _unfinished(files)
                return
            files.pop()

    def _read_identity(self, path: Path) -> None:
        entry = first_entry(path)
        if entry is not None and isinstance(entry.content, Ledger):
            self.identity = self.identity._replace(ledger=entry.content.ledger)


def _read_disk(path: Path) -> bytes:
    """A file as the disk holds it: after a failed sync the kernel keeps pages that never got there as if they had."""
    with path.open("rb") as file:
        drop_cached(file.fileno(), 0, 0)
        return file.read()


def _walk(data: bytes) -> tuple[list[int], int]:
    """Where entries begin, and where the last whole one ends; quick, so only that one is checked."""
    starts, at = [], 0
    while at + HEADER.size <= len(data) and data[at : at + 2] == MAGIC:
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        if not HEADER.size < length <= len(data) - at:
            break
        starts.append(at)
        at += length
    while starts:
        last = unpack_entry(data, starts[-1])
        if last is not None:
            return starts, starts[-1] + len(last.raw)
        starts.pop()
    return [], 0


def _keep_aside(path: Path, data: bytes, end: int) -> None:
    """A torn end is no entry; it is kept for who wants to look at it, then cut. An empty file goes."""
    if len(data) > end:
        aside = path.with_name(f"{path.stem}.torn-{end}")
        with aside.open("wb") as file:
            file.write(data[end:])
            file.flush()
            os.fsync(file.fileno())
    if end:
        os.truncate(path, end)
    else:
        path.unlink()
    sync_directory(path.parent)


def _unfinished(files: Sequence[Path]) -> Unfinished | None:
    """Of the chunk opened last: how far it is under roots, unless its last word was said."""
    later: list[Chunk] = []
    for path in reversed(files[-2:]):
        for entry in reversed(list(read_entries(path.read_bytes()))):
            said = entry.content
            if isinstance(said, Chunk):
                later.append(said)
            elif isinstance(said, Opened):
                mine = [one for one in later if one.opening == said.opening]
                over = any(one.state != ChunkState.GROWING for one in mine)
                return Unfinished(said, -1 if over else max((one.fragments for one in mine), default=0))
    return None


def prune(folder: Path, before_us: int) -> int:
    """Delete the oldest files of which every entry was made before this time, never the newest; how many."""
    files = ledger_files(folder)
    gone = 0
    for path, later in pairwise(files):
        entry = first_entry(later)
        if entry is None or entry.time_us >= before_us:
            break
        path.unlink()
        for aside in folder.glob(f"{path.stem}.torn-*"):
            aside.unlink()
        gone += 1
    if gone:
        sync_directory(folder)
    return gone
