"""Proving a stream's ledger: numbers, links, times and signatures of entries in order.

Kept true: nothing is believed that was not followed from the entry before, or from the first one given; a finding names
the entry; how far signatures reach is told apart from how far the chain holds. Keys come from the caller, who knows
which were valid when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from evidence.ledger import NO_HASH, Chunk, Entry, Head, Ledger, Opened, signed_bytes

# (key's fingerprint, signed bytes, signature, time of signing) → "" when it holds, else what is wrong, for people.
CheckSignature = Callable[[bytes, bytes, bytes, int], str]
FINDINGS_MAX = 1000  # after so many the rest is counted alone


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with an entry."""

    number: int
    what: str


@dataclass(slots=True)
class Proven:
    """What a ledger, or a part of one, proves."""

    ledger: Ledger | None = None
    entries: int = 0
    first: int | None = None  # numbers of the first and last entry
    last: int | None = None
    end_us: int = 0  # time of the last entry
    last_hash: bytes = NO_HASH
    heads: int = 0
    signed_upto: int = -1  # number of the last entry that a good signature covers
    signed_until_us: int = 0  # when that signature was made
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0

    @property
    def sound(self) -> bool:
        """Nothing is wrong."""
        return not self.findings

    def find(self, number: int, what: str) -> None:
        """Note what is wrong."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(number, what))
        else:
            self.more_findings += 1


def prove(entries: Iterable[Entry], check_signature: CheckSignature, proven: Proven | None = None) -> Proven:
    """Follow the chain over these entries, going on from `proven` when that is given."""
    proven = proven or Proven()
    for entry in entries:
        _link(proven, entry)
        if isinstance(entry.content, Ledger):
            _identify(proven, entry.number, entry.content)
        elif isinstance(entry.content, Head):
            _check_head(proven, entry, entry.content, check_signature)
        proven.entries += 1
        proven.last, proven.last_hash = entry.number, entry.hash
        proven.end_us = max(proven.end_us, entry.time_us)
    return proven


def _link(proven: Proven, entry: Entry) -> None:
    if proven.last is None:
        proven.first = entry.number
        if not isinstance(entry.content, Ledger):
            proven.find(entry.number, "the chain does not begin with an entry `ledger`: its beginning is missing")
        if entry.number == 0 and entry.previous != NO_HASH:
            proven.find(0, "entry 0 has an entry before it")
        return
    if entry.number != proven.last + 1:
        proven.find(entry.number, f"entry {proven.last + 1} should stand here: entries were left out or moved")
    if entry.previous != proven.last_hash:
        proven.find(entry.number, "the entry before is not the one that was there: it was changed or replaced")
    if entry.time_us < proven.end_us:
        proven.find(entry.number, f"time goes back by {proven.end_us - entry.time_us} µs")


def _identify(proven: Proven, number: int, said: Ledger) -> None:
    known, proven.ledger = proven.ledger, proven.ledger or said
    if known is not None and (known.ledger, known.node, known.stream_id) != (said.ledger, said.node, said.stream_id):
        proven.find(number, f"another ledger goes on here: {said.stream} of node {said.node.hex()}")


def _check_head(proven: Proven, entry: Entry, head: Head, check_signature: CheckSignature) -> None:
    proven.heads += 1
    if proven.ledger is not None and head.ledger != proven.ledger.ledger:
        proven.find(entry.number, "the signature is on another ledger")
        return
    wrong = check_signature(head.key, signed_bytes(entry.raw), head.signature, entry.time_us)
    if wrong:
        proven.find(entry.number, wrong)
    elif proven.sound:
        proven.signed_upto, proven.signed_until_us = entry.number - 1, entry.time_us


@dataclass(slots=True)
class ChunkClaim:
    """All that a ledger says of one chunk: its beginning, and the roots over its fragments."""

    sequence: int
    opening: bytes
    opened: Opened | None = None
    opened_number: int = -1  # of its entry
    roots: list[tuple[int, Chunk]] = field(default_factory=list)  # with the entry's number

    def signed(self, upto: int) -> ChunkClaim:
        """What of it stands in entries up to this number: of a chain that is signed so far, what is to be believed."""
        is_signed = 0 <= self.opened_number <= upto
        roots = [(number, root) for number, root in self.roots if number <= upto]
        return replace(
            self, opened=self.opened if is_signed else None, opened_number=self.opened_number if is_signed else -1,
            roots=roots,
        )  # fmt: skip

    @property
    def covered(self) -> int:
        """Fragments 1 to this one are under a root."""
        upto = 0
        for _, root in sorted(self.roots, key=lambda one: one[1].first):
            if root.first > upto + 1:
                break
            upto = max(upto, root.first + root.fragments - 1)
        return upto


def claims(entries: Iterable[Entry], found: dict[bytes, ChunkClaim] | None = None) -> dict[bytes, ChunkClaim]:
    """What a chain says of its chunks, by opening, in the order in which they were first named; added to `found`."""
    found = {} if found is None else found
    for entry in entries:
        said = entry.content
        if isinstance(said, Opened | Chunk):
            claim = found.setdefault(said.opening, ChunkClaim(said.sequence, said.opening))
            if isinstance(said, Opened):
                claim.opened, claim.opened_number = said, entry.number
            else:
                claim.roots.append((entry.number, said))
    return found
