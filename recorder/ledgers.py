"""The ledgers of this recorder's streams: one thread that writes, syncs and signs them.

Kept true: nobody waits for it, neither a volume's thread nor the event loop; what waits for it is bounded, and what
passes the bound is counted and told; a root is written only after its fragments were made durable, a head only over
entries that are; without a key, or with a full disk, recording goes on and it is said what lacks.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from base.config import Config, key_password
from base.datadir import DataDir
from base.errors import KeyreelError
from base.status import LedgerStatus
from base.units import US
from chunks.filesystem import SYNCFS_PROVES, syncfs
from chunks.records import ChunkOpened, ChunkSealed, ClockState, FragmentStored, Gap, StoredRecord
from evidence.files import identity_of
from evidence.journal import Journal, prune
from evidence.keys import NAME as KEYS_NAME
from evidence.keys import Keys, Signer
from evidence.ledger import ClockNote, Content, Head, Ledger, Missed, pack_entry, signed_bytes
from evidence.scribe import Scribe
from recorder.found import Finder, Sought
from recorder.share import Share
from recorder.storedclock import STEP_US, StoredClock

TICK_S: Final = 1.0
RETRY_S: Final = 5.0  # after an error of the disk, or of the key
LEAVES_MAX: Final = 400_000  # that wait for the thread: some minutes of 1,000 streams, 30 MB
ENTRIES_MAX: Final = 50_000  # that wait for the disk, 40 MB
SYNC_EACH_MAX: Final = 8
PRUNE_S: Final = 3600.0
VISITS_A_TICK: Final = 25  # ledgers of streams that do not record now, looked at after the start
STOP_MAX_S: Final = 10.0
GOLDEN: Final = 0.6180339887498949

Event = Callable[[int], None]  # called in the thread with stored time
log = structlog.get_logger("recorder.ledgers")


class _Stream:
    """One stream's ledger here."""

    __slots__ = ("due_s", "id", "journal", "name", "retry_s", "scribe", "signed_upto", "taken")

    def __init__(self, stream_id: int, name: str, due_s: float) -> None:
        self.id = stream_id
        self.name = name
        self.due_s = due_s
        self.retry_s = 0.0
        self.scribe = Scribe(ENTRIES_MAX)
        self.journal: Journal | None = None
        self.signed_upto = 0  # entries below this number are under a head
        self.taken: list[tuple[int, Content]] = []


