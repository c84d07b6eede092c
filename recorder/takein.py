"""Chunks that an index lacks are read in beside the recording, newest first, until it is whole.

Kept true: chunk files are only read; the newest ones of a stream, if they have no end, are left to who writes or
recovers them; what cannot be read costs itself alone and is told; an interruption costs nothing, as what is in is
passed over the next time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from base.errors import KeyreelError
from chunks.reader import is_unfinished
from chunks.volume import Volume
from index import Index
from index.files import ChunkPath, newest_days_first, newest_files
from index.rebuild import Read, RebuildReport, read_chunks, take_in
from recorder.committer import Committer

GROUP: Final = 128  # chunks in one transaction: the index is held from the recorder's own commits for some 40 ms
COMMIT_WAIT_S: Final = 60.0
BUSY_WAIT_S: Final = 0.05
BUSY_WAITS: Final = 20  # a second at most between two groups: it ends even on a node that is always busy
FINDINGS_MAX: Final = 100

log = structlog.get_logger("recorder.takein")


class TakeIn:
    """What is missing, read by one thread that calls `run`; figures are for status."""

    def __init__(self, index: Index, committer: Committer, busy: Callable[[], bool]) -> None:
        self._index = index
        self._committer = committer
        self._busy = busy
        self.ended = threading.Event()
        self.report = RebuildReport()
        self.torn: list[Path] = []  # without an end, and not among the newest: nobody writes them
        self.done = 0
        self.total = 0

    def run(self, volumes: list[Volume]) -> bool:
        """Read in all that these volumes hold; False when it was ended before."""
        began_s = time.monotonic()
        self.report, self.torn, self.done = RebuildReport(), [], 0
        self.total = sum(len(files) for files in newest_days_first(volumes))
        newest = {file.path for volume in volumes for files in newest_files(volume).values() for file in files}
        with ThreadPoolExecutor(1, thread_name_prefix="take-in") as pool:
            ahead = None
            for group in [*_groups(newest_days_first(volumes)), None]:
                following = pool.submit(self._read, group, newest) if group is not None else None
                if ahead is not None:
                    self._commit(ahead.result())
                ahead = following
                if self.ended.is_set():
                    return False
        self.report.seconds = time.monotonic() - began_s
        return not self.ended.is_set()

    def _read(self, group: list[ChunkPath], newest: set[Path]) -> list[Read]:
        """What the index lacks of a group; also counts what it has."""
        for _ in range(BUSY_WAITS):
            if not self._busy() or self.ended.wait(BUSY_WAIT_S):
                break
        with self._index.read() as snapshot:
            ids = {row.name: row.id for row in snapshot.streams()}
            lacking = [file for file in group if not snapshot.knows(ids.get(file.stream, 0), file.sequence)]
        self.done += len(group) - len(lacking)
        found: list[Read] = []
        for file, chunk in read_chunks(lacking):
            if isinstance(chunk, str):
                if file.path not in newest or not is_unfinished(file.path):
                    found.append((file, chunk))
            elif chunk.sealed:
                found.append((file, chunk))
            elif file.path not in newest:
                self.torn.append(file.path)
        return found

    def _commit(self, chunks: list[Read]) -> None:
        if not chunks:
            return
        try:
            findings = self._committer.call(lambda one: take_in(one, chunks, self.report)).result(COMMIT_WAIT_S)
        except (KeyreelError, TimeoutError) as error:
            log.error("chunks could not be taken in; the next start tries again", chunks=len(chunks), error=str(error))
            raise
        self.done += len(chunks)
        for finding in findings:
            log.error("a chunk is left out of the index", path=finding.where, why=finding.what)
        self.report.findings += findings[: FINDINGS_MAX - len(self.report.findings)]


def _groups(days: Iterator[list[ChunkPath]]) -> Iterator[list[ChunkPath]]:
    """The files in groups of one transaction."""
    group: list[ChunkPath] = []
    for files in days:
        for file in files:
            group.append(file)
            if len(group) == GROUP:
                yield group
                group = []
    if group:
        yield group
