"""A camera that signs, written from the ONVIF Media Signing specification alone; and pictures to sign.

Shares no code with the product: its own tags, escaping and hashing.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509.oid import NameOID

from tests.bitstream import escaped

UUID = bytes.fromhex("005bc93f2d715e95ada4796f90877a6f")
OIDS = {"sha256": "0609608648016503040201", "sha384": "0609608648016503040202", "sha512": "0609608648016503040203"}
T0 = 1_760_000_000_000_000  # 2025-10-09
US_TO_1970 = 11_644_473_600_000_000
Unit = list[bytes]


@dataclass
class Authority:
    """A certificate authority, and chains under it."""

    name: str = "Test CA"
    valid: tuple[datetime, datetime] = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2034, 1, 1, tzinfo=UTC))
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.certificate = self.issue(self.name, self.key.public_key(), ca=True, self_signed=True)

    def issue(
        self, name: str, public: Any, *, ca: bool = False, self_signed: bool = False, days: int = 3000
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = subject if self_signed else self.certificate.subject
        built = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), *self.valid)
        built = built.add_extension(x509.BasicConstraints(ca, 2 if ca and self_signed else None), critical=True)
        if not ca:
            built = x509.CertificateBuilder(
                issuer, subject, public, x509.random_serial_number(), self.valid[0], self.valid[0] + timedelta(days)
            )
        return built.sign(self.key, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


@dataclass
class Camera:
    """Signs access units. `late`: an SEI stands so many units after the key picture that made it."""

    codec: str = "h264"
    chain: bytes = b""
    key: Any = None
    hash_name: str = "sha256"
    every: int = 1  # GOPs per signature
    split: int = 0  # units after which a long GOP is signed in parts
    late: int = 1
    hash_list: bool = True
    certificate_sei: bool = False
    escape_first: bool = False
    big_endian: bool = True
    version: int = 2
    user: tuple[Any, bytes] | None = None  # key and chain of the user
    repeat: int = 1
    start_us: int = T0
    unit_us: int = 100_000
    counter: int = 0

    def sign(self, units: Sequence[Unit], *, closing: bool = False) -> list[Unit]:
        """The units with their SEIs; `closing` signs the last GOP behind the last picture."""
        self._list: list[bytes] = []
        self._first = b""
        self._link = bytes(hashlib.new(self.hash_name).digest_size)
        self._anchor = b""
        self._ready: list[tuple[int, bytes, bool]] = []  # unit it goes out with, SEI, signed
        self._gops = 0
        self._since = self.start_us
        out: list[Unit] = []
        in_part = 0
        for number, unit in enumerate(units):
            now_us = self.start_us + number * self.unit_us
            key_picture = any(self._kind(nal) == "key" for nal in unit)
            if self._list and (key_picture or (self.split and in_part >= self.split)):
                self._close(number, now_us, partial=not key_picture)
                in_part = 0
            made: Unit = []
            if number == 0 and self.certificate_sei:
                made.append(self._certificate_sei())
            for nal in unit:
                if self._kind(nal) and self._ready and self._ready[0][0] <= number and not any(map(self._kind, made)):
                    made += self._out(number)
                made.append(nal)
                self._hash(nal)
            in_part += 1
            out.append(made)
        if closing:
            self._gops = -1  # signed, whatever the interval
            self._close(0, self.start_us + len(units) * self.unit_us, partial=False)
            out[-1] = out[-1] + self._out(len(units))
        return out

    # -- hashing ------------------------------------------------------------------------------------------------------

    def _kind(self, nal: bytes) -> str:
        if self.codec == "h264":
            kind, first = nal[0] & 31, nal[1] & 0x80
            return ("key" if first else "slice") if kind == 5 else "slice" if kind in (1, 2, 3, 4) else ""
        kind, first = nal[0] >> 1 & 63, nal[2] & 0x80
        return ("key" if first else "slice") if 16 <= kind <= 21 else "slice" if kind < 10 else ""

    def _h(self, data: bytes) -> bytes:
        return hashlib.new(self.hash_name, data).digest()

    def _hash(self, nal: bytes) -> None:
        kind = self._kind(nal)
        if not kind:
            return
        own = self._h(nal)
        if kind == "key":
            self._anchor = own
        else:
            own = self._h(self._anchor + own)
        self._list.append(own)
        self._first = self._first or own

    def _out(self, number: int) -> Unit:
        sent: Unit = []
        while self._ready and self._ready[0][0] <= number:
            _, sei, signed = self._ready.pop(0)
            sent += [sei] * self.repeat
            if not signed:
                self._list += [self._h(sei if self.escape_first else plain(sei))] * self.repeat
        return sent

    # -- SEIs ---------------------------------------------------------------------------------------------------------

    def _close(self, number: int, now_us: int, *, partial: bool) -> None:
        self.counter += 1
        self._gops += not partial
        signed = partial or self._gops % self.every == 0
        size = hashlib.new(self.hash_name).digest_size
        order: Any = "big" if self.big_endian else "little"
        stamps = b"".join(((us + US_TO_1970) * 10).to_bytes(8, order) for us in (self._since, now_us)[: self.version])
        general = bytes((self.version, 25, 12, 0, partial)) + stamps + self.counter.to_bytes(4, order)
        general += len(self._list).to_bytes(2, "big") + self._h(b"".join(self._list)) + self._link
        assert len(general) == (27 if self.version == 2 else 19) + 2 * size
        tags = [(4, self._crypto())] if not self.certificate_sei else []
        if not self.certificate_sei:
            tags += [(5, vendor()), (6, b"\1\0" + self.chain)]
            tags += [(6, b"\1\1" + self.user[1])] if self.user else []
        tags += [(1, general)] + ([(2, b"\1" + b"".join(self._list))] if self.hash_list else [])
        key = (self.user[0] if self.user else self.key) if signed else None
        self._ready.append((number + self.late, self._sei(0, tags, key), signed))
        self._link, self._first, self._list, self._since = self._first, b"", [], now_us

    def _certificate_sei(self) -> bytes:
        tags = [(4, self._crypto()), (5, vendor()), (6, b"\1\0" + self.chain)]
        tags += [(6, b"\1\1" + self.user[1])] if self.user else []
        return self._sei(0x80, tags, self.key)

    def _crypto(self) -> bytes:
        oid = bytes.fromhex(OIDS[self.hash_name])
        bits = self.key.key_size if isinstance(self.key, rsa.RSAPrivateKey) else 0
        return bytes((1, len(oid))) + oid + b"\0" + bits.to_bytes(2, "big")

    def _sei(self, flags: int, tags: list[tuple[int, bytes]], key: Any) -> bytes:
        flags |= 0x40 if self.escape_first else 0
        body = UUID + bytes((flags,)) + b"".join(tlv(tag, value) for tag, value in tags)
        room = 0 if key is None else (key.key_size + 7) // 8 if isinstance(key, rsa.RSAPrivateKey) else 72 + 70
        size = len(body) + (6 + room if key is not None else 0)
        head = (b"\6" if self.codec == "h264" else b"\x4e\1") + b"\5" + b"\xff" * (size // 255) + bytes((size % 255,))
        document = head + body
        if key is None:
            return escaped(document + b"\x80")
        digest = self._h(escaped(document) if self.escape_first else document)
        known = utils.Prehashed(getattr(hashes, self.hash_name.upper())())
        if isinstance(key, rsa.RSAPrivateKey):
            pss = padding.PSS(padding.MGF1(getattr(hashes, self.hash_name.upper())()), padding.PSS.DIGEST_LENGTH)
            signature = key.sign(digest, pss, known)
        else:
            signature = key.sign(digest, ec.ECDSA(known))
        value = b"\1" + len(signature).to_bytes(2, "big") + signature + b"\1" * (room - len(signature))
        return escaped(document + tlv(3, value) + b"\x80")


def tlv(tag: int, value: bytes) -> bytes:
    return bytes((tag,)) + len(value).to_bytes(2, "big") + value


def vendor() -> bytes:
    return b"\1" + b"".join(bytes((len(text),)) + text for text in (b"9.1", b"ACCC8E000001", b"Test Cameras"))


def plain(nal: bytes) -> bytes:
    out, zeros = bytearray(), 0
    for byte in nal:
        if zeros >= 2 and byte == 3:
            zeros = 0
            continue
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def pictures(codec: str, gops: int, gop: int, slices: int = 1, seed: int = 1) -> list[Unit]:
    """Units of random bytes with right NAL headers, parameter sets and delimiters, as a hashing signer sees them."""
    rng = random.Random(seed)
    units: list[Unit] = []
    for number in range(gops * gop):
        key = number % gop == 0
        if codec == "h264":
            heads = [bytes((0x65 if key else 0x41, 0x88 if not i else 0x40 + i)) for i in range(slices)]
            unit = [b"\x09\xf0"] + ([b"\x67\x42\x00\x1e", b"\x68\xce\x06"] if key else [])
        else:
            heads = [bytes((0x26 if key else 0x02, 1, 0x80 if not i else 0x40 + i)) for i in range(slices)]
            unit = [b"\x46\x01\x50"] + ([b"\x40\x01\x0c", b"\x42\x01\x01", b"\x44\x01\xc1"] if key else [])
        unit += [escaped(head + rng.randbytes(rng.randint(20, 400)) + b"\x80") for head in heads]
        units.append(unit)
    return units


def sample(unit: Unit) -> bytes:
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in unit)


def make_camera(authority: Authority, **options: Any) -> Camera:
    """A camera with an EC key, or an RSA one with `rsa=True`, and its certificate."""
    make: Callable[[], Any] = lambda: ec.generate_private_key(ec.SECP256R1())  # noqa: E731
    if options.pop("rsa", False):
        make = lambda: rsa.generate_private_key(65537, 2048)  # noqa: E731
    key = options.pop("key", None) or make()
    days = options.pop("days", 3000)
    chain = pem(authority.issue("camera", key.public_key(), days=days))
    return Camera(key=key, chain=chain, **options)
