"""What an earlier process, or a volume's failure, left on a volume: taken into the index, then cut and sealed.

Kept true: recording waits only for the first half, which reads the tails of torn chunks and writes nothing to them;
after it every whole fragment that reached the kernel is in the index, and it is known where each stream goes on:
sequence, epoch, run, and the end of its past. Cutting, sealing, and the search for chunks that the index lacks go on
beside the recording, and are begun again from nothing when they are interrupted. No moment is taken in twice: what was
written again on another volume lies beyond the `Bounds` of the first writing. Of an index that is not whole the start
does not ask what it lacks: the tails of the newest files say where streams go on (`takein` reads the rest).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from base.clock import wall_us
from base.errors import DamageError, KeyreelError, NotFound, VolumeError
from base.status import RecoveryStatus
from base.units import utc
from chunks.filesystem import SYNCFS_PROVES, syncfs
from chunks.path import chunk_path, parse_chunk_path
from chunks.records import ChunkHead, ChunkSealed, FragmentStored, GapCause, StoredRecord
from chunks.recover import UNBOUNDED, Bounds, peek, recover, set_aside
from chunks.tail import Tail, read_tail
from chunks.volume import Volume
from index import ChunkRow, Index, Snapshot, StreamRow
from index.files import NEWEST, ChunkPath, newest_files
from recorder.committer import ChunkKey, Committer, ReadAgain
from recorder.pipeline import Resume
from recorder.share import WHOLE, Share

TIME_MAX_US: Final = 1 << 62
READERS: Final = 8  # torn chunks read at a time; each waits for the disk more than it computes
UNKNOWN_MIN: Final = 64  # so many chunks beyond the index, or NEWEST of each stream, a start waits for
COMMIT_WAIT_S: Final = 10.0
END_WAIT_S: Final = 2.0
AGAIN_S: Final = 30.0  # until a chunk that the disk refused to seal is tried again
# While a volume is away, files on it may have numbers that the index never saw; so many are left out for them.
SEQUENCES_AWAY: Final = 1 << 10

log = structlog.get_logger("recorder.startup")


@dataclass(frozen=True, slots=True)
class Torn:
    """A chunk without a known end: its file, what the index knows of it (row None: nothing), and how far it counts."""

    path: Path
    stream_id: int
    sequence: int
    row: ChunkRow | None
    bounds: Bounds

    @property
    def known(self) -> int:
        """Bytes the index vouches for."""
        return self.row.size if self.row is not None else 0


class Past:
    """What earlier processes left of this share's streams, by volume. `settle` is called in the volumes' threads.

    Chunks of other shares are not looked at: a worker that starts alone meets those that its living fellows write.
    """

    def __init__(self, index: Index, committer: Committer, share: Share = WHOLE) -> None:
        self._index = index
        self._committer = committer
        self._share = share
        self._lock = threading.Lock()
        self._crashed: set[int] = set()
        self._sequences: dict[str, int] = {}  # highest number in a file name, by stream
        self._tails: dict[Path, Tail] = {}  # of newest files, while the index is not whole
        self._ended = threading.Event()
        self.recoveries: dict[bytes, RecoveryStatus] = {}
        self._tending: list[threading.Thread] = []

    def settle(self, volume: Volume, told: Mapping[Path, int], *, beside: bool = True) -> None:
        """Take in what the volume holds beyond the index; `told`: of chunks that failed here, the bytes that count."""
        found = RecoveryStatus(volume=volume.id.hex(), path=str(volume.root), since_us=wall_us())
        self.recoveries[volume.id] = found
        _sync(volume)
        with self._index.read() as snapshot:
            streams = self._streams(snapshot)
            is_whole = snapshot.is_whole()
            unknown = self._unknown(snapshot, streams, volume, told) if is_whole else []
            if len(unknown) > max(UNKNOWN_MIN, NEWEST * len(streams)):
                is_whole = self._begin_anew(volume, len(unknown))
            if not is_whole:
                unknown = sorted((path for path in told if path.exists()), key=_sequence)
            torn = list(self._torn_chunks(snapshot, volume, unknown, told))
        found.torn = len(torn)
        if not is_whole:
            self._note_tails(volume, {row.name for row in streams})
        if torn:
            self._take_in(torn)
            log.info("took in chunks of an earlier process", volume=str(volume.root), chunks=len(torn))
        if beside:
            name = f"tend {volume.root}"
            thread = threading.Thread(
                target=self._tend_beside, args=(volume, torn, is_whole, found), name=name, daemon=True
            )
            self._tending = [one for one in self._tending if one.is_alive()] + [thread]
            thread.start()
        else:
            self._tend(volume, torn, is_whole, found)

    def resume(self, complete: bool) -> dict[int, Resume]:
        """Where each stream goes on; `complete` when all volumes have told their numbers."""
        with self._lock, self._index.read() as snapshot:
            return {row.id: self._resume_of(snapshot, row, complete) for row in self._streams(snapshot)}

    def newest_us(self) -> int:
        """Where the stored time of all the node's streams ends, also of other workers'; 0 when nothing is stored."""
        with self._index.read() as snapshot:
            last = [snapshot.last_chunk(row.id) for row in snapshot.streams()]
        with self._lock:
            tails = [tail.end_us for tail in self._tails.values()]
        return max([0, *tails, *(chunk.end_us for chunk in last if chunk is not None)])

    def end(self) -> None:
        """Leave the rest to the next start; a disk that hangs is not waited for long."""
        self._ended.set()
        for thread in self._tending:
            thread.join(END_WAIT_S)

    def _streams(self, snapshot: Snapshot) -> list[StreamRow]:
        return [row for row in snapshot.streams() if self._share.owns(row.id)]

    # -- before recording ---------------------------------------------------------------------------------------------

    def _torn_chunks(
        self, snapshot: Snapshot, volume: Volume, unknown: list[Path], told: Mapping[Path, int]
    ) -> Iterator[Torn]:
        """Chunks that are open in the index, and files that it does not know."""
        names = {row.id: row.name for row in snapshot.streams()}
        for chunk in snapshot.open_chunks():
            if chunk.volume == volume.id and self._share.owns(chunk.stream_id):
                path = chunk_path(volume.root, names[chunk.stream_id], chunk.start_us, chunk.sequence)
                yield _torn(snapshot, path, chunk.stream_id, chunk.sequence, chunk.start_us, told.get(path))
        ids = {name: stream_id for stream_id, name in names.items()}
        for path in unknown:
            parsed = parse_chunk_path(path)
            if parsed is not None and not snapshot.knows(ids[parsed.stream], parsed.sequence):
                yield _torn(snapshot, path, ids[parsed.stream], parsed.sequence, parsed.start_us, told.get(path))

    def _begin_anew(self, volume: Volume, count: int) -> bool:
        """An index that lacks so much is an old copy, or lost its newest rows: no start waits for all of that."""
        text = "the index lacks many chunks; they are read in beside the recording"
        log.error(text, volume=str(volume.root), chunks=count)
        try:
            self._committer.call(lambda transaction: transaction.set_whole(read_in=False)).result(COMMIT_WAIT_S)
        except (KeyreelError, LateError) as error:
            log.error("the index cannot be told that it is not whole; all is read first", error=str(error))
            return True
        return False

    def _note_tails(self, volume: Volume, streams: set[str]) -> None:
        """Where streams end on this volume, by their newest files."""
        files = [file for name, some in newest_files(volume).items() if name in streams for file in some]
        with ThreadPoolExecutor(READERS, thread_name_prefix="tails") as pool:
            tails = list(pool.map(_tail, files))
        with self._lock:
            for file, tail in zip(files, tails, strict=True):
                self._sequences[file.stream] = max(file.sequence, self._sequences.get(file.stream, 0))
                if tail is not None:
                    self._tails[file.path] = tail

    def adopt(self, paths: list[Path]) -> None:
        """Let these torn files be sealed with the others."""
        tails = {path: tail for path in paths if (tail := _tail_of(path)) is not None}
        with self._lock:
            self._tails.update(tails)

    def finish_tails(self, ended: threading.Event) -> None:
        """Cut and seal what was torn when the recorder began, once all other chunks are in the index."""
        with self._lock:
            tails, self._tails = self._tails, {}

        def finish(path: Path) -> None:
            if ended.is_set():
                return
            head = tails[path].head
            with self._index.read() as snapshot:
                one = _torn(snapshot, path, head.stream_id, head.sequence, head.start_us, None)
            later = [other.head.start_us for other in tails.values() if _follows(other.head, head)]
            until_us = min([*later, one.bounds.until_us or TIME_MAX_US])
            found = self.recoveries.get(head.volume) or RecoveryStatus(volume=head.volume.hex(), path="")
            found.torn += 1
            bounds = Bounds(None, until_us if until_us < TIME_MAX_US else None)
            self._finish(replace(one, row=None, bounds=bounds), found)

        with ThreadPoolExecutor(READERS, thread_name_prefix="seal") as pool:
            list(pool.map(finish, [path for path, tail in tails.items() if not tail.sealed]))

    def _unknown(
        self, snapshot: Snapshot, streams: list[StreamRow], volume: Volume, told: Mapping[Path, int]
    ) -> list[Path]:
        """Files that failed here, and those with a number above all that the index knows; ascending."""
        found = dict.fromkeys(path for path in told if path.exists())
        for row in streams:
            last = snapshot.last_chunk(row.id)
            since_us = last.start_us if last is not None else 0
            for path, sequence in _files(volume.root / row.name, utc(since_us).strftime("%Y-%m-%d")):
                self._count(row.name, sequence)
                if sequence >= snapshot.next_sequence(row.id):
                    found[path] = None
        return sorted(found, key=_sequence)

    def _count(self, stream: str, sequence: int) -> None:
        with self._lock:
            self._sequences[stream] = max(sequence, self._sequences.get(stream, 0))

    def _take_in(self, torn: list[Torn]) -> None:
        """Read what the index lacks and commit it: all in one transaction, or chunk by chunk when one contradicts."""
        with ThreadPoolExecutor(READERS, thread_name_prefix="settle") as pool:
            found = [(one, records) for one, records in zip(torn, pool.map(_peek, torn), strict=True) if records]
        chunks = [records for _, records in found]
        self._commit([record for records in chunks for record in records], chunks)
        with self._lock:
            self._crashed.update(one.stream_id for one, _ in found)

    def _commit(self, together: list[StoredRecord], chunks: list[list[StoredRecord]]) -> None:
        if not together:
            return
        try:
            self._committer.call(lambda transaction: transaction.apply(together)).result(COMMIT_WAIT_S)
        except LateError:
            log.error("the index does not answer; recording begins, what was left is taken in when it does")
        except KeyreelError as error:
            if len(chunks) < 2:
                log.error("a chunk contradicts the index; `keyreel check` tells more", error=str(error))
                return
            for records in chunks:
                self._commit(records, [])

    # -- beside the recording -----------------------------------------------------------------------------------------

    def _tend(self, volume: Volume, torn: list[Torn], is_whole: bool, found: RecoveryStatus) -> list[Torn]:
        """Cut and seal what is torn, then look for chunks that an index commit has missed; what the disk refused."""
        left: list[Torn] = []
        try:
            for one in torn:
                if self._ended.is_set():
                    return []
                if not self._finish(one, found):
                    left.append(one)
            if is_whole:
                self._find_missed(volume, found)
            found.done = True
        except Exception:
            log.exception("tending a volume ended early; the next start goes on", volume=str(volume.root))
        return left

    def _tend_beside(self, volume: Volume, torn: list[Torn], is_whole: bool, found: RecoveryStatus) -> None:
        """The same, again and again for what the disk refuses, until the volume is taken back anew."""
        left = self._tend(volume, torn, is_whole, found)
        while left and not self._ended.wait(AGAIN_S) and self.recoveries.get(volume.id) is found:
            found.failed -= len(left)
            left = self._tend(volume, left, False, found)

    def _finish(self, one: Torn, found: RecoveryStatus) -> bool:
        """False when the disk refuses, which may pass; what is damaged stays so."""
        try:
            if one.row is None and _is_empty(one):
                with self._index.read() as snapshot:
                    known = snapshot.knows(one.stream_id, one.sequence)
                if not known:
                    log.warning("a chunk of which nothing counts is kept aside", path=str(set_aside(one.path)))
                    found.aside += 1
                    return True
            done = recover(one.path, one.known, one.bounds)
        except FileNotFoundError:
            return True
        except (KeyreelError, OSError) as error:
            log.error("a chunk could not be sealed; it is left as it is", path=str(one.path), error=str(error))
            found.failed += 1
            return not isinstance(error, (VolumeError, OSError))
        found.sealed += 1
        found.cut_bytes += done.cut_bytes
        if done.cut_bytes:
            log.warning("torn tail cut into a side file", path=str(one.path), cut_bytes=done.cut_bytes)
        self._committer.submit(done.records)
        return True

    def _find_missed(self, volume: Volume, found: RecoveryStatus) -> None:
        """Files between the oldest and the newest chunk of a stream that have no row: read them in."""
        with self._index.read() as snapshot:
            streams = self._streams(snapshot)
        for stream in streams:
            files = list(_files(volume.root / stream.name, ""))
            with self._index.read() as snapshot:
                missed = list(_missed(snapshot, stream, files))
            for one in missed:
                if self._ended.is_set():
                    return
                log.warning("a chunk that the index lacks is read in", path=str(one.path))
                found.missed += 1
                self._finish(one, found)

    # -- where streams go on ------------------------------------------------------------------------------------------

    def _resume_of(self, snapshot: Snapshot, stream: StreamRow, complete: bool) -> Resume:
        """Sequences come from file names too: a file that could not be read keeps its number."""
        known = max(snapshot.next_sequence(stream.id) - 1, self._sequences.get(stream.name, 0))
        next_sequence = known + (1 if complete else SEQUENCES_AWAY)
        tails = [tail for tail in self._tails.values() if tail.head.stream_id == stream.id]
        return _resume(snapshot, stream, next_sequence, stream.id in self._crashed, tails)


def resume(index: Index, volumes: list[Volume], *, complete: bool) -> dict[int, Resume]:
    """Put everything right while nobody records, and say per stream where to go on."""
    committer = Committer(index)
    committer.start()
    past = Past(index, committer)
    try:
        for volume in volumes:
            past.settle(volume, {}, beside=False)
        return past.resume(complete)
    finally:
        committer.stop()


def resume_of(snapshot: Snapshot, stream: StreamRow, crashed: bool, volumes: Mapping[bytes, Path]) -> Resume:
    """Where a stream goes on now, by the index and the names of newer files on the volumes that are there."""
    last = snapshot.last_chunk(stream.id)
    known, since_us = snapshot.next_sequence(stream.id) - 1, last.start_us if last is not None else 0
    first_day = utc(since_us).strftime("%Y-%m-%d")
    named = [file for root in volumes.values() for file in _files(root / stream.name, first_day)]
    newer = sorted((file for file in named if file[1] > known), key=lambda file: file[1])
    tails = [] if snapshot.is_whole() else [tail for path, _ in newer[-NEWEST:] if (tail := _tail_of(path)) is not None]
    return _resume(snapshot, stream, max([known, *(number for _, number in named)]) + 1, crashed, tails)


def _resume(
    snapshot: Snapshot, stream: StreamRow, next_sequence: int, crashed: bool, tails: Iterable[Tail] = ()
) -> Resume:
    """By the newest chunk that the index knows, or a newer file of which only the tail was read."""
    last = snapshot.last_chunk(stream.id)
    newest = max(tails, key=lambda tail: tail.head.sequence, default=None)
    if newest is not None and (last is None or last.sequence < newest.head.sequence):
        return Resume(
            next_sequence=next_sequence,
            epoch=newest.head.epoch,
            config=newest.config,
            run=newest.head.run,
            end_us=max(newest.end_us, newest.head.start_us + 1),
            gap_cause=GapCause.STOPPED if newest.sealed else GapCause.CRASH,
        )
    if last is None:  # nothing yet, or all of it was deleted
        end = snapshot.end(stream.id)
        return Resume(next_sequence, epoch=end.epoch, run=end.run, end_us=end.end_us, gap_cause=GapCause.STOPPED)
    return Resume(
        next_sequence=next_sequence,
        epoch=last.epoch,
        config=snapshot.config(stream.id, last.epoch),
        run=last.run,
        end_us=max(last.end_us, last.start_us + 1),
        gap_cause=GapCause.CRASH if crashed else GapCause.STOPPED,
    )


def chunk_reader(index: Index, roots: Callable[[], Mapping[bytes, Path]]) -> ReadAgain:
    """What the committer calls to read a chunk again: (key, durable size) → the records the index lacks."""

    def read_again(key: ChunkKey, size: int) -> list[StoredRecord]:
        stream_id, sequence = key
        with index.read() as snapshot:
            stream = snapshot.stream_by_id(stream_id)
            row = snapshot.chunk(stream_id, sequence)
        if stream is None:
            raise NotFound(f"stream {stream_id} is not in the index")
        for root in roots().values():
            for path, number in _files(root / stream.name, ""):
                if number == sequence:
                    records = peek(path, row.size if row is not None else 0, Bounds(size), durable=size)
                    return [one for one in records if not isinstance(one, ChunkSealed) or one.size <= size]
        raise NotFound(f"chunk {sequence} of {stream.name} is on no volume that is here")

    return read_again


def _sync(volume: Volume) -> None:
    """What is told of the volume's chunks from now on is on stable storage."""
    handle = os.open(volume.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if SYNCFS_PROVES:
            syncfs(handle)
        else:
            os.sync()
    finally:
        os.close(handle)


def _torn(snapshot: Snapshot, path: Path, stream_id: int, sequence: int, start_us: int, told: int | None) -> Torn:
    """`start_us` of a file that the index does not know is its name's, so to the millisecond."""
    row = snapshot.chunk(stream_id, sequence)
    later = (other.start_us for other in snapshot.chunks(stream_id, start_us, TIME_MAX_US) if other.sequence > sequence)
    return Torn(path, stream_id, sequence, row, Bounds(told, min(later, default=None)))


def _missed(snapshot: Snapshot, stream: StreamRow, files: list[tuple[Path, int]]) -> Iterator[Torn]:
    last, first = snapshot.last_chunk(stream.id), snapshot.first_sequence(stream.id)
    for path, sequence in files if last is not None else []:
        if last is not None and first < sequence < last.sequence and not snapshot.knows(stream.id, sequence):
            parsed = parse_chunk_path(path)
            if parsed is not None:
                yield _torn(snapshot, path, stream.id, sequence, parsed.start_us, None)


def _files(folder: Path, first_day: str) -> Iterator[tuple[Path, int]]:
    """(chunk file, sequence) of a stream's folder from a day on, oldest first."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for day in sorted(name for name in os.listdir(folder) if name >= first_day):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                for name in sorted(os.listdir(folder / day)):
                    number = name[:-4].rpartition("-")[2]
                    if name.endswith(".mp4") and number.isdecimal():
                        yield folder / day / name, int(number)


def _is_empty(one: Torn) -> bool:
    """Nothing of it was ever told: no whole fragment counts, or its making was cut short before its head was whole."""
    try:
        return not _stored(peek(one.path, 0, one.bounds))
    except DamageError as error:
        if error.reason != "unfinished":
            raise
        return True


def _tail(file: ChunkPath) -> Tail | None:
    return _tail_of(file.path)


def _tail_of(path: Path) -> Tail | None:
    try:
        return read_tail(path)
    except (KeyreelError, OSError) as error:
        log.error("a chunk could not be read; it is left as it is", path=str(path), error=str(error))
        return None


def _follows(later: ChunkHead, head: ChunkHead) -> bool:
    return later.stream_id == head.stream_id and later.sequence > head.sequence


def _stored(records: list[StoredRecord]) -> bool:
    return any(isinstance(record, FragmentStored) for record in records)


def _peek(one: Torn) -> list[StoredRecord]:
    """What the index lacks of a chunk; a chunk it does not know and that holds nothing of worth is left out."""
    try:
        records = peek(one.path, one.known, one.bounds)
    except FileNotFoundError:
        log.error("a chunk that the index knows is gone", path=str(one.path))
        return []
    except (KeyreelError, OSError) as error:
        if one.row is not None or getattr(error, "reason", "") != "unfinished":  # else it is set aside
            log.error("a chunk could not be read; it is left as it is", path=str(one.path), error=str(error))
        return []
    is_empty_copy = one.row is None and one.bounds != UNBOUNDED and not _stored(records)
    return [] if is_empty_copy else records


def _sequence(path: Path) -> int:
    parsed = parse_chunk_path(path)
    return parsed.sequence if parsed is not None else 0
