"""Takes numbers and bytes off the front of a fuzzer's input; past its end come zeros and empty bytes."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


class Feed:
    """`more` says whether anything is left; nothing here raises."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        self._at += size
        return part

    def u(self, size: int) -> int:
        return int.from_bytes(self.take(size).ljust(size, b"\0"), "big")

    def s(self, size: int) -> int:
        return int.from_bytes(self.take(size).ljust(size, b"\0"), "big", signed=True)

    def one_of(self, *values: T) -> T:
        return values[self.u(1) % len(values)]

    def blob(self) -> bytes:
        """Up to 253 bytes, up to 65,535 bytes (254), or a few bytes many times over (255), to cross inner borders."""
        size = self.u(1)
        if size == 254:
            return self.take(self.u(2))
        if size == 255:
            times = self.u(2)
            return self.take(self.u(1)) * min(times, 1024)
        return self.take(size)

    def rest(self) -> bytes:
        return self.take(len(self._data))


def cuts(data: bytes, seed: int) -> list[bytes]:
    """The same bytes in pieces whose sizes follow from the seed; 0 gives single bytes."""
    parts, at, state = [], 0, seed
    while at < len(data):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        size = 1 if seed == 0 else 1 + (state >> 16) % (1 << (state >> 8) % 9)
        parts.append(data[at : at + size])
        at += size
    return parts
