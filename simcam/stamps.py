"""The stamp in every simulated picture, and the oracle that reads it back from whatever was recorded.

Kept true: a stamp is one user_data_unregistered SEI message (H.264 D.1.7, H.265 D.2.7) alone in its NAL unit; its
payload is ASCII, so it never needs emulation prevention; its digest covers all other NAL units of the picture, each
with its length, so a picture with a NAL unit lost, added, cut or changed does not verify. Only this module and
hashlib are needed to judge a recording: nothing of the recorder, the chunk or the clip is used.

Payload: 16 bytes UUID, 16 hex sequence, 16 hex unix time in µs, 32 hex digest (first half of SHA-256), camera name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final
from uuid import UUID

STAMP_UUID: Final = UUID("6b657972-6565-4c2d-b374-616d702d7631").bytes
CAMERA_BYTES_MAX: Final = 128
_SEI_HEAD: Final = {"h264": b"\x06", "h265": b"\x4e\x01"}  # nal_ref_idc 0; prefix SEI, layer 0, temporal id 1
_USER_DATA_UNREGISTERED: Final = 5
_FIXED_BYTES: Final = 16 + 16 + 16 + 32
_FIELDS: Final = re.compile(rb"([0-9a-f]{16})([0-9a-f]{16})([0-9a-f]{32})([\x20-\x7e]+)")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What one picture says of itself."""

    camera: str
    sequence: int
    time_us: int
    digest: bytes


class Stamper:
    """Writes the stamps of one camera."""

    def __init__(self, camera: str, codec: str) -> None:
        name = camera.encode("ascii")
        if not 1 <= len(name) <= CAMERA_BYTES_MAX or not camera.isprintable():
            raise ValueError(f"camera name {camera[:64]!r} must be 1 to {CAMERA_BYTES_MAX} printable ASCII characters")
        size = _FIXED_BYTES + len(name)
        self._head = _SEI_HEAD[codec] + bytes([_USER_DATA_UNREGISTERED, size]) + STAMP_UUID
        self._tail = name + b"\x80"

    def nal(self, sequence: int, time_us: int, digest_hex: bytes) -> bytes:
        """The SEI NAL unit for a picture whose other NAL units have this digest."""
        return b"%b%016x%016x%b%b" % (self._head, sequence, time_us, digest_hex, self._tail)


def digest_hex(nals: Iterable[bytes]) -> bytes:
    """Digest of a picture's NAL units, as it stands in the stamp."""
    sha = hashlib.sha256()
    for nal in nals:
        sha.update(len(nal).to_bytes(4, "big"))
        sha.update(nal)
    return sha.hexdigest()[:32].encode()


def split_sample(sample: bytes | memoryview) -> Iterator[bytes]:
    """NAL units of an MP4 sample with 4-byte lengths; ValueError when the lengths do not add up."""
    at = 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + 4], "big")
        if at + 4 + size > len(sample):
            raise ValueError(f"NAL unit of {size} bytes at {at} leaves its sample of {len(sample)} bytes")
        yield bytes(sample[at + 4 : at + 4 + size])
        at += 4 + size


def _parse_nal(nal: bytes, codec: str) -> Stamp | None:
    head = _SEI_HEAD[codec]
    start = len(head) + 2
    if not nal.startswith(head) or nal[start : start + 16] != STAMP_UUID or nal[len(head)] != _USER_DATA_UNREGISTERED:
        return None
    payload = nal[start : start + nal[start - 1]]
    fields = _FIELDS.fullmatch(payload, 16)
    if fields is None or nal[start + len(payload) :] != b"\x80":
        return None
    return Stamp(fields[4].decode(), int(fields[1], 16), int(fields[2], 16), bytes.fromhex(fields[3].decode()))


def parse_stamp(sample: bytes | memoryview, codec: str) -> Stamp | None:
    """The stamp of a sample (NAL units with 4-byte lengths), or None when it carries none."""
    for nal in split_sample(sample):
        stamp = _parse_nal(nal, codec)
        if stamp is not None:
            return stamp
    return None


@dataclass(slots=True)
class StampReport:
    """What the stamps of a recording say. `missing` holds closed ranges between `first` and `last`."""

    cameras: list[str] = field(default_factory=list)
    pictures: int = 0
    first: int | None = None
    last: int | None = None
    first_us: int | None = None
    last_us: int | None = None
    missing: list[tuple[int, int]] = field(default_factory=list)
    mismatches: list[int] = field(default_factory=list)
    out_of_order: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    unstamped: int = 0

    @property
    def missing_pictures(self) -> int:
        """How many pictures lie in the missing ranges."""
        return sum(last - first + 1 for first, last in self.missing)

    @property
    def ok(self) -> bool:
        """One camera, every picture between first and last there once, in order and byte-exact."""
        wrong = self.missing or self.mismatches or self.out_of_order or self.duplicates or self.unstamped
        return self.pictures > 0 and len(self.cameras) == 1 and not wrong


def _check(report: StampReport, sample: bytes | memoryview, codec: str, previous: int | None) -> int | None:
    stamp: Stamp | None = None
    others: list[bytes] = []
    for nal in split_sample(sample):
        found = None if stamp else _parse_nal(nal, codec)
        if found is None:
            others.append(nal)
        else:
            stamp = found
    if stamp is None:
        report.unstamped += 1
        return None
    if stamp.camera not in report.cameras:
        report.cameras.append(stamp.camera)
    if digest_hex(others) != stamp.digest.hex().encode():
        report.mismatches.append(stamp.sequence)
    if previous is not None and stamp.sequence < previous:
        report.out_of_order.append(stamp.sequence)
    report.first_us = stamp.time_us if report.first_us is None else report.first_us
    report.last_us = stamp.time_us
    return stamp.sequence


def _holes(sequences: Sequence[int]) -> list[tuple[int, int]]:
    return [(a + 1, b - 1) for a, b in pairwise(sequences) if b > a + 1]


def verify(samples: Iterable[bytes | memoryview], codec: str) -> StampReport:
    """Judges the samples of one recording in the order they are stored (decode order)."""
    report = StampReport()
    seen: set[int] = set()
    previous: int | None = None
    for sample in samples:
        sequence = _check(report, sample, codec, previous)
        if sequence is None:
            continue
        if sequence in seen:
            report.duplicates.append(sequence)
        seen.add(sequence)
        previous = sequence
        report.pictures += 1
    ordered = sorted(seen)
    if ordered:
        report.first, report.last = ordered[0], ordered[-1]
        report.missing = _holes(ordered)
    return report
