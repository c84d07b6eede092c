"""The text of HLS playlists (RFC 8216), built as columns of bytes: no step in Python is per segment.

Kept true: every segment carries its wall time; entries of one kind are equally long, numbers padded with zeros, so a
day's playlist is one array of bytes with the few tags between put in.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from base.units import US, utc
from clips.segments import SEGMENT_US, Segments
from clips.tables import Int64s

GAP_US_MIN: Final = US // 2  # shorter absences are the normal distance of two pictures
_DAY_US: Final = 86_400 * US
_TIME: Final = b"#EXT-X-PROGRAM-DATE-TIME:YYYY-MM-DDT00:00:00.000Z\n"
_LENGTH: Final = b"#EXTINF:0000.00000,\n"
_SEGMENT: Final = _TIME + _LENGTH + b"seg-0000000000-0000000000.m4s\n"
_KEY: Final = _TIME + _LENGTH + b"#EXT-X-BYTERANGE:0000000000@000000000000\nkeys-0000000000.m4s\n"
_SECONDS_MAX: Final = 9999.0

Bytes = npt.NDArray[np.uint8]


def target_s(lengths_us: Int64s) -> int:
    """EXT-X-TARGETDURATION: not below the slot's length, so that it stays the same where it can."""
    longest_us = int(lengths_us.max()) if len(lengths_us) else 0
    return max(SEGMENT_US // US, math.ceil(longest_us / US))


def document(head: list[str], body: bytes, *, target: int, end: bool, independent: bool = True) -> bytes:
    """A whole playlist; `independent` when each of its segments begins with a key frame."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:8", f"#EXT-X-TARGETDURATION:{target}"]
    lines += [*(["#EXT-X-INDEPENDENT-SEGMENTS"] if independent else []), *head]
    return b"".join(["\n".join(lines).encode(), b"\n", body, b"#EXT-X-ENDLIST\n" if end else b""])


def entries(found: Segments, spoilt: Int64s) -> bytes:
    """Map, discontinuity, time and name of each segment, and the absences between them; `spoilt` ones are gaps too."""
    body = _filled(_SEGMENT, found.start_us, found.end_us - found.start_us)
    at = len(_TIME) + len(_LENGTH) + len(b"seg-")
    numbers = np.array([row.sequence for row in found.rows], np.int64)
    _put(body, at, 10, numbers[found.at])
    _put(body, at + 11, 10, found.slot)
    return _with_tags(body, found, spoilt, gaps=True)


def key_entries(found: Segments, first: Int64s, size: Int64s, spoilt: Int64s) -> bytes:
    """Key frames, one a segment: `size` bytes from `first` on of the chunk's key-frame file; `spoilt` ones are gaps."""
    body = _filled(_KEY, found.start_us, found.end_us - found.start_us)
    at = len(_TIME) + len(_LENGTH) + len(b"#EXT-X-BYTERANGE:")
    _put(body, at, 10, size)
    _put(body, at + 11, 12, first)
    _put(body, at + 11 + 12 + 1 + len(b"keys-"), 10, np.array([row.sequence for row in found.rows])[found.at])
    return _with_tags(body, found, spoilt, gaps=False, tracks="-video")


def date(time_us: int) -> str:
    """A wall time for EXT-X-PROGRAM-DATE-TIME."""
    return utc(time_us).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_us // 1000 % 1000:03}Z"


def map_line(epoch: int, tracks: str = "") -> str:
    """The tag that names an epoch's init segment."""
    return f'#EXT-X-MAP:URI="init-{epoch}{tracks}.mp4"\n'


def _filled(template: bytes, start_us: Int64s, length_us: Int64s) -> Bytes:
    """The template once per row, with time and length put in."""
    rows = np.tile(np.frombuffer(template, np.uint8), (len(start_us), 1))
    days, inverse = np.unique(start_us // _DAY_US, return_inverse=True)
    texts = b"".join(date(int(day) * _DAY_US)[:10].encode() for day in days)
    at = template.index(b"YYYY")
    rows[:, at : at + 10] = np.frombuffer(texts, np.uint8).reshape(-1, 10)[inverse]
    ms = start_us % _DAY_US // 1000
    for place, width, values in (
        (11, 2, ms // 3_600_000), (14, 2, ms // 60_000 % 60), (17, 2, ms // 1000 % 60), (20, 3, ms % 1000),
    ):  # fmt: skip
        _put(rows, at + place, width, values)
    at = template.index(b"#EXTINF:") + len(b"#EXTINF:")
    shown_us = np.minimum(length_us, round(_SECONDS_MAX * US))
    _put(rows, at, 4, shown_us // US)
    _put(rows, at + 5, 5, shown_us % US // 10)
    return rows


def _put(rows: Bytes, at: int, width: int, values: Int64s) -> None:
    """Numbers as decimal digits, padded with zeros."""
    left = values
    for place in range(at + width - 1, at - 1, -1):
        left, digit = np.divmod(left, 10)
        rows[:, place] = digit + 48


def _with_tags(body: Bytes, found: Segments, spoilt: Int64s, *, gaps: bool, tracks: str = "") -> bytes:
    """The rows with discontinuities, maps and gaps where they belong."""
    epochs = np.array([row.epoch for row in found.rows])[found.at]
    broken = {int(i) for i in found.breaks()}
    maps = {0, *(int(i) + 1 for i in np.flatnonzero(epochs[1:] != epochs[:-1]))}
    absent_us = found.start_us[1:] - found.end_us[:-1]
    holes = {int(i) + 1 for i in np.flatnonzero(absent_us >= GAP_US_MIN)} if gaps else set()
    target_us = target_s(found.end_us - found.start_us) * US
    raw, width = memoryview(body.tobytes()), body.shape[1]
    parts: list[bytes | memoryview] = []
    done = 0
    damaged = set(spoilt.tolist())
    for i in sorted(broken | maps | holes | damaged):
        parts.append(raw[done * width : i * width])
        done = i
        if i in holes:
            parts.append(_gap(int(found.end_us[i - 1]), int(found.start_us[i]), target_us))
        if i in holes or i in broken:
            parts.append(b"#EXT-X-DISCONTINUITY\n")
        if i in maps:
            parts.append(map_line(int(epochs[i]), tracks).encode())
        if i in damaged:
            parts.append(b"#EXT-X-GAP\n")
    parts.append(raw[done * width :])
    return b"".join(parts)


def _gap(start_us: int, end_us: int, longest_us: int) -> bytes:
    """An absence as GAP segments no longer than the playlist's target."""
    lines = ["#EXT-X-DISCONTINUITY"]
    for at in range(start_us, end_us, longest_us):
        stop = min(at + longest_us, end_us)
        lines += ["#EXT-X-GAP", f"#EXT-X-PROGRAM-DATE-TIME:{date(at)}", f"#EXTINF:{(stop - at) / US:.5f},"]
        lines.append(f"gap-{at // 1000}.m4s")
    return "\n".join(lines).encode() + b"\n"
