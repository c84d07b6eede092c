"""The SEI of ONVIF Media Signing as data: emulation prevention undone, tags taken apart.

Kept true: what does not fit its lengths is refused whole (DamageError, reason `sei`), never half read.
The specification writes times and the counter little-endian, the public reference program big-endian, so both
are told (`counters`), and which one a camera means follows from its times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from base.errors import DamageError
from evidence.mediasigning.units import Nal

UUID: Final = bytes.fromhex("005bc93f2d715e95ada4796f90877a6f")
SEI_BYTES_MAX: Final = 1 << 20
_USER_DATA_UNREGISTERED: Final = 5
_CERTIFICATE_SEI, _ESCAPED_BEFORE_HASH, _MORE_FLAGS = 0x80, 0x40, 0x01
_GENERAL, _HASHES, _SIGNATURE, _CRYPTO, _VENDOR, _CHAIN, _ARBITRARY = range(1, 8)
_1601_TO_1970_US: Final = 11_644_473_600_000_000
_YEAR_2000_US, _YEAR_2200_US = 946_684_800_000_000, 7_258_118_400_000_000
# OIDs as they stand in DER, without tag and length.
_HASHES_BY_OID: Final = {
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
}
HASH_NAMES: Final = tuple(_HASHES_BY_OID.values())


@dataclass(frozen=True, slots=True)
class General:
    """What a (partial) GOP is: how many units, their hash, and the first unit of the one before."""

    partial: bool
    counters: tuple[int, int]  # as little-endian, as big-endian
    times_us: tuple[int | None, int | None] | None  # camera's own UTC: of the first picture, of the next part's first
    big_endian: bool | None  # None: its times do not say
    units: int
    gop_hash: bytes
    link: bytes

    @property
    def first_ever(self) -> bool:
        """The camera had signed nothing before."""
        return not any(self.link)


@dataclass(frozen=True, slots=True)
class Vendor:
    """What the device says of itself."""

    firmware: str
    serial: str
    manufacturer: str


@dataclass(frozen=True, slots=True)
class Sei:
    """One signing SEI. `document` is what is signed, `whole` what is hashed when it has no signature of its own."""

    document: bytes
    whole: bytes
    is_certificate: bool
    general: General | None
    hashes: tuple[bytes, ...]
    signature: bytes | None
    hash_name: str | None
    signing_oid: bytes
    vendor: Vendor | None
    chains: tuple[tuple[bool, bytes], ...]  # (user provisioned, PEM)


def is_signing_sei(nal: Nal, head: int) -> bool:
    """Whether an SEI NAL unit, whose header has `head` bytes, carries Media Signing."""
    if len(nal) < head + 18 or nal[head] != _USER_DATA_UNREGISTERED:
        return False
    at = _payload_at(nal, head)
    return bytes(nal[at : at + 16]) == UUID


def parse_sei(nal: Nal, head: int) -> Sei:
    """Take a signing SEI apart; `nal` ends with its stop bit."""
    if len(nal) > SEI_BYTES_MAX:
        raise _broken(f"it has {len(nal)} bytes, and {SEI_BYTES_MAX} are the most that is looked at")
    raw = bytes(nal)
    at = _payload_at(raw, head)
    size = sum(raw[head + 1 : at])
    whole, escapes = raw, list[int]()
    if at + size + 1 != len(raw):  # by its size, emulation prevention was applied
        whole, escapes = _unescaped(raw)
    if size < 17 or at + size + 1 != len(whole):
        raise _broken("its payload does not end where it says")
    flags = whole[at + 16]
    if flags & _MORE_FLAGS:
        raise _broken("it has flags of a newer version of the specification")
    tags = dict[int, list[bytes]]()
    document, escaped = whole, bool(flags & _ESCAPED_BEFORE_HASH)
    for tag, start, value in _tags(whole, at + 17, at + size):
        tags.setdefault(tag, []).append(value)
        if tag == _SIGNATURE:
            behind = sum(place - k < start for k, place in enumerate(escapes)) if escaped else 0
            document = raw[: start + behind] if escaped else whole[:start]
    return _assembled(tags, document, raw if escaped else whole, bool(flags & _CERTIFICATE_SEI))


def _assembled(tags: dict[int, list[bytes]], document: bytes, whole: bytes, is_certificate: bool) -> Sei:
    if _ARBITRARY in tags and len(tags) > 1:
        raise _broken("arbitrary data stands beside other tags")
    if is_certificate and _SIGNATURE not in tags:
        raise _broken("a certificate SEI without a signature")
    hash_name, signing_oid = _crypto(tags[_CRYPTO][0]) if _CRYPTO in tags else (None, b"")
    general = _general(tags[_GENERAL][0]) if _GENERAL in tags and not is_certificate else None
    return Sei(
        document=document,
        whole=whole,
        is_certificate=is_certificate,
        general=general,
        hashes=_hash_list(tags[_HASHES][0], len(general.gop_hash)) if general and _HASHES in tags else (),
        signature=_signature(tags[_SIGNATURE][0]) if _SIGNATURE in tags else None,
        hash_name=hash_name,
        signing_oid=signing_oid,
        vendor=_vendor(tags[_VENDOR][0]) if _VENDOR in tags else None,
        chains=tuple((bool(value[1]), value[2:]) for value in tags.get(_CHAIN, []) if value[0] == 1 and len(value) > 2),
    )


def _payload_at(nal: Nal, head: int) -> int:
    """Where the payload of the first SEI message begins, behind its size."""
    at, end = head + 1, len(nal) - 1
    while at < end and nal[at] == 0xFF:
        at += 1
    return at + 1


def _unescaped(raw: bytes) -> tuple[bytes, list[int]]:
    """The unit without emulation prevention, and the places of the bytes taken out."""
    places: list[int] = []
    at = raw.find(b"\0\0\3")
    while at >= 0:
        places.append(at + 2)
        at = raw.find(b"\0\0\3", at + 3)
    return raw.replace(b"\0\0\3", b"\0\0"), places


def _tags(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """(tag, where it begins, value) of each tag; the signature is the last."""
    while at < end:
        if at + 3 > end:
            raise _broken("its last tag is cut off")
        tag, length = data[at], int.from_bytes(data[at + 1 : at + 3], "big")
        if at + 3 + length > end:
            raise _broken(f"tag {tag} is longer than the SEI")
        if not length:
            raise _broken(f"tag {tag} is empty")
        yield tag, at, data[at + 3 : at + 3 + length]
        at += 3 + length
        if tag == _SIGNATURE and at != end:
            raise _broken("something stands behind the signature")


def _general(value: bytes) -> General:
    version, fixed = value[0], {1: 19, 2: 27}.get(value[0], 0)
    if not fixed:
        raise _broken(f"general information of version {version}; 1 and 2 are known")
    hash_bytes, odd = divmod(len(value) - fixed, 2)
    if odd or hash_bytes < 16:
        raise _broken("general information of a wrong length")
    stamps = [value[5 + 8 * i : 13 + 8 * i] for i in range(version)]
    at = 5 + 8 * version
    times, big = _times(stamps)
    return General(
        partial=value[4] == 1,
        counters=(int.from_bytes(value[at : at + 4], "little"), int.from_bytes(value[at : at + 4], "big")),
        times_us=times,
        big_endian=big,
        units=int.from_bytes(value[at + 4 : at + 6], "big"),
        gop_hash=value[fixed : fixed + hash_bytes],
        link=value[fixed + hash_bytes :],
    )


def _times(stamps: list[bytes]) -> tuple[tuple[int | None, int | None] | None, bool | None]:
    """The camera's UTC, in the byte order that gives a year of this age; None when neither does."""
    for big in (False, True):
        times = [int.from_bytes(stamp, "big" if big else "little") // 10 - _1601_TO_1970_US for stamp in stamps]
        if any(_YEAR_2000_US < time < _YEAR_2200_US for time in times):
            sure = [time if _YEAR_2000_US < time < _YEAR_2200_US else None for time in times]
            return (sure[0], sure[1] if len(sure) > 1 else None), big
    return None, None


def _hash_list(value: bytes, hash_bytes: int) -> tuple[bytes, ...]:
    count, rest = divmod(len(value) - 1, hash_bytes)
    if not _version(value, 1) or rest:
        raise _broken("a hash list of a wrong version or length")
    return tuple(value[1 + i * hash_bytes : 1 + (i + 1) * hash_bytes] for i in range(count))


def _signature(value: bytes) -> bytes:
    size = int.from_bytes(value[1:3], "big")
    if not _version(value, 1) or not 0 < size <= len(value) - 3:
        raise _broken("a signature of a wrong version or length")
    return value[3 : 3 + size]


def _crypto(value: bytes) -> tuple[str, bytes]:
    oids: list[bytes] = []
    at = 1
    for _ in range(2):
        if at >= len(value):
            raise _broken("cryptographic information that is cut off")
        oid = value[at + 1 : at + 1 + value[at]]
        oids.append(oid[2:] if oid[:2] == bytes((6, len(oid) - 2 & 0xFF)) else oid)  # with DER's tag and length, or not
        at += 1 + value[at]
    if not _version(value, 1) or oids[0] not in _HASHES_BY_OID:
        raise _broken(f"a hash algorithm that is not known, OID {oids[0].hex()}; known are {', '.join(HASH_NAMES)}")
    return _HASHES_BY_OID[oids[0]], oids[1]


def _vendor(value: bytes) -> Vendor:
    texts: list[str] = []
    at = 1
    for _ in range(3):
        size = value[at] if at < len(value) else 0
        texts.append(value[at + 1 : at + 1 + size].decode("utf-8", "replace"))
        at += 1 + size
    return Vendor(*texts)


def _version(value: bytes, known: int) -> bool:
    return bool(value) and value[0] == known


def _broken(why: str) -> DamageError:
    return DamageError(f"a signing SEI cannot be read: {why}", reason="sei")
