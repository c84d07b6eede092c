"""What a recording holds, told by nothing of the product: its own walk over the standard boxes of ISO/IEC 14496-12, the
stamps of the simulated cameras, and the log of what these cameras sent.

Kept true: a file is read up to the first box that does not fit; seals, frame tables and the index are not looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from simcam.camera import SentPicture
from simcam.stamps import parse_stamp, verify

NTP_UNIX_S: Final = 2_208_988_800
VIDEO_TRACK: Final = 1
VIDEO_HZ: Final = 90_000
ROUNDING_US: Final = 20_000  # stored time is slewed by less than this within a fragment


@dataclass(frozen=True, slots=True)
class Fragment:
    """Wall time by `prft` and durations; pictures as samples with 4-byte lengths."""

    start_us: int
    end_us: int
    samples: list[bytes]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is stored of one stream."""

    sequences: list[int]
    start_us: int
    end_us: int


def fragments(path: Path) -> Iterator[Fragment]:
    """The video fragments of one file."""
    data = path.read_bytes()
    wall_us = moof_at = 0
    table: list[tuple[int, int]] = []
    data_at = 0
    for kind, at, body, end in _boxes(data, 0, len(data)):
        if kind == b"prft":
            seconds, fraction = struct.unpack_from(">II", data, body + 8)
            wall_us = (seconds - NTP_UNIX_S) * 1_000_000 + (fraction * 1_000_000 >> 32)
        elif kind == b"moof":
            moof_at = at
            data_at, table = _video_samples(data, body, end)
        elif kind == b"mdat" and table:
            place, samples = moof_at + data_at, []
            for size, _ in table:
                samples.append(data[place : place + size])
                place += size
            ticks = sum(duration for _, duration in table)
            yield Fragment(wall_us, wall_us + ticks * 1_000_000 // VIDEO_HZ, samples)


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """(type, start, start of the body, end)."""
    while at + 8 <= end:
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8 or at + size > end:
            return
        yield data[at + 4 : at + 8], at, at + 8, at + size
        at += size


def _video_samples(data: bytes, at: int, end: int) -> tuple[int, list[tuple[int, int]]]:
    """Offset from `moof`, and (size, duration) of each picture (8.8.7, 8.8.8)."""
    for kind, _, body, stop in _boxes(data, at, end):
        if kind != b"traf":
            continue
        parts = {name: start for name, _, start, _ in _boxes(data, body, stop)}
        tfhd, trun = parts[b"tfhd"], parts[b"trun"]
        if int.from_bytes(data[tfhd + 4 : tfhd + 8], "big") == VIDEO_TRACK:
            return _run(data, trun, _default_duration(data, tfhd))
    return 0, []


def _default_duration(data: bytes, tfhd: int) -> int:
    flags, at = int.from_bytes(data[tfhd + 1 : tfhd + 4], "big"), tfhd + 8
    at += 8 * bool(flags & 0x1) + 4 * bool(flags & 0x2)
    return int.from_bytes(data[at : at + 4], "big") if flags & 0x8 else 0


def _run(data: bytes, trun: int, default_duration: int) -> tuple[int, list[tuple[int, int]]]:
    flags, count = int.from_bytes(data[trun + 1 : trun + 4], "big"), int.from_bytes(data[trun + 4 : trun + 8], "big")
    offset = int.from_bytes(data[trun + 8 : trun + 12], "big")
    assert flags & 0x1, "trun says where its data is"
    assert flags & 0x200, "trun has sizes"
    at, rows = trun + 12 + 4 * bool(flags & 0x4), []
    for _ in range(count):
        duration = default_duration
        if flags & 0x100:
            duration, at = int.from_bytes(data[at : at + 4], "big"), at + 4
        size, at = int.from_bytes(data[at : at + 4], "big"), at + 4
        at += 4 * bool(flags & 0x400) + 4 * bool(flags & 0x800)
        rows.append((size, duration))
    return offset, rows


def files(roots: Iterable[Path], stream: str) -> list[Path]:
    """Chunk files of a stream over all its volumes, by their sequence number."""
    found = [path for root in roots for path in (root / stream).glob("*/*.mp4")]
    return sorted(found, key=lambda path: int(path.stem.rpartition("-")[2]))


def judge(roots: Iterable[Path], stream: str, sent: Mapping[int, SentPicture]) -> Verdict:
    """No picture is wrong, of another camera, out of order or there twice; each is byte for byte what was sent."""
    stored = [fragment for path in files(roots, stream) for fragment in fragments(path)]
    samples = [sample for fragment in stored for sample in fragment.samples]
    sequences = judge_samples(samples, stream, sent)
    if not stored:
        return Verdict(sequences, 0, 0)
    ordered = [(fragment.start_us, fragment.end_us) for fragment in stored]
    assert all(a[1] <= b[0] + ROUNDING_US for a, b in pairwise(ordered)), f"{stream}: time"
    return Verdict(sequences, ordered[0][0], ordered[-1][1])


def judge_samples(samples: list[bytes], stream: str, sent: Mapping[int, SentPicture]) -> list[int]:
    """The numbers of these pictures, each of which is as it was sent."""
    report = verify(samples, "h264")
    assert not report.mismatches, f"{stream}: spoilt pictures {report.mismatches[:5]}"
    assert not report.duplicates, f"{stream}: pictures twice {report.duplicates[:5]}"
    assert not report.out_of_order, f"{stream}: out of order {report.out_of_order[:5]}"
    assert not report.unstamped, f"{stream}: {report.unstamped} pictures of nobody"
    assert report.cameras in ([], [stream.rpartition(".")[0]]), f"{stream}: pictures of {report.cameras}"
    sequences = []
    for sample in samples:
        stamp = parse_stamp(sample, "h264")
        assert stamp is not None
        assert sent[stamp.sequence].sample == sample, f"{stream}: picture {stamp.sequence} is not what was sent"
        sequences.append(stamp.sequence)
    return sequences
