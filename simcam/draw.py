"""Test pictures: a moving pattern with the loop's name and clock burned in, drawn with numpy alone.

Kept true: the text is legible in a decoded picture of 320x180 and larger; the same frame number gives the same picture.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

# 5x7 glyphs, one hex pair per row, the leftmost pixel in bit 4.
_GLYPHS: Final = {
    "0": "0e11131519110e", "1": "040c040404040e", "2": "0e11010204081f", "3": "1f02040201110e", "4": "02060a121f0202",
    "5": "1f101e0101110e", "6": "0608101e11110e", "7": "1f010204080808", "8": "0e11110e11110e", "9": "0e11110f01020c",
    "a": "0e11111f111111", "b": "1e11111e11111e", "c": "0e11101010110e", "d": "1c12111111121c", "e": "1f10101e10101f",
    "f": "1f10101e101010", "g": "0e11101711110f", "h": "1111111f111111", "i": "0e04040404040e", "j": "0702020202120c",
    "k": "11121418141211", "l": "1010101010101f", "m": "111b1515111111", "n": "11111915131111", "o": "0e11111111110e",
    "p": "1e11111e101010", "q": "0e11111115120d", "r": "1e11111e141211", "s": "0f10100e01011e", "t": "1f040404040404",
    "u": "1111111111110e", "v": "11111111110a04", "w": "1111111515150a", "x": "11110a040a1111", "y": "1111110a040404",
    "z": "1f01020408101f", ":": "000c0c000c0c00", ".": "00000000000c0c", "-": "0000001f000000", "_": "0000000000001f",
    "+": "0004041f040400",
}  # fmt: skip

Plane = NDArray[np.uint8]


@cache
def _text(text: str, scale: int) -> Plane:
    rows = np.full((9, 6 * len(text) + 3), 16, np.uint8)
    for at, letter in enumerate(text.lower()):
        for row, bits in enumerate(bytes.fromhex(_GLYPHS.get(letter, "00" * 7))):
            for column in range(5):
                rows[1 + row, 2 + 6 * at + column] = 235 if bits >> 4 - column & 1 else 16
    return rows.repeat(scale, 0).repeat(scale, 1)


def _burn(luma: Plane, text: str, top: int, left: int, scale: int) -> None:
    glyphs = _text(text, scale)[: luma.shape[0] - top, : luma.shape[1] - left]
    luma[top : top + glyphs.shape[0], left : left + glyphs.shape[1]] = glyphs


def picture(width: int, height: int, name: str, number: int, fps: int) -> Plane:
    """Frame `number` of a loop as a yuv420p array of height*3/2 rows."""
    frame = np.empty((height * 3 // 2, width), np.uint8)
    across = np.arange(width, dtype=np.uint16)[None, :]
    down = np.arange(height, dtype=np.uint16)[:, None]
    luma = frame[:height]
    luma[:] = 64 + ((across + down + 2 * number) // 4 % 96).astype(np.uint8)
    frame[height:] = 118 + number // max(fps // 2, 1) % 20
    side = max(height // 6, 8)
    left = number * max(width // (4 * fps), 1) % max(width - side, 1)
    luma[height // 2 : height // 2 + side, left : left + side] = 210
    scale = max(height // 160, 1)
    seconds = number // fps
    clock = f"{seconds // 60:02d}:{seconds % 60:02d}.{number % fps * 1000 // fps:03d} {number:05d}"
    _burn(luma, name[: width // (6 * scale)], 4, 4, scale)
    _burn(luma, clock, 4 + 10 * scale, 4, scale)
    return frame
