"""Chunks that an earlier life left without a last word in their ledger: read again, so that they are covered.

Kept true: only sealed files of before this life are read, and only fragments that no root covers; whatever may block on
a volume's disk is done in this thread, so a disk that hangs holds up this alone; a chunk whose volume is away is waited
for.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import structlog

from base.errors import KeyreelError
from base.units import utc
from chunks.frametable import FrameTable
from chunks.path import chunk_path
from chunks.reader import ChunkFile
from evidence.journal import Unfinished
from evidence.ledger import Chunk, ChunkState, Content, Opened
from evidence.proof import leaves_of
from evidence.tree import EMPTY_ROOT, root_of

LOOK_S: Final = 2.0
SOUGHT_MAX: Final = 100_000

log = structlog.get_logger("recorder.ledgers")


@dataclass(frozen=True, slots=True)
class Sought:
    """A stream whose last chunk of an earlier life is to be looked at."""

    stream_id: int
    name: str
    unfinished: Unfinished


class Finder:
    """The thread; started by the first thing to seek, and ended when there is nothing more."""

    def __init__(
        self,
        roots: Callable[[], Mapping[bytes, Path]],
        before_us: int,
        on_found: Callable[[Sought, list[Content]], None],
    ) -> None:
        self._roots = roots
        self._before_us = before_us
        self._on_found = on_found
        self._sought: deque[Sought] = deque(maxlen=SOUGHT_MAX)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def seek(self, sought: Sought) -> None:
        """Look for it until it was found or is gone."""
        self._sought.append(sought)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ledger-finder", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Look no more; a thread that hangs is left behind."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            for _ in range(len(self._sought)):
                sought = self._sought.popleft()
                try:
                    if self._ended.is_set() or not self._look(sought):
                        self._sought.append(sought)
                except (OSError, KeyreelError) as error:
                    log.error("a chunk cannot be read for its ledger; it stays not covered", stream=sought.name,
                              error=str(error))  # fmt: skip
                except Exception:
                    log.exception("looking for a ledger's chunk failed unexpectedly", stream=sought.name)

    def _look(self, sought: Sought) -> bool:
        """True when there is nothing more to wait for."""
        opened, covered = sought.unfinished.opened, sought.unfinished.covered
        contents: list[Content] = []
        if covered >= 0:
            root = self._roots().get(opened.volume)
            if root is None:
                return True
            path = chunk_path(root, sought.name, opened.start_us, opened.sequence)
            if path.exists():
                found = self._read(path, opened.opening, covered)
                if found is None:
                    return False
                contents += found
            elif not root.is_dir() or not any(root.iterdir()):
                return False
        for path in self._later(sought.name, opened):
            found = self._read(path, None, 0)
            if found is None:
                return False
            contents += found
        if contents:
            self._on_found(sought, contents)
        return True

    def _later(self, name: str, opened: Opened) -> list[Path]:
        """Chunks after the last that the ledger knows, of before this life, in their order."""
        found: dict[int, Path] = {}
        day = utc(opened.start_us).strftime("%Y-%m-%d")
        for root in self._roots().values():
            folder = root / name
            for one in sorted(os.listdir(folder)) if folder.is_dir() else []:
                for path in (folder / one).glob("*.mp4") if one >= day else []:
                    number = path.stem.rpartition("-")[2]
                    if number.isdecimal() and int(number) > opened.sequence:
                        found[int(number)] = path
        return [found[number] for number in sorted(found)]

    def _read(self, path: Path, opening: bytes | None, covered: int) -> list[Content] | None:
        """Entries for what no root covers of a file; None while it is not sealed, nothing for one of this life."""
        chunk = ChunkFile(path)
        try:
            head = chunk.head
            if opening not in (None, head.opening) or head.start_us >= self._before_us:
                return []
            if not chunk.sealed:
                return None
            os.fdatasync(chunk.fileno())
            contents: list[Content] = []
            if opening is None:
                header = os.pread(chunk.fileno(), chunk.header_bytes, 0)
                contents.append(Opened(
                    head.opening, head.volume, head.sequence, head.epoch, head.run, head.start_us, len(header),
                    sha256(header).digest(),
                ))  # fmt: skip
            table = chunk.table()
            runs = _roots_over(chunk, table, leaves_of(chunk, table, covered))
            return contents + (runs or [_nothing_more(chunk, table, covered)])
        finally:
            chunk.close()


def _nothing_more(chunk: ChunkFile, table: FrameTable, covered: int) -> Content:
    """The last word on a chunk of which everything is under a root already."""
    end_us = int(table.end_us.max(initial=chunk.head.start_us))
    opening, sequence = chunk.head.opening, chunk.head.sequence
    return Chunk(opening, sequence, ChunkState.FOUND, covered + 1, 0, chunk.head.start_us, end_us, 0, EMPTY_ROOT)


def _roots_over(chunk: ChunkFile, table: FrameTable, leaves: dict[int, bytes]) -> list[Content]:
    """An entry for each unbroken run of fragments."""
    place = {int(number): i for i, number in enumerate(table.number)}
    runs: list[list[int]] = []
    for number in sorted(leaves):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [
        Chunk(
            chunk.head.opening, chunk.head.sequence, ChunkState.FOUND, run[0], len(run),
            int(table.wall_us[place[run[0]]]), int(table.end_us[place[run[-1]]]),
            sum(int(table.length[place[number]]) for number in run), root_of([leaves[number] for number in run]),
        )
        for run in runs
    ]  # fmt: skip
