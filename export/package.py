"""Where a package is written to: a directory, or one ZIP file of stored entries (docs/format/export.md).

Kept true: nothing stands under the target's name until all of it is on stable storage; what was told as kept survives a
crash, and everything after it is written again; memory is that of one part. The ZIP's structure follows from names,
sizes and sums alone, so a verifier can tell each byte of it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

import msgspec

from base.errors import UserError, VolumeError
from base.units import utc
from export.verifier.files import zip_end, zip_local, zip_row

ZIP_SUFFIX: Final = ".zip"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
Parts = Iterable[bytes | memoryview]


class Entry(msgspec.Struct, frozen=True):
    """A finished file of the package."""

    name: str
    bytes: int
    sha256: str
    crc32: int = 0
    offset: int = 0  # of its header in the ZIP


class Package(Protocol):
    """A package being written under a hidden name."""

    entries: list[Entry]

    def add(self, name: str, parts: Parts, sha256: Callable[[], str] | None = None) -> Entry:
        """Write one file; `sha256` tells the hash of its bytes when whoever makes them has it anyway."""

    def keep(self) -> None:
        """Everything written so far is on stable storage."""

    def finish(self) -> None:
        """Give it its name."""

    def drop(self) -> None:
        """Leave nothing behind."""


def open_package(target: Path, created_us: int, entries: list[Entry]) -> Package:
    """The package for a target, continued behind `entries`; `UserError` when something has the name already."""
    if target.suffix.lower() == ZIP_SUFFIX:
        return ZipPackage(target, created_us, entries)
    return DirPackage(target, entries)


def refuse_no_folder(target: Path) -> None:
    """`UserError` when there is nowhere to put the target."""
    if not target.parent.is_dir():
        raise UserError(f"{target.parent} is no directory; make it first, or name another --to", reason="bad-target")


def refuse_existing(target: Path) -> None:
    """`UserError` when something has the target's name."""
    if os.path.lexists(target):
        raise UserError(f"{target} exists already; name another --to", reason="exists")


def hidden(target: Path, suffix: str) -> Path:
    """A name beside the target that nobody takes for a package."""
    return target.with_name(f".{target.name}.{suffix}")


class DirPackage:
    """A directory of files."""

    def __init__(self, target: Path, entries: list[Entry]) -> None:
        self.entries = list(entries)
        self._target, self._part = target, hidden(target, "part")
        self._part.mkdir(exist_ok=True)
        known = {entry.name for entry in entries}
        for path in sorted(self._part.rglob("*")):
            if path.is_file() and str(path.relative_to(self._part)) not in known:
                path.unlink()

    def add(self, name: str, parts: Parts, sha256: Callable[[], str] | None = None) -> Entry:
        """Write and sync one file."""
        path = self._part / name
        path.parent.mkdir(exist_ok=True)
        with writing(path), path.open("wb", buffering=0) as file:
            digest, size, _ = copy(parts, file.fileno(), hashed=sha256 is None)
            os.fsync(file.fileno())
        self.entries.append(Entry(name, size, sha256() if sha256 else digest))
        return self.entries[-1]

    def keep(self) -> None:
        """Sync the directories; files are."""
        with writing(self._part):
            for path in (self._part, *(one for one in self._part.iterdir() if one.is_dir())):
                sync_directory(path)

    def finish(self) -> None:
        """One rename."""
        self.keep()
        refuse_existing(self._target)
        os.rename(self._part, self._target)
        sync_directory(self._target.parent)

    def drop(self) -> None:
        """Remove what there is."""
        shutil.rmtree(self._part, ignore_errors=True)


class ZipPackage:
    """One ZIP file, nothing compressed: video does not shrink, and a reader can go to any byte."""

    def __init__(self, target: Path, created_us: int, entries: list[Entry]) -> None:
        self.entries = list(entries)
        self._target, self._part = target, hidden(target, "part")
        self._stamp = dos_time(created_us)
        self._handle = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._end = entry_end(entries[-1]) if entries else 0
        os.ftruncate(self._handle, self._end)

    def add(self, name: str, parts: Parts, sha256: Callable[[], str] | None = None) -> Entry:
        """Write one entry; its header last, when size and sum are known."""
        start = self._end
        empty = local_header(Entry(name, 0, ""), self._stamp)
        with writing(self._target):
            os.lseek(self._handle, start + len(empty), os.SEEK_SET)
            digest, size, crc = copy(parts, self._handle, hashed=sha256 is None, summed=True)
            entry = Entry(name, size, sha256() if sha256 else digest, crc, start)
            os.pwrite(self._handle, local_header(entry, self._stamp), start)
        self._end = entry_end(entry)
        self.entries.append(entry)
        return entry

    def keep(self) -> None:
        """Sync the file and its name."""
        with writing(self._target):
            os.fsync(self._handle)
            sync_directory(self._part.parent)

    def finish(self) -> None:
        """The directory of the ZIP, and one rename."""
        with writing(self._target):
            os.lseek(self._handle, self._end, os.SEEK_SET)
            _, size, _ = copy([zip_directory(self.entries, self._stamp)], self._handle, hashed=False)
            os.ftruncate(self._handle, self._end + size)
        self.keep()
        os.close(self._handle)
        refuse_existing(self._target)
        os.rename(self._part, self._target)
        sync_directory(self._target.parent)

    def drop(self) -> None:
        """Remove what there is."""
        with contextlib.suppress(OSError):
            os.close(self._handle)
        self._part.unlink(missing_ok=True)


def copy(parts: Parts, handle: int, *, hashed: bool = True, summed: bool = False) -> tuple[str, int, int]:
    """Write all parts; (SHA-256, bytes, CRC-32) of them, as far as asked for."""
    digest, size, crc = hashlib.sha256(), 0, 0
    for part in parts:
        if hashed:
            digest.update(part)
        if summed:
            crc = zlib.crc32(part, crc)
        size += len(part)
        view = memoryview(part)
        while view:
            view = view[os.write(handle, view) :]
    return digest.hexdigest(), size, crc


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """A failure to write becomes a `VolumeError` that says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        advice = "free some room, or name a --to on another disk" if full else "check the disk, or name another --to"
        raise VolumeError(
            f"{path} cannot be written: {error.strerror}; {advice}", reason="enospc" if full else "eio"
        ) from None


def sync_directory(path: Path) -> None:
    """Names in a directory are on stable storage."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def dos_time(time_us: int) -> bytes:
    """Time and date as ZIP has them, in UTC, to two seconds."""
    t = utc(time_us)
    time, date = t.hour << 11 | t.minute << 5 | t.second // 2, t.year - 1980 << 9 | t.month << 5 | t.day
    return struct.pack("<HH", time, date)


def local_header(entry: Entry, stamp: bytes) -> bytes:
    """Stands before an entry's bytes."""
    return zip_local(stamp, struct.pack("<I", entry.crc32), entry.name.encode(), entry.bytes)


def entry_end(entry: Entry) -> int:
    """Offset behind an entry."""
    return entry.offset + len(local_header(entry, bytes(4))) + entry.bytes


def zip_directory(entries: list[Entry], stamp: bytes) -> bytes:
    """What stands behind the last entry."""
    rows = [zip_row(stamp, struct.pack("<I", one.crc32), one.name.encode(), one.bytes, one.offset) for one in entries]
    return zip_end(rows, entry_end(entries[-1]))
