"""What SPS and VPS say of a stream (H.264 7.3.2.1 and annex E, H.265 7.3.2.1, 7.3.2.2 and 7.3.3).

Kept true: sizes are those of the shown picture, within 1 to 16384; a set that cannot be read raises DamageError.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from base.errors import DamageError
from chunks.bits import BitReader, unescape

_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_SIDE_MAX = 16384


@dataclass(frozen=True, slots=True)
class Picture:
    """What a decoder is told before the first picture; `profile` is the codec's own bytes of profile and level."""

    width: int
    height: int
    profile: bytes  # H.264: profile, constraints, level; H.265: the 12 bytes of general profile_tier_level
    chroma: int = 1
    luma_bits: int = 8
    chroma_bits: int = 8
    reorder: int | None = None  # pictures; None when the SPS does not say
    frame_rate: float = 0.0  # 0 when not told
    sub_layers: int = 1
    nested: bool = True


@lru_cache(maxsize=256)
def parse_h264_sps(nal: bytes) -> Picture:
    """An H.264 SPS NAL unit."""
    bits = BitReader(unescape(nal[:4096])[1:])
    profile = bytes(bits.u(8) for _ in range(3))
    bits.ue()
    chroma, luma_bits, chroma_bits, separate = 1, 8, 8, False
    if profile[0] in _HIGH_PROFILES:
        chroma = bits.ue()
        separate = chroma == 3 and bits.flag()
        luma_bits, chroma_bits = bits.ue() + 8, bits.ue() + 8
        bits.skip(1)
        if bits.flag():
            _skip_h264_scaling(bits, 12 if chroma == 3 else 8)
    bits.ue()
    _skip_h264_order(bits)
    bits.ue()
    bits.skip(1)
    width, height = (bits.ue() + 1) * 16, (bits.ue() + 1) * 16
    frames_only = bits.flag()
    if not frames_only:
        bits.skip(1)
        height *= 2
    bits.skip(1)
    if bits.flag():
        left, right, top, bottom = (bits.ue() for _ in range(4))
        unit_x = 2 if chroma in (1, 2) and not separate else 1
        unit_y = (2 if chroma == 1 and not separate else 1) * (1 if frames_only else 2)
        width, height = width - (left + right) * unit_x, height - (top + bottom) * unit_y
    rate, reorder = _h264_vui(bits)
    _check(width, height, chroma, luma_bits, chroma_bits)
    return Picture(width, height, profile, chroma, luma_bits, chroma_bits, reorder, rate)


def _skip_h264_scaling(bits: BitReader, lists: int) -> None:
    for i in range(lists):
        if bits.flag():
            last = following = 8
            for _ in range(16 if i < 6 else 64):
                if following:
                    following = (last + bits.se()) % 256
                last = following or last


def _skip_h264_order(bits: BitReader) -> None:
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.skip(1)
        bits.se()
        bits.se()
        cycle = bits.ue()
        if cycle > 255:
            raise DamageError("SPS holds an order cycle of more than 255 pictures")
        for _ in range(cycle):
            bits.se()


def _h264_vui(bits: BitReader) -> tuple[float, int | None]:
    """(frame rate, reorder) as far as the VUI goes; a VUI cut short is taken as not said."""
    rate = 0.0
    try:
        if not bits.flag():
            return rate, None
        if bits.flag() and bits.u(8) == 255:
            bits.skip(32)
        if bits.flag():
            bits.skip(1)
        if bits.flag():
            bits.skip(4)
            if bits.flag():
                bits.skip(24)
        if bits.flag():
            bits.ue()
            bits.ue()
        if bits.flag():
            tick, scale = bits.u(32), bits.u(32)
            rate = scale / (2 * tick) if tick else 0.0
            bits.skip(1)
        hrd = [_skip_h264_hrd(bits) for _ in range(2)]
        if any(hrd):
            bits.skip(1)
        bits.skip(1)
        if not bits.flag():
            return rate, None
        bits.skip(1)
        for _ in range(4):
            bits.ue()
        reorder = bits.ue()
    except DamageError:
        return rate, None
    return rate, reorder if reorder <= 16 else None


def _skip_h264_hrd(bits: BitReader) -> bool:
    if not bits.flag():
        return False
    count = bits.ue() + 1
    if count > 32:
        raise DamageError("SPS holds more than 32 HRD schedules")
    bits.skip(8)
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.skip(1)
    bits.skip(20)
    return True


def _skip_h265_profile(bits: BitReader, sub_layers: int) -> bytes:
    """profile_tier_level; the 12 general bytes."""
    general = bits.u(96).to_bytes(12, "big")
    present = [(bits.flag(), bits.flag()) for _ in range(sub_layers - 1)]
    if sub_layers > 1:
        bits.skip(2 * (9 - sub_layers))
    for profile, level in present:
        bits.skip((88 if profile else 0) + (8 if level else 0))
    return general


@lru_cache(maxsize=256)
def parse_h265_sps(nal: bytes) -> Picture:
    """An H.265 SPS NAL unit, up to what a sample entry needs."""
    bits = BitReader(unescape(nal[:4096])[2:])
    bits.skip(4)
    sub_layers, nested = bits.u(3) + 1, bits.flag()
    profile = _skip_h265_profile(bits, sub_layers)
    bits.ue()
    chroma = bits.ue()
    separate = chroma == 3 and bits.flag()
    width, height = bits.ue(), bits.ue()
    if bits.flag():
        left, right, top, bottom = (bits.ue() for _ in range(4))
        width -= (left + right) * (2 if chroma in (1, 2) and not separate else 1)
        height -= (top + bottom) * (2 if chroma == 1 and not separate else 1)
    luma_bits, chroma_bits = bits.ue() + 8, bits.ue() + 8
    bits.ue()
    reorder = 0
    for _ in range(sub_layers if bits.flag() else 1):
        bits.ue()
        reorder = bits.ue()
        bits.ue()
    _check(width, height, chroma, luma_bits, chroma_bits)
    return Picture(
        width, height, profile, chroma, luma_bits, chroma_bits, reorder if reorder <= 16 else None,
        sub_layers=sub_layers, nested=nested,
    )  # fmt: skip


@lru_cache(maxsize=256)
def h265_vps_rate(nal: bytes) -> float:
    """Frame rate by a VPS, 0.0 when it does not say."""
    try:
        bits = BitReader(unescape(nal[:4096])[2:])
        bits.skip(12)
        sub_layers = bits.u(3) + 1
        bits.skip(17)
        _skip_h265_profile(bits, sub_layers)
        for _ in range(sub_layers if bits.flag() else 1):
            for _ in range(3):
                bits.ue()
        layers = bits.u(6) + 1
        sets = bits.ue()
        bits.skip(min(sets, 1024) * layers)
        if not bits.flag():
            return 0.0
        tick, scale = bits.u(32), bits.u(32)
    except DamageError:
        return 0.0
    return scale / tick if tick else 0.0


def _check(width: int, height: int, chroma: int, luma_bits: int, chroma_bits: int) -> None:
    if not (0 < width <= _SIDE_MAX and 0 < height <= _SIDE_MAX and chroma <= 3 and max(luma_bits, chroma_bits) <= 16):
        raise DamageError(f"SPS tells of pictures of {width}x{height}, which no camera makes")
