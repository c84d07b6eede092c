"""What the recorder's ledger proves of an exported stream: the entries, and for each chunk the way to a signed root.

Kept true: entries go into the package byte for byte and without a hole, up to a signature; a proof is given only for
fragments whose hashes were computed from what is on disk now; a ledger that cannot be read proves nothing, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from base.errors import DamageError, FormatError
from clips.plan import ClipPlan
from clips.store import ChunkStore, OpenChunk
from evidence.chain import claims
from evidence.ledger import Chunk, Entry, Kind, read_entries
from evidence.tree import leaf_hash, run_proof

ENTRIES_BYTES_MAX: Final = 128 << 20  # of one stream in one package: a week has less than 10 MiB
Leaves = dict[int, dict[int, bytes]]  # chunk → fragment → leaf, of what is exported
Numbers = tuple[int, int]


class LedgerPart:
    """The part of a stream's ledger that speaks of a plan's chunks; `raw` is empty when there is none."""

    def __init__(self, folder: Path, plan: ClipPlan) -> None:
        self._plan = plan
        openings = {piece.chunk.file.head.opening for piece in plan.pieces}
        self._entries = list(_needed(folder, openings))
        self.raw = b"".join(entry.raw for entry in self._entries)

    def add_to(self, chunks: list[dict[str, Any]], leaves: Leaves) -> None:
        """Give each chunk of the manifest its proofs."""
        said = claims(self._entries)
        opened = {piece.chunk.row.sequence: piece.chunk for piece in self._plan.pieces}
        for document in chunks:
            chunk = opened[document["sequence"]]
            claim = said.get(chunk.file.head.opening)
            if claim is not None:
                here = leaves[document["sequence"]]
                document["proofs"] = list(_proofs(self._plan.store, chunk, here, claim.roots))


def _needed(folder: Path, openings: set[bytes]) -> Iterator[Entry]:
    """From the beginning of the file that first speaks of a chunk, to the first signature behind all that do."""
    entries: list[Entry] = []
    last = -1  # place of the last that is needed
    size = 0
    for path in sorted(folder.glob("*.ledger")) if folder.is_dir() else ():
        if last < 0:
            entries.clear()
            size = 0
        for entry in _read(path):
            if entries and entry.number != entries[-1].number + 1:  # a hole in the files: the rest proves nothing
                break
            entries.append(entry)
            size += len(entry.raw)
            if getattr(entry.content, "opening", None) in openings:
                last = len(entries) - 1
        if last >= 0 and size > ENTRIES_BYTES_MAX:
            break
    heads = [i for i, entry in enumerate(entries) if entry.kind == Kind.HEAD]
    signed = next((i for i in heads if i > last), heads[-1] if heads else -1) if last >= 0 else -1
    yield from entries[: signed + 1]


def _read(path: Path) -> list[Entry]:
    """The whole entries of a file, up to one that cannot be read."""
    found: list[Entry] = []
    try:
        for entry in read_entries(path.read_bytes()):
            found.append(entry)
    except (DamageError, FormatError, OSError):
        pass
    return found


def _proofs(
    store: ChunkStore, chunk: OpenChunk, here: dict[int, bytes], roots: list[tuple[int, Chunk]]
) -> Iterator[dict[str, Any]]:
    """For each run of exported fragments, the roots that cover it and what leads to them."""
    others: dict[int, bytes] = {}
    place = {int(number): i for i, number in enumerate(chunk.table.number)}
    for first, last in _runs(sorted(here)):
        at = first
        while at <= last:
            covering = [(n, root) for n, root in roots if root.first <= at < root.first + root.fragments]
            if not covering:
                at += 1
                continue
            number, root = min(covering, key=lambda one: (-min(last, _end(one[1])), one[1].fragments))
            end = min(last, _end(root))
            try:
                leaves = [
                    here.get(n) or others.get(n) or others.setdefault(n, _leaf(store, chunk, place[n]))
                    for n in range(root.first, root.first + root.fragments)
                ]
                hashes = run_proof(leaves, at - root.first, end - at + 1)
                yield {"entry": number, "first": at, "count": end - at + 1, "hashes": [one.hex() for one in hashes]}
            except (KeyError, DamageError):  # what is damaged or gone beside them takes their proof with it
                pass
            at = end + 1


def _leaf(store: ChunkStore, chunk: OpenChunk, i: int) -> bytes:
    return leaf_hash(store.fragment(chunk, i))


def _end(root: Chunk) -> int:
    return root.first + root.fragments - 1


def _runs(numbers: list[int]) -> Iterator[Numbers]:
    """Runs of consecutive numbers."""
    for _, run in groupby(enumerate(numbers), key=lambda one: one[1] - one[0]):
        found = [number for _, number in run]
        yield found[0], found[-1]
