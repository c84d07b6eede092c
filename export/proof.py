"""What the recorder's ledger proves of an exported stream: the entries, and for each chunk the way to a signed root.

Kept true: entries go into the package byte for byte and without a hole, up to a signature; a proof is given only for
fragments whose hashes were computed from what is on disk now; a ledger that cannot be read proves nothing, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from base.errors import DamageError, FormatError, NotFound
from clips.plan import ClipPlan
from clips.store import ChunkStore, OpenChunk
from evidence.chain import claims
from evidence.files import extract
from evidence.ledger import Chunk, Entry, Kind
from evidence.tree import leaf_hash, run_proof

Leaves = dict[int, dict[int, bytes]]  # chunk → fragment → leaf, of what is exported
Numbers = tuple[int, int]


class LedgerPart:
    """The part of a stream's ledger that speaks of a plan's chunks; without one `raw` is empty and `note` says why."""

    def __init__(self, folder: Path, plan: ClipPlan) -> None:
        self._plan = plan
        self._entries: list[Entry] = []
        self.note = ""
        try:
            entries = extract(folder, plan.pieces[0].chunk.row.start_us, plan.end_us)
        except (NotFound, DamageError, FormatError, OSError) as error:
            self.note = str(error)
        else:
            signed = max((i for i, entry in enumerate(entries) if entry.kind == Kind.HEAD), default=-1)
            self._entries = entries[: signed + 1]
            self.note = "" if self._entries else "the ledger is not signed yet"
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
