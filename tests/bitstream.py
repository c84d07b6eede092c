"""What encoders do to the bytes of a NAL unit."""

from __future__ import annotations


def escaped(raw: bytes) -> bytes:
    """With emulation prevention (ITU-T H.264, 7.4.1)."""
    out, zeros = bytearray(), 0
    for byte in raw:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)
