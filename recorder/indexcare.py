"""The index, watched while the recorder runs: damage is found, the index made again, and what it lacks read in.

Kept true: recording never waits for any of this; an index is only replaced when two verifications agree, a sound chunk
contradicts it, or the operator asks; for what its rows or chunks say, three times an hour at most, so a fault of ours
cannot make it again without end. One thread of its own; a volume's disk that hangs holds this thread and nothing else.
Only a node's first worker does this; the others seal what was torn of their streams when all else is in the index.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from base.clock import wall_us
from base.errors import IndexDamage, KeyreelError
from base.status import IndexStatus
from chunks.volume import Volume
from index import Index
from index.expire import restore_deleted
from index.rebuild import deleted_ranges, restore_damage
from index.register import RegisterCopy, read_copy, register_path, write_copy
from index.renewal import is_worn, make_anew
from index.suspect import look, take
from index.verify import Verdict, verify_live
from recorder.committer import Committer
from recorder.startup import Past
from recorder.takein import TakeIn

LOOK_S: Final = 0.5
VERIFY_S: Final = 3600.0  # between two verifications of an index that nobody suspects
FIRST_S: Final = 300.0  # after a start, which did not wait until all of it was judged
VERIFY_WAIT_S: Final = 900.0
PATIENCE_MIN_S: Final = 5.0  # after a suspicion that proved wrong; longer each time
READER_LAG_MAX: Final = 300  # commits: about so many seconds
READERS_S: Final = 20.0  # between two looks for readers that died with a transaction
END_WAIT_S: Final = 5.0

log = structlog.get_logger("recorder.index")


class IndexCare:
    """`present` are the volumes that answer, and whether these are all."""

    def __init__(
        self,
        index: Index,
        node: bytes,
        committer: Committer,
        past: Past,
        taking: TakeIn,
        present: Callable[[], tuple[list[Volume], bool]],
        first: bool = True,
    ) -> None:
        self._index = index
        self._node = node
        self._committer = committer
        self._past = past
        self._taking = taking
        self._present = present
        self._first = first
        self._copy: RegisterCopy | None = None
        self._read: set[bytes] = set()  # volumes whose chunks are all in
        self._verify_at_s = time.monotonic()  # not before this moment, whatever is suspected
        self._rest_s = FIRST_S
        self._patience_s = PATIENCE_MIN_S
        self._readers_s = time.monotonic()
        self._retry_s = 0.0
        self._status = IndexStatus()
        self._thread = threading.Thread(target=self._watch, name="index-care", daemon=True)

    @property
    def status(self) -> IndexStatus:
        """For the status file."""
        status, taking = self._status, self._taking
        if not status.whole:
            status.chunks_done, status.chunks_total = taking.done, taking.total
            status.findings = len(taking.report.findings)
        return status

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Leave the rest to the next start."""
        self._taking.ended.set()
        self._thread.join(END_WAIT_S)

    # -- the thread's own ---------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._taking.ended.wait(LOOK_S):
            try:
                self._look()
            except Exception as error:
                known = isinstance(error, KeyreelError)
                log.error("the index cannot be looked after; it is tried again", error=str(error), exc_info=not known)
                self._retry_s = time.monotonic() + END_WAIT_S

    def _look(self) -> None:
        why = self._why_anew() if self._first else ""
        if why:
            self._renew(why)
        self._keep_register()
        if self._first and time.monotonic() - self._readers_s > READERS_S:
            self._look_at_readers()
        if self._first and time.monotonic() >= self._retry_s:
            self._read_in()
        if self._status.read_in:
            self._past.finish_tails(self._taking.ended)

    def _look_at_readers(self) -> None:
        """A reader that died with a view keeps the file growing until its place is cleared; one that hangs is told."""
        self._readers_s = time.monotonic()
        self._index.clear_dead_readers()
        self._status.reader_lag = self._index.reader_lag()
        if self._status.reader_lag > READER_LAG_MAX:
            text = "a program holds an old view of the index, which grows as long; does a disk hang?"
            log.warning(text, commits=self._status.reader_lag)

    def _why_anew(self) -> str:
        """Why the index has to be made again; "" when it has not."""
        path = self._index.path
        if not (path / "data.mdb").exists():
            return "it was removed"
        told = look(path)
        if time.monotonic() < self._verify_at_s + (self._rest_s if told is None else 0.0):
            return ""
        take(path)
        if told is not None and (told.weight == "asked" or (told.weight == "proven" and not is_worn(path))):
            return told.why
        why = self._verdict() and self._verdict()  # at first a commit may have been seen half
        self._patience_s = PATIENCE_MIN_S if why or told is None else min(2 * self._patience_s, VERIFY_S)
        self._verify_at_s, self._rest_s = time.monotonic() + self._patience_s, VERIFY_S
        if told is not None and not why:
            log.warning("the index was suspected and is sound", why=told.why, again_in_s=self._patience_s)
        return why

    def _verdict(self) -> str:
        try:
            verdict = verify_live(self._index, VERIFY_WAIT_S)
        except IndexDamage as error:
            verdict = Verdict(pages=[str(error)])
        if verdict.rows_read or verdict.pages:
            self._status.verified_us = wall_us()
        else:
            log.warning(
                "not all of the index was read before the time was over; it is tried again", after_s=VERIFY_WAIT_S
            )
        if verdict.rows and not verdict.pages and is_worn(self._index.path):
            log.error("rows of the index contradict one another, again and again", rows=verdict.rows[:3])
            return ""
        return str(verdict)

    def _renew(self, why: str) -> None:
        """Put a new index in place; the recorder's own threads find it by themselves."""
        copy = register_path(self._index.path)
        if self._copy is not None and not _readable(copy):
            write_copy(copy, self._copy)
        volumes, _ = self._present()
        make_anew(self._index.path, self._node, volumes, why, self._index)
        self._index.follow()
        self._read.clear()
        self._status.renewals += 1
        self._status.whole = self._status.read_in = False
        self._status.why, self._status.made_us = why, wall_us()
        self._retry_s = 0.0

    def _keep_register(self) -> None:
        """Know the cameras also when index and copy are both lost."""
        with self._index.read() as snapshot:
            version, self._status.whole = snapshot.register_version(), snapshot.is_whole()
            is_read_in = snapshot.is_read_in()
        if self._status.read_in and not is_read_in:
            self._read.clear()  # whoever said so lacks chunks of volumes that were read before
        self._status.read_in = is_read_in
        if self._copy is None or self._copy.version != version:
            self._copy = read_copy(register_path(self._index.path))

    def _read_in(self) -> None:
        """Until every volume that is there was read; one that comes later is read then."""
        volumes, complete = self._present()
        fresh = [volume for volume in volumes if volume.id not in self._read]
        if self._status.whole or not (fresh or complete):
            return
        if fresh:
            log.info("reading chunks into the index", volumes=len(fresh))
            if not self._taking.run(fresh):
                return
            self._read.update(volume.id for volume in fresh)
            self._past.adopt(self._taking.torn)
            log.info("chunks are in the index", report=str(self._taking.report))
        self._past.finish_tails(self._taking.ended)
        self._committer.call(partial(restore_damage, volumes=volumes)).result(END_WAIT_S)
        for record in deleted_ranges(self._index.path):
            self._committer.call(partial(restore_deleted, record=record)).result(END_WAIT_S)
        self._committer.call(lambda transaction: transaction.set_whole(complete=complete)).result(END_WAIT_S)
        log.info("the index is whole" if complete else "the index lacks what lies on volumes that are away")


def _readable(path: Path) -> bool:
    try:
        return read_copy(path) is not None
    except KeyreelError:
        return False
