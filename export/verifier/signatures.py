"""Ed25519 (RFC 8032 §5.1) and RSASSA-PSS (RFC 8017 §8.1.2, §9.1.2), verification alone: here is no secret to leak.

Kept true: a signature that is malformed in any way does not hold; nothing but the standard library is used.
"""

from __future__ import annotations

import hashlib
import struct

Point = tuple[int, int, int, int]

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SPKI_ED25519 = bytes.fromhex("302a300506032b6570032100")
DER_RSA = bytes.fromhex("06092a864886f70d010101")


def point_add(p: Point, q: Point) -> Point:
    """In extended coordinates."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def two_multiples(a: int, p: Point, b: int, q: Point) -> Point:
    """a·p + b·q, both in one pass over the bits."""
    table, result = (p, q, point_add(p, q)), (0, 1, 1, 0)
    for bit in range(max(a, b).bit_length() - 1, -1, -1):
        result = point_add(result, result)
        which = (a >> bit & 1) + 2 * (b >> bit & 1)
        if which:
            result = point_add(result, table[which - 1])
    return result


def point_decompress(data: bytes) -> Point | None:
    """The point of 32 bytes; None when they are none."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - x2) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = (lambda point: point or (0, 1, 1, 0))(point_decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little")))


def ed25519_verify(spki: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is by this key (SubjectPublicKeyInfo, DER)."""
    if len(spki) != 44 or not spki.startswith(SPKI_ED25519) or len(signature) != 64:
        return False
    key = spki[12:]
    a, r, s = point_decompress(key), point_decompress(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    left = two_multiples(s, BASE, h, (P - a[0], a[1], a[2], P - a[3]))  # s·B - h·A, which should be R
    return (left[0] - r[0] * left[2]) % P == 0 == (left[1] - r[1] * left[2]) % P


def der(data: bytes, at: int) -> tuple[int, int]:
    """(start, end) of the content of the DER value at `at`."""
    length, start = data[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[at + 2 : start], "big")
    if start + length > len(data):
        raise ValueError("DER value is longer than its data")
    return start, start + length


def rsa_key(certificate: bytes) -> tuple[int, int]:
    """(modulus, exponent) of the RSA key in a certificate."""
    at = certificate.index(DER_RSA) + len(DER_RSA)
    at = certificate.index(b"\3", at, at + 4)  # BIT STRING behind the algorithm's NULL
    start, _ = der(certificate, at)
    start, _ = der(certificate, start + 1)
    first, end = der(certificate, start)
    second, last = der(certificate, end)
    return int.from_bytes(certificate[first:end], "big"), int.from_bytes(certificate[second:last], "big")


def pss_verify(certificate: bytes, digest: bytes, signature: bytes, salt_bytes: int = 20) -> bool:
    """Whether the signature of a SHA-256 digest is by the certificate's key."""
    try:
        modulus, exponent = rsa_key(certificate)
    except (ValueError, IndexError):
        return False
    bits, value = modulus.bit_length() - 1, int.from_bytes(signature, "big")
    size = (bits + 7) // 8
    if modulus.bit_length() < 2048 or len(signature) != (modulus.bit_length() + 7) // 8 or value >= modulus:
        return False
    encoded = pow(value, exponent, modulus).to_bytes(size, "big")
    masked, h = encoded[: size - 33], encoded[size - 33 : -1]
    mask = b"".join(hashlib.sha256(h + struct.pack(">I", i)).digest() for i in range(size // 32 + 1))
    block = bytearray(a ^ b for a, b in zip(masked, mask))
    unused = 8 * size - bits
    if encoded[-1] != 0xBC or masked[0] & (0xFF00 >> unused & 0xFF):
        return False
    block[0] &= 0xFF >> unused
    padding = len(block) - salt_bytes - 1
    if any(block[:padding]) or block[padding] != 1:
        return False
    return hashlib.sha256(bytes(8) + digest + bytes(block[padding + 1 :])).digest() == h
