"""A chunk file against what its stream's ledger says of it.

Kept true: every fragment gets one verdict: proven, altered, missing, doubtful or not covered; it counts as proven only
under a root that holds over all it covers; nothing is written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from base.errors import DamageError
from chunks.frametable import FrameTable
from chunks.reader import ChunkFile
from evidence.chain import ChunkClaim
from evidence.ledger import Chunk
from evidence.tree import root_of
from native.sha256 import leaves

BATCH = 16  # fragments in memory at a time, as many as are hashed side by side
Numbers = tuple[int, int]  # first and last fragment


@dataclass(slots=True)
class ChunkProof:
    """What a ledger proves of one chunk."""

    path: Path
    sequence: int
    fragments: int = 0
    start_us: int = 0
    end_us: int = 0
    proven: int = 0
    altered: list[Numbers] = field(default_factory=list)
    missing: list[Numbers] = field(default_factory=list)  # in the ledger, not in the file
    doubtful: list[Numbers] = field(default_factory=list)  # under a root that cannot be checked for one of the former
    not_covered: list[Numbers] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Nothing in it contradicts the ledger."""
        return not (self.altered or self.missing or self.findings)


def leaves_of(chunk: ChunkFile, table: FrameTable, after: int = 0) -> dict[int, bytes]:
    """Fragment number → leaf hash, of those above `after`; damaged ones are left out."""
    found: dict[int, bytes] = {}
    numbers = [int(number) for number in table.number]
    wanted = [i for i, number in enumerate(numbers) if number > after]
    for at in range(0, len(wanted), BATCH):
        read: list[tuple[int, bytes]] = []
        for i in wanted[at : at + BATCH]:
            try:
                read.append((numbers[i], chunk.read_fragment(i, table)))
            except DamageError:
                continue
        hashed = leaves([data for _, data in read])
        found.update(zip((number for number, _ in read), hashed, strict=True))
    return found


def prove_chunk(path: Path, claim: ChunkClaim) -> ChunkProof:
    """Read a whole chunk and hold it against the ledger; DamageError when it is no chunk at all."""
    chunk = ChunkFile(path)
    try:
        table = chunk.table()
        proof = ChunkProof(path, chunk.head.sequence, len(table), chunk.head.start_us)
        proof.end_us = int(table.end_us.max(initial=chunk.head.start_us))
        if chunk.head.opening != claim.opening:
            proof.findings.append("the file is not the chunk that was recorded: its opening is another")
            return proof
        _check_header(chunk, claim, proof)
        found = leaves_of(chunk, table)
        numbers = [int(number) for number in table.number]
    finally:
        chunk.close()
    good = _judge_roots(claim, found, proof)
    _sort(proof, numbers, good, found, claim)
    return proof


def _check_header(chunk: ChunkFile, claim: ChunkClaim, proof: ChunkProof) -> None:
    if claim.opened is None:
        return
    header = os.pread(chunk.fileno(), chunk.header_bytes, 0)
    if (len(header), sha256(header).digest()) != (claim.opened.header_bytes, claim.opened.header):
        proof.findings.append("the chunk's header is not the one that was recorded")


def _judge_roots(claim: ChunkClaim, found: dict[int, bytes], proof: ChunkProof) -> set[int]:
    """Numbers of the fragments that a root proves."""
    good: set[int] = set()
    for number, root in sorted(claim.roots, key=lambda one: one[1].first + one[1].fragments):
        run = [found.get(one) for one in _covered(root)]
        if all(one is not None for one in run) and root_of([one for one in run if one is not None]) == root.root:
            good.update(_covered(root))
        elif all(one is not None for one in run):
            proof.findings.append(f"the root of ledger entry {number} does not hold")
    return good


def _covered(root: Chunk) -> range:
    return range(root.first, root.first + root.fragments)


def _sort(proof: ChunkProof, numbers: list[int], good: set[int], found: dict[int, bytes], claim: ChunkClaim) -> None:
    """What is not proven: altered or missing; doubtful where a root fails for what is altered or missing beside it."""
    covered = {one for _, root in claim.roots for one in _covered(root)}
    here, damaged = set(numbers), {one for one in numbers if one not in found}
    unproven, lacking = (covered & here) - good, covered - here
    spoilt = unproven & damaged
    is_explained = bool(spoilt or lacking)
    proof.proven = len(good & here)
    proof.altered = _runs(spoilt if is_explained else unproven)
    proof.missing = _runs(lacking)
    proof.doubtful = _runs(unproven - spoilt if is_explained else set())
    proof.not_covered = _runs(here - covered)


def _runs(numbers: set[int]) -> list[Numbers]:
    runs: list[Numbers] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
