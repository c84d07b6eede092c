"""The recorder's ledger in a package: its chain, its last signature, and which fragments it proves.

Kept true: an entry counts when the chain from it to a good signature is unbroken; a fragment is proven when its hash,
computed here, leads to a root in such an entry. The format is docs/format/ledger.md.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from export.verifier.files import Findings, sha256
from export.verifier.signatures import ed25519_verify

HEAD_CONTEXT = b"keyreel-ledger-head-1\0"
ENTRY = struct.Struct(">2sBBIQq32s")
IDENTITY, OPENED, CHUNK, HEAD = 1, 5, 6, 8
CLOCK_SLACK_US = 86_400_000_000  # stored time may be apart from the clock by which keys are made and retired
CHUNK_FIELDS = struct.Struct(">16sIHHIIqqQ32s")
OPENED_FIELDS = struct.Struct(">16s16sIIIqI32s")


class Ledger:
    """The entries of one stream, as far as a good signature covers them."""

    def __init__(self, raw: bytes, name: str, keys: list[dict[str, Any]], findings: Findings) -> None:
        self.name = name
        self.entries: dict[int, bytes] = {}  # number → whole entry
        self.signed_upto = -1
        self.signed_us = 0
        self._findings = findings
        self._follow(raw)
        self._check_head({hashlib.sha256(bytes.fromhex(one["key"])).digest(): one for one in keys})

    def _follow(self, raw: bytes) -> None:
        """Take in entries while each is the one after the one before."""
        at, before = 0, b""
        while at < len(raw):
            fixed = ENTRY.unpack_from(raw, at) if at + ENTRY.size <= len(raw) else None
            entry = raw[at : at + fixed[3]] if fixed else b""
            if fixed is None or fixed[0] != b"KL" or len(entry) != fixed[3] or len(entry) < ENTRY.size + 4:
                self._findings.add(self.name, f"no entry stands at byte {at}: it was altered or cut off")
                return
            number = fixed[4]
            if zlib.crc32(entry[:-4]) != int.from_bytes(entry[-4:], "big"):
                self._findings.add(self.name, f"entry {number} was altered")
                return
            if before and (number != self._last() + 1 or fixed[6] != hashlib.sha256(before).digest()):
                self._findings.add(self.name, f"entry {number} does not follow the one before it: altered or left out")
                return
            self.entries[number] = before = entry
            at += len(entry)

    def _last(self) -> int:
        return next(reversed(self.entries), -1)

    def _check_head(self, keys: dict[bytes, dict[str, Any]]) -> None:
        """The last signature covers all before it."""
        for number in reversed(self.entries):
            entry = self.entries[number]
            if entry[2] != HEAD:
                continue
            key, signature = keys.get(entry[ENTRY.size + 16 : ENTRY.size + 48]), entry[-68:-4]
            if key is None:
                self._findings.add(self.name, f"entry {number} is signed by a key that the manifest does not name")
            elif not ed25519_verify(bytes.fromhex(key["key"]), HEAD_CONTEXT + entry[:-68], signature):
                self._findings.add(self.name, f"the signature in entry {number} does not hold")
            elif wrong := why_not_valid(key, ENTRY.unpack_from(entry)[5]):
                self._findings.add(self.name, f"the signature in entry {number} does not count: its key {wrong}")
            else:
                self.signed_upto, self.signed_us = number - 1, ENTRY.unpack_from(entry)[5]
            return
        if self.entries:
            self._findings.add(self.name, "no entry is signed")

    def said(self, kind: int) -> Iterator[bytes]:
        """Contents of the signed entries of a kind."""
        for number, entry in self.entries.items():
            if entry[2] == kind and number <= self.signed_upto:
                yield entry[ENTRY.size : -4]

    def check_headers(self, chunks: list[dict[str, Any]]) -> None:
        """Headers of chunks are those that the recorder wrote down."""
        opened = {row[0].hex(): row for row in (OPENED_FIELDS.unpack(one) for one in self.said(OPENED))}
        for chunk in chunks:
            row = opened.get(chunk["opening"])
            if row is not None and row[7].hex() != chunk["header_sha256"]:
                self._findings.add(self.name, f"chunk {chunk['sequence']} began with another header")

    def proven(self, chunk: dict[str, Any], leaves: dict[int, bytes]) -> set[int]:
        """Numbers of the chunk's fragments that a signed root proves; `leaves` are those computed from the video."""
        found: set[int] = set()
        for proof in chunk.get("proofs", []):
            entry = self.entries.get(proof["entry"], b"")
            if not entry or entry[2] != CHUNK or proof["entry"] > self.signed_upto:
                continue
            row = CHUNK_FIELDS.unpack(entry[ENTRY.size : -4])
            numbers = range(proof["first"], proof["first"] + proof["count"])
            if row[0].hex() != chunk["opening"] or any(number not in leaves for number in numbers):
                continue
            hashes = iter([bytes.fromhex(one) for one in proof["hashes"]])
            run = iter([leaves[number] for number in numbers])
            low = proof["first"] - row[4]
            try:
                root = tree_root(0, row[5], low, low + proof["count"], hashes, run)
            except (StopIteration, RuntimeError, RecursionError):
                continue
            if root == row[9] and next(hashes, None) is None:
                found.update(numbers)
        return found

    def sequences(self) -> set[int]:
        """Chunks that the recorder stored fragments in."""
        return {CHUNK_FIELDS.unpack(content)[1] for content in self.said(CHUNK)}

    def stored(self, chunk: dict[str, Any]) -> int:
        """How many fragments of a chunk the recorder speaks of."""
        rows = (CHUNK_FIELDS.unpack(content) for content in self.said(CHUNK))
        return max((row[4] + row[5] - 1 for row in rows if row[0].hex() == chunk["opening"]), default=0)


def tree_root(low: int, high: int, first: int, end: int, outside: Iterator[bytes], run: Iterator[bytes]) -> bytes:
    """Root over leaves [low, high) of RFC 9162's tree: from `run` inside [first, end), from the proof outside."""
    if high <= first or low >= end:
        return next(outside)
    if high - low == 1:
        return next(run)
    middle = low + (1 << (high - low - 1).bit_length() - 1)
    left = tree_root(low, middle, first, end, outside, run)
    right = tree_root(middle, high, first, end, outside, run)
    return hashlib.sha256(b"\1" + left + right).digest()


def why_not_valid(key: dict[str, Any], at_us: int) -> str:
    """Why what this key signed at that time does not count; empty when it does."""
    if key["revoked_us"] and at_us >= key["revoked_us"]:
        return "was revoked before"
    if key["retired_us"] and at_us > key["retired_us"] + CLOCK_SLACK_US:
        return "was retired before"
    return "was made later" if at_us < key["made_us"] - CLOCK_SLACK_US else ""


def key_name(spki: bytes) -> str:
    """How a key is told to people: SHA-256 of its SubjectPublicKeyInfo."""
    return sha256(spki)
