"""The hash tree over a chunk's fragments: RFC 9162, section 2.1, with SHA-256 (docs/format/ledger.md).

Kept true: leaves and inner nodes can never be taken for each other (first byte 0x00 or 0x01); a tree that grows keeps
one hash per bit of its size; a proof for any run of leaves is at most two hashes per level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256().digest()


def leaf_hash(fragment: bytes | memoryview) -> bytes:
    """Of a fragment's exact bytes, from `prft` to the end of its seal."""
    digest = sha256(b"\0")
    digest.update(fragment)
    return digest.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Of an inner node."""
    return sha256(b"\1" + left + right).digest()


class GrowingTree:
    """The head of a tree that gets leaf after leaf, in memory of one hash per level."""

    __slots__ = ("_peaks", "count")

    def __init__(self) -> None:
        self.count = 0
        self._peaks: list[bytes] = []  # roots of the full subtrees, the greatest first

    def add(self, leaf: bytes) -> None:
        """Append one leaf."""
        size = self.count
        while size & 1:
            leaf = node_hash(self._peaks.pop(), leaf)
            size >>= 1
        self._peaks.append(leaf)
        self.count += 1

    def root(self) -> bytes:
        """Over all leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        head = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            head = node_hash(peak, head)
        return head


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Tree head over these leaf hashes."""
    tree = GrowingTree()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


def run_proof(leaves: Sequence[bytes], first: int, count: int) -> list[bytes]:
    """What proves leaves [first, first + count) to be in the tree over `leaves`; `first` counts from 0."""
    if not 0 <= first < first + count <= len(leaves):
        raise ValueError(f"leaves {first} to {first + count} are not in a tree of {len(leaves)}")
    proof: list[bytes] = []

    def outside(low: int, high: int) -> bytes:
        proof.append(root_of(leaves[low:high]))
        return proof[-1]

    _root(0, len(leaves), first, first + count, outside, iter(leaves[first : first + count]))
    return proof


def root_from_run(run: Sequence[bytes], first: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The head of a tree of `size` leaves by a run of its leaves and their proof; ValueError for what is no proof."""
    if not 0 <= first < first + len(run) <= size:
        raise ValueError(f"a run of {len(run)} leaves from {first} on does not fit a tree of {size}")
    left = iter(proof)
    try:
        head = _root(0, size, first, first + len(run), lambda low, high: next(left), iter(run))
    except StopIteration:
        raise ValueError("the proof is too short") from None
    if next(left, None) is not None:
        raise ValueError("the proof is too long")
    return head


def _root(
    low: int, high: int, first: int, end: int, outside: Callable[[int, int], bytes], run: Iterator[bytes]
) -> bytes:
    """Head of the subtree over leaves [low, high): from `run` where these are in [first, end), else from `outside`."""
    if high <= first or low >= end:
        return outside(low, high)
    if high - low == 1:
        return next(run)
    middle = low + (1 << (high - low - 1).bit_length() - 1)
    left = _root(low, middle, first, end, outside, run)
    return node_hash(left, _root(middle, high, first, end, outside, run))
