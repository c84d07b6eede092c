"""CRC-32C against published values, a plain twin, and itself in pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from native.crc import IMPLEMENTATION, crc32c, crc32c_plain


def twin(data: bytes, value: int = 0) -> int:
    crc = value ^ 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_published_values() -> None:  # RFC 3720 B.4
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@given(st.binary(max_size=600), st.integers(0, 2**32 - 1))
def test_equals_the_twin(data: bytes, value: int) -> None:
    assert crc32c(data, value) == crc32c_plain(data, value) == twin(data, value)


@given(st.integers(0, 60_000), st.integers(0, 60_000), st.integers(0, 255))
def test_goes_on_where_it_stopped(size: int, cut: int, seed: int) -> None:
    data = bytes((i * 31 + seed) & 0xFF for i in range(256)) * (size // 256 + 1)
    data = data[:size]
    cut = min(cut, size)
    assert crc32c(data) == crc32c(data[cut:], crc32c(data[:cut])) == crc32c_plain(data)


def test_takes_any_buffer() -> None:
    data = b"a" * 20_000
    assert crc32c(memoryview(data)[1:]) == crc32c(bytearray(data[1:])) == crc32c_plain(data[1:])
    assert IMPLEMENTATION in ("hardware", "table")
