"""Ledgers for tests: one entry of each kind, signed with a key that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence import ledger
from evidence.ledger import NO_HASH, ChunkState, Content, Entry, Head, pack_entry, signed_bytes
from evidence.tree import leaf_hash, root_of

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key()
KEY_ID = sha256(
    PUBLIC.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).digest()
LEDGER_ID = bytes(range(100, 116))
START_US = 1_780_000_000_000_000
FRAGMENTS = [b"fragment %d" % number for number in range(1, 8)]


def contents() -> list[Content]:
    """One of each kind but heads, which `chained` signs."""
    opening = bytes(range(16))
    root = root_of([leaf_hash(one) for one in FRAGMENTS])
    size = sum(map(len, FRAGMENTS))
    return [
        ledger.Ledger(LEDGER_ID, bytes(range(16, 32)), 7, "gate.main", "keyreel 0.1.0"),
        ledger.Session(3, ledger.SessionEvent.BEGAN, 0, "tcp"),
        ledger.Epoch(1, sha256(b"configuration").digest()),
        ledger.ClockNote(1, 1500, -20, ""),
        ledger.Opened(opening, bytes(range(32, 48)), 12, 1, 3, START_US, 1200, sha256(b"header").digest()),
        ledger.Chunk(opening, 12, ChunkState.SEALED, 1, 7, START_US, START_US + 3_500_000, size, root),
        ledger.GapNote(START_US + 3_500_000, START_US + 4_000_000, 3, 17),
        ledger.Camera(START_US, START_US + 1_000_000, 12, 1, 1, bytes(32), "vành đai ✓"),
        ledger.Missed(2, START_US, START_US + 5_000_000, "enospc"),
        ledger.Stamp(4, bytes(range(32)), b"\x30\x03\x02\x01\x05"),
    ]


def chained(said: Sequence[Content], *, number: int = 0, previous: bytes = NO_HASH, sign: bool = True) -> list[Entry]:
    """These contents as a chain, with a head at the end."""
    entries: list[Entry] = []
    for content in said:
        entries.append(pack_entry(number, START_US + number * 1000, previous, content))
        number, previous = number + 1, entries[-1].hash
    if sign:
        entries.append(signed_head(number, START_US + number * 1000, previous))
    return entries


def signed_head(number: int, time_us: int, previous: bytes, key: Ed25519PrivateKey = KEY) -> Entry:
    unsigned = pack_entry(number, time_us, previous, Head(LEDGER_ID, KEY_ID, bytes(64)))
    return pack_entry(number, time_us, previous, Head(LEDGER_ID, KEY_ID, key.sign(signed_bytes(unsigned.raw))))


def check(key: bytes, signed: bytes, signature: bytes, time_us: int) -> str:
    if key != KEY_ID:
        return "the key is not known"
    try:
        PUBLIC.verify(signature, signed)
    except InvalidSignature:
        return "the signature does not hold"
    return ""
