"""The files of a package: a directory, or a ZIP of stored entries whose structure is known to the byte.

Kept true: every byte of a ZIP file is either an entry's or follows from names, sizes and sums; reads never go past
the file they are of.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO

SMALL_BYTES_MAX = 256 << 20  # of a file that is read whole: manifest, fragments, ledger
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class NoPackage(Exception):
    """There is nothing here that can be verified."""


class Findings:
    """What is wrong, by place."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def add(self, where: str, what: str) -> None:
        """Note what is wrong."""
        self.rows.append({"where": where, "what": what})


def sha256(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def canonical(document: Any) -> bytes:
    """The one form of a document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def time_text(time_us: int) -> str:
    """RFC 3339 in UTC."""
    return (EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def time_of(text: str) -> int:
    """UTC µs."""
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return (moment - EPOCH) // timedelta(microseconds=1)


class Files:
    """Names of a package, and reading any of their bytes."""

    def __init__(self, path: str, findings: Findings) -> None:
        self.places: dict[str, tuple[BinaryIO, int, int]] = {}  # name → file, first byte, bytes
        if not os.path.isdir(path):
            self._read_zip(open(path, "rb"), findings)  # noqa: SIM115 (as long as this object)
            return
        for folder, _, names in os.walk(path):
            for name in names:
                handle = open(os.path.join(folder, name), "rb")  # noqa: SIM115
                inside = os.path.relpath(os.path.join(folder, name), path).replace(os.sep, "/")
                self.places[inside] = handle, 0, os.fstat(handle.fileno()).st_size

    def _read_zip(self, handle: BinaryIO, findings: Findings) -> None:
        size, at, rows = os.fstat(handle.fileno()).st_size, 0, []
        stamp = read_at(handle, 14, 0)[10:14]
        while read_at(handle, 4, at) == b"PK\3\4":
            fixed = read_at(handle, 30, at)
            name_bytes, extra_bytes = struct.unpack("<HH", fixed[26:]) if len(fixed) == 30 else (0, 0)
            name, extra = read_at(handle, name_bytes, at + 30), read_at(handle, extra_bytes, at + 30 + name_bytes)
            length = struct.unpack("<Q", extra[4:12])[0] if len(extra) == 20 else size
            start = at + 30 + name_bytes + extra_bytes
            if start + length > size:
                findings.add("the ZIP file", f"the entry at byte {at} is longer than the file, or altered")
                break
            if fixed + name + extra != zip_local(stamp, fixed[14:18], name, length):
                findings.add("the ZIP file", f"the header at byte {at} is not the one that was written")
            known = name.decode("utf-8", "replace")
            if known in self.places:
                findings.add("the ZIP file", f"{known} is in it twice")
            self.places[known] = handle, start, length
            rows.append(zip_row(stamp, fixed[14:18], name, length, at))
            self._check_sum(known, struct.unpack("<I", fixed[14:18])[0], findings)
            at = start + length
        if not rows:
            raise NoPackage("this is neither a directory nor the ZIP file of a package")
        if read_at(handle, size - at, at) != zip_end(rows, at):
            findings.add("the ZIP file", f"its directory, from byte {at} on, is not the one that was written")

    def _check_sum(self, name: str, crc: int, findings: Findings) -> None:
        total = 0
        for block in self.blocks(name):
            total = zlib.crc32(block, total)
        if total != crc:
            findings.add(name, "its CRC-32 in the ZIP file is another one")

    def size(self, name: str) -> int:
        """Bytes of a file; -1 when it is not there."""
        return self.places[name][2] if name in self.places else -1

    def read(self, name: str, start: int, size: int) -> bytes:
        """Bytes of a file; fewer where it ends."""
        handle, base, length = self.places[name]
        return read_at(handle, max(0, min(size, length - start)), base + start)

    def blocks(self, name: str) -> Iterator[bytes]:
        """All bytes, a mebibyte at a time."""
        for at in range(0, self.size(name), 1 << 20):
            yield self.read(name, at, 1 << 20)

    def whole(self, name: str) -> bytes:
        """A small file; empty when there is none or it is too large."""
        return self.read(name, 0, self.size(name)) if 0 <= self.size(name) <= SMALL_BYTES_MAX else b""

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a text file, one after another."""
        rest = b""
        for block in self.blocks(name):
            *whole, rest = (rest + block).split(b"\n")
            yield from whole
        if rest:
            yield rest

    def digest(self, name: str) -> str:
        """SHA-256 of a file."""
        whole = hashlib.sha256()
        for block in self.blocks(name):
            whole.update(block)
        return whole.hexdigest()


def read_at(handle: BinaryIO, size: int, at: int) -> bytes:
    """Up to so many bytes from there on."""
    handle.seek(at)
    return handle.read(size)


def zip_local(stamp: bytes, crc: bytes, name: bytes, length: int) -> bytes:
    """The header of an entry, as Keyreel writes it (APPNOTE 4.3.7)."""
    fixed = b"PK\3\4\x2d\0\0\x08\0\0" + stamp + crc + b"\xff" * 8 + struct.pack("<HH", len(name), 20)
    return fixed + name + struct.pack("<HHQQ", 1, 16, length, length)


def zip_row(stamp: bytes, crc: bytes, name: bytes, length: int, at: int) -> bytes:
    """The entry in the ZIP's directory (APPNOTE 4.3.12)."""
    fixed = b"PK\1\2\x2d\3\x2d\0\0\x08\0\0" + stamp + crc + b"\xff" * 8
    fixed += struct.pack("<HHHHHII", len(name), 28, 0, 0, 0, 0o100644 << 16, 0xFFFFFFFF)
    return fixed + name + struct.pack("<HHQQQ", 1, 24, length, length, at)


def zip_end(rows: list[bytes], at: int) -> bytes:
    """The directory that begins at a byte, and the two ends behind it (APPNOTE 4.3.14 to 4.3.16)."""
    joined, count = b"".join(rows), len(rows)
    return joined + struct.pack(
        "<4sQHHIIQQQQ4sIQI4sHHHHIIH", b"PK\6\6", 44, 0x032D, 45, 0, 0, count, count, len(joined), at,
        b"PK\6\7", 0, at + len(joined), 1, b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0,
    )  # fmt: skip
