"""One volume's deletions: a thread that chooses, condemns, waits out the grace, and unlinks.

Kept true: whatever may block on the volume's disk is done in this thread, so a hung disk holds up its own deletions and
no others; a file goes only after its chunk was doomed in the index and its deletion record was synced, and only from
the directory that proved to be the volume; who had found a chunk before it was condemned reads it to the end; when
something needed to judge is not to be trusted (clock, index, volume, free space) nothing goes, and it is said why.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from base.errors import DamageError, KeyreelError, VolumeError
from base.leases import leases
from chunks.path import chunk_path
from chunks.reader import read_footer, read_header
from chunks.volume import Volume
from index import ChunkRow, Transaction
from index.deletions import Deletion
from index.expire import Condemned, Rule, condemn, covers, doom, forget, garbage, rescue
from index.holds import held_ranges
from recorder.keeper import Keeper
from recorder.overload import FIRST_FILL
from recorder.policy import Choice, Need, Victim, choose
from recorder.slot import ROOM_BYTES, Slot

LOOK_S: Final = 0.5  # between two looks at the room
PASS_S: Final = 30.0  # between two looks at age and limits of bytes, when room is not short
BATCH: Final = 64  # chunks in one transaction: some 150 kB of rows
NOTHING_S: Final = 3.0  # and when room is short and nothing may go
URGENT_GRACE_S: Final = 0.2  # when the volume is full; leases are waited for all the same
AHEAD_S: Final = 30.0  # room is made for so long ahead, at the rate that comes in
AHEAD_BYTES_MIN: Final = 64 << 20
AGED_BYTES_MIN: Final = 256 << 20  # may always go at once for their age; else what may go in an hour
SCARCITY_MAX: Final = 0.95  # streams of high priority record until the volume is full
FILES_MIN: Final = 64  # inodes left
QUOTA_PAUSE_S: Final = 2.0  # a volume that is full although it has room, as under a quota, is relieved in steps

log = structlog.get_logger("recorder.retention")


@dataclass(slots=True)
class Purged:
    """What a volume's thread tells of itself; replaced or counted up by that thread alone."""

    paused: str = ""  # short stable word: clock (for age alone), index, volume, free-space, fault
    detail: str = ""
    floor_bytes: int = 0
    short_bytes: int = 0  # what no rule gives although it is needed
    waiting: int = 0  # chunks that are condemned
    deleted_chunks: int = 0
    deleted_bytes: int = 0
    held_back: bool = False  # more is too old than may go at once


@dataclass(slots=True)
class _Wait:
    """Why a condemned chunk's file stays for now: until when, and for whom."""

    since_s: float
    readers: frozenset[str] = field(default_factory=frozenset)


