"""Is an index safe to open: its pages, then its rows, judged in a process of their own.

Kept true: what is judged is never opened by the engine in the process that asks, so no damage ends that process; the
pages are walked by plain Python, and only when they are sound does the engine read the rows; what dies on them is
damaged. Nothing is changed. An index that is written to meanwhile is judged in slices, so that no snapshot of it is
held for longer than one (`pagewalk`), by a process that gives way to all others. LMDB's pages have no checksums: what
passes here may still be wrong in a value, which is why every hit is checked against its chunk.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from base.errors import KeyreelError
from base.priority import IDLE, give_way_at_disk
from index.environment import Index
from index.pagewalk import FINDINGS_MAX, SLICE_S, walk, walk_at_rest

NICE: Final = 10  # beside processes that take all they can get, a tenth of a core is left for this
_BEGUN: Final = b"begun\n"
_NEXT: Final = b"next\n"


class Verdict(msgspec.Struct, kw_only=True):
    """What was found; `rows_read` is false when time ran out before the last row."""

    pages: list[str] = []
    rows: list[str] = []
    rows_read: bool = False
    slices: int = 0  # in which the pages were walked
    held_s: float = 0.0  # the longest that a snapshot was held for them

    def __str__(self) -> str:
        return "; ".join([*self.pages, *self.rows][:3])


class _Snapshots:
    """Those that are held for a walk: one, and for a moment the next one beside it."""

    def __init__(self, index: Index, slice_s: float) -> None:
        self.slice_s = slice_s
        self.longest_s = 0.0
        self._index = index
        self._held: deque[tuple[float, ExitStack]] = deque()

    def take(self) -> None:
        stack = ExitStack()
        stack.enter_context(self._index.read())
        self._held.append((time.monotonic(), stack))

    def leave(self, but: int = 0) -> None:
        """Let the older ones go."""
        while len(self._held) > but:
            since_s, stack = self._held.popleft()
            stack.close()
            self.longest_s = max(self.longest_s, time.monotonic() - since_s)


def verify(path: Path, timeout_s: float) -> Verdict:
    """The verdict on an index folder that nobody writes to, as far as it is known after `timeout_s`."""
    return _ask_child(path, timeout_s, None)


def verify_live(index: Index, timeout_s: float, slice_s: float = SLICE_S) -> Verdict:
    """The same of an open index that may be written to."""
    snapshots = _Snapshots(index, slice_s)
    try:
        snapshots.take()
        return _ask_child(index.path, timeout_s, snapshots)
    finally:
        snapshots.leave()


def _ask_child(path: Path, timeout_s: float, snapshots: _Snapshots | None) -> Verdict:
    command = [sys.executable, "-P", "-m", "index.verify", str(path)]
    if snapshots is not None:
        command.append(str(snapshots.slice_s))
    late = threading.Event()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:

        def stop() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(timeout_s, stop)
        timer.start()
        try:
            found = _talk(child, snapshots)
            assert child.stderr is not None
            error = child.stderr.read()
        finally:
            timer.cancel()
    if child.returncode and not late.is_set() and not found.pages:
        last = error.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"code {child.returncode}"]
        found.pages = [f"reading it ended a process: {last[0][:200]}"]
    return found


def _talk(child: subprocess.Popen[bytes], snapshots: _Snapshots | None) -> Verdict:
    """Give the child the snapshots it needs; its last word."""
    assert child.stdin is not None
    assert child.stdout is not None
    found, slices = Verdict(), 0
    for line in child.stdout:
        if snapshots is None or line not in (_BEGUN, _NEXT):
            found = msgspec.json.decode(line, type=Verdict)
            if snapshots is not None:  # of the pages, or of the rows, which the child reads by snapshots of its own
                snapshots.leave()
                found.slices, found.held_s = slices, snapshots.longest_s
        elif line == _BEGUN:
            slices += 1
            snapshots.leave(but=1)
        else:
            snapshots.take()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(b"\n")
                child.stdin.flush()
    return found


# -- the child ---------------------------------------------------------------------------------------------------------


def _judge(path: Path, slice_s: float | None = None) -> None:
    """One line when the pages are known, another when the rows are; before, of a live index, two for each slice."""
    from index.rowcheck import check_rows

    if slice_s is not None:
        _give_way()
        found = Verdict(pages=walk(path, lambda: _say(_BEGUN), _ask_next, slice_s))
    else:
        found = Verdict(pages=walk_at_rest(path))
    _tell(found)
    if found.pages:
        return
    try:
        with Index.open(path, readonly=True) as index:
            found.rows = [f"{one.where}: {one.what}" for one in check_rows(index)][:FINDINGS_MAX]
    except (KeyreelError, ValueError, OverflowError) as error:
        found.rows = [str(error)]
    found.rows_read = True
    _tell(found)


def _give_way() -> None:
    """Compute and read when nobody else wants to."""
    os.nice(NICE)
    give_way_at_disk(IDLE)


def _ask_next() -> None:
    """Wait until another snapshot is held."""
    _say(_NEXT)
    if not sys.stdin.buffer.readline():
        sys.exit(1)  # who asked has ended


def _tell(verdict: Verdict) -> None:
    _say(msgspec.json.encode(verdict) + b"\n")


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.flush()


if __name__ == "__main__":
    _judge(Path(sys.argv[1]), *map(float, sys.argv[2:]))
