"""All pages of an index, judged in slices of time while others write to it; the verdict is that on one moment.

Kept true: a slice looks at one snapshot, for some `SLICE_S`; the last slice looks at all of the index, so what is found
is what a walk at rest would find; who calls holds a snapshot at least as old as the slice's, and takes the next one
before it lets this one go.

LMDB writes no page anew that a snapshot shows. So while snapshots overlap, a page that is in use in both is the same,
with all that lies below it: a changed page gets another number, and so do those above it. What one slice found sound
need not be read by the next if it is still there. That is decided where a branch has leaves alone, some 180 of them; a
slice whose time is over still looks which of them are there, as a page that one slice has not seen may be another in
the next.
"""

from __future__ import annotations

import os
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from lmdb import verify as pages

SLICE_S: Final = 20.0
FINDINGS_MAX: Final = 20

Context = dict[str, Any]
_NODE_HEAD_BYTES: Final = 8  # the key's size is last
_COUNTS: Final = ("branch", "leaf", "overflow", "entries")


class _Sound(NamedTuple):
    """A branch page and its leaves, as they were counted."""

    pages: array[int]  # below it
    counts: tuple[int, ...]
    first_key: bytes
    last_key: bytes


class _Over(Exception):
    """The slice's time, before all was seen."""


Known = dict[tuple[str, int], _Sound]
_Verifier: Any = pages._Verifier  # has no types


class _Slice(_Verifier):  # type: ignore[misc]
    """One walk, which passes over what is known to be sound; `sound` is what is so at its moment."""

    def __init__(self, file: BinaryIO, size: int, known: Known, until_s: float, begun: Callable[[], None]) -> None:
        super().__init__(file, size)
        self.sound: Known = {}
        self.found: list[str] | None = None  # when the time was over
        self._known = known
        self._until_s = until_s
        self._begun = begun
        self._marked: list[int] = []
        self._first_key: bytes | None = None  # of the leaves since a branch began
        self._learnt = False

    def load_metas(self) -> None:
        super().load_metas()
        self._begun()

    def verify(self) -> list[str]:
        found: list[str] = super().verify()
        if self.found is not None:
            raise _Over
        return found

    def _is_over(self) -> bool:
        if self.found is None and self._learnt and time.monotonic() >= self._until_s:
            self.found = list(self.errors)
        return self.found is not None

    def _mark_live(self, pgno: int, what: str) -> bool:
        self._marked.append(pgno)
        return bool(super()._mark_live(pgno, what))

    def _walk_page(self, ctx: Context, pgno: int, depth: int) -> None:
        key = ctx["name"], pgno
        known = self._known.get(key)
        if known is None or (ctx["last_key"] is not None and ctx["key_cmp"](known.first_key, ctx["last_key"]) <= 0):
            holds_none = ctx["is_free"] or depth >= max(ctx["db"].depth - 1, 1)
            if not (self._is_over() and holds_none and ctx["name"] != "main"):
                super()._walk_page(ctx, pgno, depth)
            return
        if not super()._mark_live(pgno, f"{ctx['name']} DB"):
            return
        for below in known.pages:
            super()._mark_live(below, f"{ctx['name']} DB")
        for name, count in zip(_COUNTS, known.counts, strict=True):
            ctx[name] += count
        ctx["maxdepth"] = max(ctx["maxdepth"], depth + 1)
        ctx["last_key"] = known.last_key
        self.sound[key] = known

    def _walk_branch(self, ctx: Context, pgno: int, buf: bytes, depth: int) -> None:
        at, errors, named = len(self._marked), len(self.errors), len(ctx["named_subtrees"])
        before, dups = [ctx[name] for name in _COUNTS], ctx["dup_leaf"]
        self._first_key = None
        super()._walk_branch(ctx, pgno, buf, depth)
        counts = [ctx[name] - was for name, was in zip(_COUNTS, before, strict=True)]
        first_key, is_sound = self._first_key, len(self.errors) == errors and self.found is None
        is_plain = not ctx["is_free"] and len(ctx["named_subtrees"]) == named and ctx["dup_leaf"] == dups
        has_leaves_alone = counts[0] == 0 and ctx["maxdepth"] == depth + 1
        if is_sound and is_plain and has_leaves_alone and first_key is not None:
            below, counted = array("Q", self._marked[at:]), (1, *counts[1:])
            self.sound[ctx["name"], pgno] = _Sound(below, counted, first_key, ctx["last_key"])
            self._learnt = True
        del self._marked[at:]

    def _walk_leaf(self, ctx: Context, pgno: int, buf: bytes) -> None:
        if self._first_key is None and self._numkeys(self._pg_lower(buf, 0)) > 0:
            at = self._node_off(buf, 0, 0) + _NODE_HEAD_BYTES
            size = int.from_bytes(buf[at - 2 : at], sys.byteorder)
            self._first_key = buf[at : at + size]  # of a page that is damaged anything: such a branch is not kept
        super()._walk_leaf(ctx, pgno, buf)


def walk_at_rest(path: Path) -> list[str]:
    """What is wrong with the pages of an index folder that nobody writes to, or of which one snapshot is held."""
    try:
        found: list[str] = pages.verify(str(path))  # type: ignore[no-untyped-call]
        return found[:FINDINGS_MAX]
    except Exception as error:  # whatever stops a walk is damage
        return [str(error) or repr(error)]


def walk(path: Path, begun: Callable[[], None], following: Callable[[], None], slice_s: float = SLICE_S) -> list[str]:
    """The same while it is written to.

    `begun` is called when a slice has seen its moment: what is held besides the newest snapshot may go. `following` is
    called before the next slice, and comes back when one more is held.
    """
    known: Known = {}
    place = (0, 0)
    while True:
        with (path / "data.mdb").open("rb") as file:
            stat = os.fstat(file.fileno())
            if (stat.st_dev, stat.st_ino) != place:  # another index was put there
                known, place = {}, (stat.st_dev, stat.st_ino)
            one: Any = _Slice(file, stat.st_size, known, time.monotonic() + slice_s, begun)
            try:
                found = one.verify()
            except _Over:
                found, known = one.found, one.sound
                if not found:
                    following()
                    continue
            except Exception as error:  # whatever stops a walk is damage
                return [str(error) or repr(error)]
        return [str(error) for error in found[:FINDINGS_MAX]]