class Purger:
    """The thread of one volume."""

    def __init__(self, slot: Slot, keeper: Keeper) -> None:
        self.slot = slot
        self.told = Purged()
        self.wake = threading.Event()
        self._keeper = keeper
        self._ended = threading.Event()
        self._waits: dict[tuple[int, int], _Wait] = {}
        self._refused: set[tuple[int, int]] = set()
        self._next_pass_s = self._next_need_s = 0.0
        self._quota_s = 0.0
        self._aged_left = float(AGED_BYTES_MIN)  # that may go for their age now
        self._aged_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"purge {slot.path}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self, wait_s: float = 0.0) -> None:
        """Delete no more; a thread that hangs is left behind."""
        self._ended.set()
        self.wake.set()
        if wait_s and self._thread.is_alive():
            self._thread.join(wait_s)

    # -- the thread's own ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.step()
            except (KeyreelError, OSError) as error:
                self._pause(_word(error), str(error))
            except Exception as error:  # a fault of ours must not end it in silence
                log.exception("deleting failed unexpectedly", volume=str(self.slot.path))
                self._pause("fault", repr(error))
            self.wake.wait(LOOK_S)
            self.wake.clear()

    def step(self) -> None:
        """One look: finish what is condemned, choose what is to go next."""
        word, detail = self._distrust()
        if word:
            self._pause(word, detail)
            return
        stats = os.statvfs(self.slot.path)
        total, free = stats.f_blocks * stats.f_frsize, stats.f_bavail * stats.f_frsize
        if total <= 0:
            self._pause("free-space", f"{self.slot.path} does not tell its size")
            return
        self.told.floor_bytes = floor = self._keeper.floor_bytes(self.slot.path, total)
        freeing = self._finish(urgent=free < floor // 2 or self.slot.reason == "enospc")
        need = self._need(stats, total, free + freeing, floor)
        is_reading_in = self._keeper.is_reading_in()
        if is_reading_in:
            self._tell_short(Choice(short=need))
        else:
            self._look(need)
        self._tell_scarcity(free, floor, coming=freeing > 0 or self.wake.is_set())
        if is_reading_in:
            self._pause("index", "chunks are still being read into the index; which is the oldest is not yet known")
        elif detail := self._keeper.clock_distrust():
            self._pause("clock", detail)
        else:
            self._resume()

    def _look(self, need: Need) -> None:
        """Choose and condemn, when it is time for it."""
        now_s = time.monotonic()
        if need == Need():
            self.told.short_bytes = 0
        if now_s >= self._next_pass_s or (need != Need() and now_s >= self._next_need_s):
            choice = self._choose(need)
            self._tell_short(choice)
            if choice.victims and self._condemn(choice.victims):
                self.wake.set()
            else:
                self._next_pass_s, self._next_need_s = now_s + PASS_S, now_s + NOTHING_S

    def _distrust(self) -> tuple[str, str]:
        if self.slot.reason not in ("", "enospc"):
            return "volume", f"{self.slot.path} is {self.slot.state}: {self.slot.reason}"
        return self._keeper.distrust(full=self.slot.reason == "enospc")

    def _pause(self, word: str, detail: str) -> None:
        if word != self.told.paused:
            log.warning("deleting pauses", volume=str(self.slot.path), reason=word, detail=detail)
        self.told.paused, self.told.detail = word, detail

    def _resume(self) -> None:
        if self.told.paused:
            log.info("deleting goes on", volume=str(self.slot.path))
        self.told.paused = self.told.detail = ""

    def _need(self, stats: os.statvfs_result, total: int, free: int, floor: int) -> Need:
        """What is lacking to the floor and for what comes in meanwhile; `free` counts what is being freed."""
        rate = self._keeper.facts.rate_on(self.slot.id)
        ahead = min(max(round(rate * AHEAD_S), AHEAD_BYTES_MIN), total // 50)
        lack = floor + ahead - free if free < floor + ahead // 2 else 0
        files = FILES_MIN - stats.f_favail if stats.f_files > 0 and stats.f_favail < FILES_MIN else 0
        files = max(0, files - self.told.waiting)
        if lack <= 0 and not files and self.slot.reason == "enospc" and time.monotonic() >= self._quota_s:
            self._quota_s = time.monotonic() + QUOTA_PAUSE_S
            lack = min(ROOM_BYTES, total // 20)
        return Need(max(lack, 0), files)

    # -- choosing -----------------------------------------------------------------------------------------------------

    def _choose(self, need: Need) -> Choice:
        now_us = self._keeper.now_us()
        rate = max(self._keeper.aged_rate(self.slot.id), 1.0)
        now_s = time.monotonic()
        most = max(rate * 3600, AGED_BYTES_MIN)
        self._aged_left = min(self._aged_left + rate * (now_s - self._aged_s), most)
        self._aged_s = now_s
        with self._keeper.index.read() as snapshot:
            lines, groups = self._keeper.lines(snapshot, self.slot.id, everything=need != Need())
            choice = choose(
                lines, now_us=now_us, need=need, groups=groups, below_min=self._keeper.below_min,
                ages_known=not self._keeper.clock_distrust(), aged_max=max(round(self._aged_left), 0), most=BATCH,
            )  # fmt: skip
        self._aged_left -= sum(victim.chunk.size for victim in choice.victims if victim.rule is Rule.DAYS_MAX)
        return choice

    def _tell_short(self, choice: Choice) -> None:
        short = choice.short.bytes
        if short and not self.told.short_bytes:
            log.error("a volume is short of room, and nothing on it may go", volume=str(self.slot.path), bytes=short)
        self.told.short_bytes, self.told.held_back = short, choice.held_back

    def _tell_scarcity(self, free: int, floor: int, *, coming: bool) -> None:
        """Where nothing may go and no room is coming, streams give way by rank while the rest of it is used up."""
        writer = self.slot.writer
        if writer is not None:
            is_scarce = self.told.short_bytes > 0 and free < floor and not coming
            writer.scarcity = FIRST_FILL + (SCARCITY_MAX - FIRST_FILL) * (1 - free / floor) if is_scarce else 0.0

    def _condemn(self, victims: Sequence[Victim]) -> bool:
        now_us = self._keeper.now_us()

        def job(transaction: Transaction) -> list[Condemned]:
            held = held_ranges(transaction, self._keeper.holds_us())
            names = {row.id: row.name for row in transaction.streams()}
            done = (
                condemn(transaction, chunk, rule, now_us, held.get(names[chunk.stream_id], []))
                for chunk, rule in victims
            )
            return [one for one in done if one is not None]

        done = self._keeper.write(job)
        self._wait_for(done)
        return bool(done)

    def _wait_for(self, chunks: Sequence[Condemned]) -> None:
        """Whoever has a lease now may have found them before; who takes one later has not."""
        held = leases(self._keeper.run_path)
        for one in chunks:
            chunk = one.chunk
            mine = (lease for lease in held if lease.stream_id == chunk.stream_id)
            readers = (lease.name for lease in mine if lease.start_us < chunk.end_us and lease.end_us > chunk.start_us)
            self._waits[one.key] = _Wait(time.monotonic(), frozenset(readers))

    # -- deleting -----------------------------------------------------------------------------------------------------

    def _finish(self, *, urgent: bool) -> int:
        """Take away the files whose time has come; bytes that will be free soon, as nobody reads them."""
        with self._keeper.index.read() as snapshot:
            mine = [one for one in garbage(snapshot) if one.chunk.volume == self.slot.id]
            names = {row.id: row.name for row in snapshot.streams()} if mine else {}
        self._waits = {key: wait for key, wait in self._waits.items() if key in {one.key for one in mine}}
        self._wait_for([one for one in mine if one.key not in self._waits])  # of an earlier process
        self.told.waiting = len(mine)
        grace_s = URGENT_GRACE_S if urgent else self._keeper.grace_s
        now_s = time.monotonic()
        current = frozenset(lease.name for lease in leases(self._keeper.run_path)) if mine else frozenset()
        ready, freeing = [], 0
        for one in mine:
            wait = self._waits[one.key]
            if one.key in self._refused or (not one.doomed and wait.readers & current):
                continue
            freeing += one.chunk.size
            if one.doomed or now_s - wait.since_s >= grace_s:
                ready.append(one)
        if ready:
            self._delete(ready[:BATCH], names)
            self.wake.set()
        return freeing

    def _delete(self, chunks: Sequence[Condemned], names: dict[int, str]) -> None:
        """Doom, record, unlink, forget."""
        root = os.open(self.slot.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            Volume.open(Path(f"/proc/self/fd/{root}"), self.slot.id)
            spans = [(one, *span) for one in chunks if (span := self._verified(root, one, names)) is not None]
            doomed = self._doom(spans, names)
            if not doomed:
                return
            now_us = self._keeper.now_us()
            self._keeper.log.append([_record(one, names, now_us) for one in doomed])
            _unlink(root, [_path(one.chunk, names) for one in doomed])
        finally:
            os.close(root)
        self._keeper.write(lambda transaction: forget(transaction, [one.key for one in doomed]))
        self.told.deleted_chunks += len(doomed)
        self.told.deleted_bytes += sum(one.chunk.size for one in doomed)
        self.told.waiting = max(0, self.told.waiting - len(doomed))

    def _verified(self, root: int, one: Condemned, names: dict[int, str]) -> tuple[int, int] | None:
        """The chunk's time as its file says; None for a file that is another chunk, which stays."""
        chunk = one.chunk
        path = _path(chunk, names)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
        except FileNotFoundError:
            return chunk.start_us, chunk.end_us
        try:
            head = read_header(handle, path).head
            table = read_footer(handle, head, os.fstat(handle).st_size)
        except DamageError:
            return chunk.start_us, chunk.end_us  # its name is all that is left of it
        finally:
            os.close(handle)
        if (head.stream_id, head.sequence, head.start_us) != (chunk.stream_id, chunk.sequence, chunk.start_us):
            log.error("a file is another chunk than the index says; it stays", path=str(path))
            self._refused.add(one.key)
            return None
        return min(head.start_us, chunk.start_us), max(table.end_us if table is not None else 0, chunk.end_us)

    def _doom(self, spans: Sequence[tuple[Condemned, int, int]], names: dict[int, str]) -> list[Condemned]:
        """The step after which no hold brings them back; a hold that the index's times would have missed does."""

        def job(transaction: Transaction) -> list[Condemned]:
            held = held_ranges(transaction, self._keeper.holds_us())
            keys = []
            for one, start_us, end_us in spans:
                chunk = one.chunk
                if not one.doomed and covers(held.get(names[chunk.stream_id], []), start_us, end_us):
                    rescue(transaction, chunk.stream_id, chunk.start_us, chunk.end_us)
                else:
                    keys.append(one.key)
            return doom(transaction, keys)

        return self._keeper.write(job)


def _path(chunk: ChunkRow, names: dict[int, str]) -> Path:
    """Below the volume's root."""
    return chunk_path(Path(), names[chunk.stream_id], chunk.start_us, chunk.sequence)


def _record(one: Condemned, names: dict[int, str], now_us: int) -> Deletion:
    chunk = one.chunk
    return Deletion(
        stream=names[chunk.stream_id], sequence=chunk.sequence, epoch=chunk.epoch, run=chunk.run,
        start_us=chunk.start_us, end_us=chunk.end_us, bytes=chunk.size, volume=chunk.volume.hex(),
        rule=one.rule.name.lower(), deleted_us=now_us,
    )  # fmt: skip


def _unlink(root: int, paths: Sequence[Path]) -> None:
    """Take the files away and sync their directories."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path, dir_fd=root)
    for folder in {path.parent for path in paths}:
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            with contextlib.suppress(OSError):
                os.rmdir(folder, dir_fd=root)  # of a day of which nothing is left


def _word(error: Exception) -> str:
    if isinstance(error, VolumeError):
        return {"hung": "index"}.get(error.reason, "volume")
    return "volume" if isinstance(error, OSError) else "index"