class Ledgers:
    """Give it what became durable (`witness`) and what happened; it never waits and never raises."""

    def __init__(self, datadir: DataDir, config: Config, share: Share, software: str) -> None:
        self._datadir = datadir
        self._folder = datadir.ledger_path
        self._keys_folder = datadir.keys_path
        self._node = datadir.node_id
        self._config = config
        self._share = share
        self._software = software
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._leaves = 0
        self._lost: set[tuple[int, int]] = set()  # chunks of which records were let go
        self._streams: dict[int, _Stream] = {}
        self._ended = threading.Event()
        self._signer: Signer | None = None
        self._signer_state: tuple[int, int] = (0, 0)
        self._key_retry_s = 0.0
        self._failing: set[int] = set()  # streams whose files could not be written
        self._prune_s = time.monotonic() + TICK_S
        self._unvisited: deque[Path] = deque()
        self._finder: Finder | None = None
        self._thread = threading.Thread(target=self._run, name="ledgers", daemon=True)
        self.status = LedgerStatus()

    # -- for the other threads ----------------------------------------------------------------------------------------

    def witness(self, records: list[StoredRecord], leaves: list[bytes]) -> None:
        """These records became durable in this order; a leaf hash for each fragment among them."""
        with self._lock:
            if self._leaves + len(leaves) > LEAVES_MAX:
                self._lost.update(_chunk_of(record) for record in records if not isinstance(record, Gap))
                return
            self._leaves += len(leaves)
            self._events.append(lambda now_us: self._take(records, leaves, now_us))

    def note(self, stream_id: int, name: str, content: Content) -> None:
        """Let this be an entry: a session's beginning or end, what a camera's own signatures said."""
        self._put(lambda now_us: self._stream(stream_id, name).scribe.add(now_us, content))

    def gap(self, name: str, gap: Gap) -> None:
        """A stored absence that no chunk tells."""
        self._put(lambda now_us: self._stream(gap.stream_id, name).scribe.gap(gap, now_us))

    def volume_failed(self, volume: bytes) -> None:
        """The volume takes nothing more for now; what it made durable was given before."""

        def give_up(now_us: int) -> None:
            for stream in self._streams.values():
                stream.scribe.volume_failed(volume, now_us)

        self._put(give_up)

    def _put(self, event: Event) -> None:
        with self._lock:
            if len(self._events) < ENTRIES_MAX:
                self._events.append(event)
            else:
                self.status.missed += 1

    def start(
        self, stored: StoredClock, roots: Callable[[], Mapping[bytes, Path]], oldest_us: Callable[[str], int]
    ) -> None:
        """Start the thread; `roots` gives the volumes' directories, `oldest_us` where a stream's footage begins."""
        self._stored = stored
        self._oldest_us = oldest_us
        self._finder = Finder(roots, stored.wall_us(), self._on_found)
        self._thread.start()

    def stop(self) -> None:
        """Write, sync and sign what was given, then end; a disk that hangs is not waited for without end."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(STOP_MAX_S)
            if self._thread.is_alive():
                log.error("the ledgers' disk does not answer; the next start reads the chunks instead")

    # -- the thread's own ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._safely(self._list_ledgers)
        self._safely(self._load_signer)
        while not self._ended.wait(TICK_S):
            self._safely(self._tick)
            self._visit()
            if self._share.first and time.monotonic() >= self._prune_s:
                self._prune_s = time.monotonic() + PRUNE_S
                self._safely(self._prune)
        if self._finder is not None:
            self._finder.end()
        self._safely(self._finish)

    def _safely(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # a fault of ours must not end it in silence
            log.exception("a ledger's step failed unexpectedly; it goes on")
            self._tell("fault", repr(error))

    def _tick(self) -> None:
        """Take what was given, give out what is due, sign what is durable, write, sync."""
        now_us, now_s = self._stored.wall_us(), time.monotonic()
        self._drain(now_us)
        clock = self._clock_note()
        for stream in self._streams.values():
            if stream.scribe.recording:
                stream.scribe.clock(clock, now_us)
            if now_s >= stream.due_s:
                stream.due_s = max(stream.due_s + self._config.evidence.head_s, now_s)
                stream.scribe.progress(now_us)
        self._follow_keys(now_s)
        self._write(now_us)
        self.status.waiting = sum(len(one.scribe.waiting) for one in self._streams.values())
        self.status.streams = len(self._streams)

    def _finish(self) -> None:
        """Everything on stable storage, then a head over it, on stable storage too."""
        self._drain(self._stored.wall_us())
        for stream in self._streams.values():
            stream.scribe.progress(self._stored.wall_us())
        for _ in range(2):
            self._write(self._stored.wall_us())

    def _drain(self, now_us: int) -> None:
        with self._lock:
            events, self._events = self._events, deque()
            lost, self._lost, self._leaves = self._lost, set(), 0
        for event in events:
            event(now_us)
        for stream_id, sequence in lost:
            self.status.missed += 1
            if stream_id in self._streams:
                self._streams[stream_id].scribe.forget(sequence)
                self._streams[stream_id].scribe.add(now_us, Missed(1, now_us, now_us, f"overload, chunk {sequence}"))

    def _take(self, records: list[StoredRecord], leaves: list[bytes], now_us: int) -> None:
        hashes = iter(leaves)
        for record in records:
            if isinstance(record, ChunkOpened):
                self._stream(record.head.stream_id, record.head.stream_name).scribe.opened(record, now_us)
                continue
            leaf = next(hashes) if isinstance(record, FragmentStored) else b""
            stream = self._streams.get(record.stream_id)
            if stream is None:
                continue
            if isinstance(record, FragmentStored):
                stream.scribe.stored(record, leaf, now_us)
            elif isinstance(record, ChunkSealed):
                stream.scribe.sealed(record, now_us)

    def _stream(self, stream_id: int, name: str) -> _Stream:
        stream = self._streams.get(stream_id)
        if stream is None:
            interval_s = self._config.evidence.head_s
            due_s = time.monotonic() + interval_s * (stream_id * GOLDEN % 1.0)
            stream = self._streams[stream_id] = _Stream(stream_id, name, due_s)
            for one in self._streams.values():
                one.scribe.waiting_max = max(64, ENTRIES_MAX // len(self._streams))
        return stream

    # -- writing ------------------------------------------------------------------------------------------------------

    def _write(self, now_us: int) -> None:
        """Append what waits, make it durable; what fails with one stream costs the others nothing."""
        now_s = time.monotonic()
        due = [stream for stream in self._streams.values() if now_s >= stream.retry_s]
        dirty = [stream for stream in due if self._trying(stream, lambda one: self._append(one, now_us))]
        for stream in self._synced(dirty):
            self.status.entries += len(stream.taken)
            stream.taken = []
            self.status.missed += stream.scribe.missed
            stream.scribe.written()
            self._failing.discard(stream.id)
        if self.status.reason == "disk" and not self._failing:
            log.info("ledgers are written again")
            self._tell("", "")

    def _trying(self, stream: _Stream, step: Callable[[_Stream], bool]) -> bool:
        try:
            return step(stream)
        except OSError as error:
            self._failed(stream, error)
        except KeyreelError as error:  # a later version's, or spoilt: nothing is written behind what cannot be read
            log.error("a ledger cannot be gone on with; its stream is recorded all the same", error=str(error))
            self._tell(error.reason, str(error))
            stream.scribe.give_back(stream.taken)
            stream.taken, stream.retry_s = [], time.monotonic() + PRUNE_S
        return False

    def _append(self, stream: _Stream, now_us: int) -> bool:
        """A head over what is durable, then what waits; whether there was anything."""
        journal = self._journal(stream)
        stream.taken = stream.scribe.take(now_us, self.status.reason or "overload")
        is_head_due = stream.scribe.sign_soon and journal.settled and journal.at.number > stream.signed_upto
        if is_head_due and self._signer is not None:
            self._sign(stream, journal, self._signer, now_us)
        if stream.taken:
            journal.append(stream.taken)
        return not journal.settled

    def _sign(self, stream: _Stream, journal: Journal, signer: Signer, now_us: int) -> None:
        unsigned = journal.next_entry(now_us, Head(journal.identity.ledger, signer.id, bytes(64)))
        signature = signer.sign(signed_bytes(unsigned.raw))
        head = Head(journal.identity.ledger, signer.id, signature)
        journal.append_entry(pack_entry(unsigned.number, unsigned.time_us, unsigned.previous, head))
        stream.signed_upto = journal.at.number
        stream.scribe.sign_soon = bool(stream.taken)
        self.status.heads += 1

    def _journal(self, stream: _Stream) -> Journal:
        if stream.journal is None:
            identity = Ledger(os.urandom(16), self._node, stream.id, stream.name, self._software)
            stream.journal = Journal(self._folder / stream.name, identity)
            if stream.journal.unfinished is not None and self._finder is not None:
                self._finder.seek(Sought(stream.id, stream.name, stream.journal.unfinished))
        return stream.journal

    def _synced(self, dirty: list[_Stream]) -> list[_Stream]:
        """Those that are durable now: one sync of the file system for many, or each file for few."""
        if not SYNCFS_PROVES or len(dirty) <= SYNC_EACH_MAX:
            return [stream for stream in dirty if self._trying(stream, _sync)]
        try:
            handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(handle)
            finally:
                os.close(handle)
        except OSError as error:
            for stream in dirty:
                self._failed(stream, error)
            return []
        for stream in dirty:
            assert stream.journal is not None
            stream.journal.confirm()
        return dirty

    def _failed(self, stream: _Stream, error: OSError) -> None:
        """What was not confirmed is let go of and waits again; a disk that stays wrong costs no picture."""
        stream.retry_s = time.monotonic() + RETRY_S
        if self.status.reason != "disk":
            log.error("a ledger cannot be written; recording goes on, entries wait", stream=stream.name,
                      error=str(error))  # fmt: skip
        self._failing.add(stream.id)
        self._tell("disk", f"{self._folder / stream.name}: {error.strerror or error}; free space or repair its disk")
        stream.scribe.give_back(stream.taken)
        stream.taken = []
        if stream.journal is not None:
            stream.signed_upto = min(stream.signed_upto, stream.journal.durable_number)
            stream.scribe.sign_soon = True
            with contextlib.suppress(OSError):  # else what was written stays, and stands there twice
                stream.journal.undo()
            stream.journal = None  # opened again, by what the disk holds

    # -- keys ---------------------------------------------------------------------------------------------------------

    def _load_signer(self) -> None:
        try:
            password = key_password(self._config)
            self._signer = _keys_of(self._datadir, password, self._stored.node_us()).signer(password)
            self._signer_state = self._keys_stat()
        except KeyreelError as error:
            self._signer = None
            if self.status.reason != error.reason:
                log.error("ledgers are not signed", error=str(error))
            self._tell(error.reason, str(error))
            self._key_retry_s = time.monotonic() + RETRY_S
        else:
            if self.status.reason not in ("", "disk"):
                self._tell("", "")

    def _follow_keys(self, now_s: float) -> None:
        """Keys that were rotated, or came back."""
        if now_s >= self._key_retry_s and (self._signer is None or self._keys_stat() != self._signer_state):
            self._load_signer()

    def _keys_stat(self) -> tuple[int, int]:
        try:
            stat = (self._keys_folder / KEYS_NAME).stat()
        except OSError:
            return (0, 0)
        return stat.st_mtime_ns, stat.st_ino

    def _tell(self, reason: str, detail: str) -> None:
        self.status.reason, self.status.detail = reason, detail

    def _clock_note(self) -> ClockNote:
        stored, trust = self._stored, self._stored.trust()
        agreed = stored.synced if abs(stored.ahead_us) <= STEP_US else False
        state = {None: ClockState.UNKNOWN, True: ClockState.SYNCED, False: ClockState.UNSYNCED}[agreed]
        return ClockNote(state, stored.error_us, stored.ahead_us, trust.reason)

    # -- what an earlier life left ------------------------------------------------------------------------------------

    def _list_ledgers(self) -> None:
        if self._folder.is_dir():
            self._unvisited.extend(sorted(path for path in self._folder.iterdir() if path.is_dir()))

    def _visit(self) -> None:
        """Open ledgers of streams of this share that have not recorded since the start, a few at a time."""
        for _ in range(min(VISITS_A_TICK, len(self._unvisited))):
            folder = self._unvisited.popleft()
            try:
                said = identity_of(folder)
                if said is not None and self._share.owns(said.stream_id) and said.node == self._node:
                    self._journal(self._stream(said.stream_id, folder.name))
            except (OSError, KeyreelError) as error:
                log.error("a ledger cannot be read; `keyreel ledger verify` tells more", error=str(error))

    def _prune(self) -> None:
        """Let go of what speaks of footage that is gone for long; never by a clock that is not trusted."""
        if not self._stored.trust().trusted or not self._folder.is_dir():
            return
        kept_us = int(self._config.evidence.ledger_days * 86_400 * US)
        for folder in sorted(path for path in self._folder.iterdir() if path.is_dir()):
            oldest_us = min(self._oldest_us(folder.name), self._stored.wall_us())
            gone = prune(folder, oldest_us - kept_us)
            if gone:
                log.info("old files of a ledger are deleted", stream=folder.name, files=gone)

    def _on_found(self, sought: Sought, contents: list[Content]) -> None:
        """Of the finder, in its thread."""
        for content in contents:
            self.note(sought.stream_id, sought.name, content)


def make_keys(datadir: DataDir, config: Config, now_us: int) -> None:
    """Of a node that keeps no ledgers, as exports are signed all the same."""
    try:
        _keys_of(datadir, key_password(config), now_us)
    except (KeyreelError, OSError) as error:
        log.error("the node's keys cannot be used; exports cannot be signed", error=str(error))


def _keys_of(datadir: DataDir, password: bytes | None, now_us: int) -> Keys:
    """The node's keys, made at its first start. One that has ledgers had keys: if they are gone, people must know."""
    if datadir.ledger_path.is_dir() and any(datadir.ledger_path.iterdir()):
        return Keys.open(datadir.keys_path)
    return Keys.ensure(datadir.keys_path, password, now_us, f"node {datadir.node_id.hex()}")


def _sync(stream: _Stream) -> bool:
    assert stream.journal is not None
    stream.journal.sync()
    return True


def _chunk_of(record: ChunkOpened | FragmentStored | ChunkSealed) -> tuple[int, int]:
    head = record.head if isinstance(record, ChunkOpened) else record
    return head.stream_id, head.sequence
