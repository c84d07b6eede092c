"""A bounded bit reader for parameter sets.

Kept true: reading past the end raises DamageError, and no field is longer than 64 bits or 32 leading zeros.
"""

from __future__ import annotations

from base.errors import DamageError


def unescape(nal: bytes) -> bytes:
    """RBSP of a NAL unit: without emulation prevention bytes (H.264 7.4.1.1, H.265 7.4.2)."""
    parts, start = [], 0
    at = nal.find(b"\0\0\3")
    while at >= 0:
        parts.append(nal[start : at + 2])
        start = at + 3
        at = nal.find(b"\0\0\3", start)
    parts.append(nal[start:])
    return b"".join(parts)


class BitReader:
    """Most significant bit first."""

    __slots__ = ("_at", "_size", "_value")

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._size = len(data) * 8
        self._at = 0

    def u(self, bits: int) -> int:
        """Unsigned, fixed length."""
        end = self._at + bits
        if end > self._size:
            raise DamageError("parameter set ends too early; the camera sent a cut one")
        value = self._value >> (self._size - end) & ((1 << bits) - 1)
        self._at = end
        return value

    def flag(self) -> bool:
        """One bit."""
        return self.u(1) == 1

    def skip(self, bits: int) -> None:
        """Pass over bits."""
        if self._at + bits > self._size:
            raise DamageError("parameter set ends too early; the camera sent a cut one")
        self._at += bits

    def ue(self) -> int:
        """Exp-Golomb, unsigned (H.264 9.1)."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 32:
                raise DamageError("parameter set holds a number of more than 32 bits")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """Exp-Golomb, signed."""
        value = self.ue()
        return (value + 1) // 2 if value & 1 else -(value // 2)
