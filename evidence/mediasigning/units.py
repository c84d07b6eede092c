"""NAL units as Media Signing sees them: which are hashed, which begin a GOP, which may be signing SEIs.

Kept true: nothing is copied; a unit is what the camera sent, from its header to the byte with the stop bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from base.media import VideoCodec

Nal = bytes | memoryview


class Kind(IntEnum):
    """What a NAL unit is to a signature."""

    OTHER = 0  # parameter sets, delimiters, filler: not hashed
    SLICE = 1  # part of a picture
    GOP_START = 2  # the first slice of a key picture: the anchor of all that follows
    SEI = 3  # perhaps a signing one


# By NAL unit type. IRAP pictures of H.265 begin a GOP, CRA too, as cameras with open GOPs send no other.
_H264: Final = tuple(
    {5: Kind.GOP_START, 6: Kind.SEI}.get(t, Kind.SLICE if 1 <= t <= 4 else Kind.OTHER) for t in range(32)
)
_H265: Final = tuple(
    Kind.GOP_START if 16 <= t <= 21 else Kind.SLICE if t < 32 else Kind.SEI if t in (39, 40) else Kind.OTHER
    for t in range(64)
)


def header_bytes(codec: VideoCodec) -> int:
    """Length of a NAL unit's header."""
    return 1 if codec == "h264" else 2


def kind_of(nal: Nal, h265: bool) -> Kind:
    """What `nal` is; units too short to have a payload are OTHER."""
    head = 2 if h265 else 1
    if len(nal) <= head:
        return Kind.OTHER
    kind = _H265[nal[0] >> 1 & 0x3F] if h265 else _H264[nal[0] & 0x1F]
    # first_mb_in_slice = 0 and first_slice_segment_in_pic_flag = 1 both are a leading 1 bit.
    if kind is Kind.GOP_START and not nal[head] & 0x80:
        return Kind.SLICE
    return kind


def without_trailing_zeros(nal: Nal) -> Nal:
    """The unit up to the byte with its stop bit; muxers and Annex B may leave zero bytes behind it."""
    end = len(nal)
    while end and nal[end - 1] == 0:
        end -= 1
    return nal if end == len(nal) else nal[:end]


def nals_of(sample: bytes | memoryview) -> Iterator[memoryview]:
    """NAL units of a sample with lengths of 4 bytes; a length that does not fit ends it."""
    view = memoryview(sample)
    at, size = 0, len(view)
    while at + 4 <= size:
        length = int.from_bytes(view[at : at + 4], "big")
        at += 4
        if length > size - at:
            return
        if length:
            yield view[at : at + length]
        at += length
