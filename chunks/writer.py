"""The write side of a volume: one thread that is the only code writing media.

Kept true: records are handed on in order, and only after their bytes, their file's size and its name are on stable
storage; files are made beneath the directory that was opened at the start, so never on the disk under a mount that
left; the memory of what is queued or not yet synced never passes `queue_bytes_max`; the first error of a write or a
sync is final for the volume, nothing is tried again, and what was not synced stays in memory (`unsynced`) to be
written elsewhere. A thread that its disk keeps waiting can be given up: from then on it tells nothing more. Calls come
from one thread (the event loop); none of them waits for a disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from base.errors import VolumeError
from base.media import StreamConfig
from chunks.filesystem import SYNCFS_PROVES, drop_cached, preallocate, syncfs
from chunks.format import TableBuilder, pack_header, seed_of
from chunks.path import chunk_path
from chunks.records import ChunkHead, ChunkOpened, ChunkSealed, FragmentStored, Gap, StoredRecord
from chunks.volume import Volume
from native.moof import Fragment
from native.sha256 import fragment_leaves

SYNC_EACH_MAX: Final = 8  # dirty files up to which each is synced, so as not to wait for others' work on the disk
COMMIT_PARTS: Final = 4  # a commit comes early when this part of the bound is written and not synced
GATHER_S: Final = 0.05  # pause after an emptied queue: one waking then serves many fragments, 20 a second at most
PREALLOCATE_BYTES: Final = 4 << 20  # of every open chunk at most this lies idle, also on a nearly full disk
CACHE_STEP_BYTES: Final = 1 << 20  # small: the kernel then writes into pages it just got back, fresh ones cost most
CACHE_KEEP_BYTES: Final = 1 << 20  # newest pages of a chunk stay cached for live views
STOP_MAX_S: Final = 20.0  # an orderly end waits so long for a disk
REASONS: Final = {
    errno.ENOSPC: "enospc", errno.EDQUOT: "enospc", errno.EROFS: "readonly", errno.ENOENT: "missing",
    errno.EFBIG: "limit", errno.EMFILE: "limit", errno.ENFILE: "limit",
}  # fmt: skip

Held = tuple["OpenChunk", Fragment, FragmentStored]
# Told after `on_commit`: the same records, and a leaf hash for each fragment among them (docs/format/ledger.md).
Witness = Callable[[list[StoredRecord], list[bytes]], None]
Job = tuple[Callable[..., None], "OpenChunk | VolumeError", Fragment | None, FragmentStored | None]


class _Abandoned(Exception):
    """The thread was given up while its disk kept it waiting."""


class OpenChunk:
    """A chunk being written. What is public advances with `append`, before the bytes are on disk."""

    __slots__ = (
        "_allocated", "_cached_from", "_handle", "_header", "_seed", "_table", "audio_base", "config", "durable_size",
        "end_us", "failed", "fragments", "head", "header_size", "media_bytes", "path", "size", "start_us",
        "video_base_90k",
    )  # fmt: skip

    def __init__(self, head: ChunkHead, config: StreamConfig, path: Path) -> None:
        self.head = head
        self.config = config
        self.path = path
        self.fragments = 0
        self.start_us = head.start_us
        self.end_us = head.start_us
        self.media_bytes = 0
        self.failed = False
        self.video_base_90k = 0  # dts at the chunk's time zero, and the RTP time of its sound there
        self.audio_base = 0
        self.durable_size = 0  # bytes that were told; 0 until the file itself was
        self._header = pack_header(head, config)
        self.size = self.header_size = len(self._header)
        self._seed = seed_of(head)
        self._table = TableBuilder()
        self._handle = -1
        self._allocated = 0
        self._cached_from = 0


class VolumeWriter:
    """Writes the chunks of one volume; `start` before use, `stop` drains, syncs and commits."""

    def __init__(
        self,
        volume: Volume,
        *,
        on_commit: Callable[[list[StoredRecord]], None],
        on_failure: Callable[[VolumeError, list[OpenChunk]], None],
        sync_interval_s: float = 1.0,
        queue_bytes_max: int = 256 << 20,
        witness: Witness | None = None,
    ) -> None:
        self.volume = volume
        self.queue_bytes_max = queue_bytes_max
        self.written_bytes = 0
        self.syncs = 0
        self.last_sync_s = 0.0
        self.scarcity = 0.0  # where nothing may be deleted: 0 there is room, 1 there is none; set by retention
        self.busy_since_s = 0.0  # monotonic time at which the disk was last asked and has not answered; 0.0 idle
        self.error: VolumeError | None = None
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._witness = witness
        self._sync_interval_s = sync_interval_s
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._fence = threading.Lock()  # held for a moment: by the thread to tell, by who gives it up
        self._lost: list[Held] = []
        self.given = False  # until then a failed volume still takes fragments, to give them back with the others
        self._thread = threading.Thread(target=self._run, name=f"volume {volume.root}", daemon=True)
        # Bytes of memory ever queued, written by the caller's thread alone, and ever synced, by the writer's thread:
        self._queued = 0
        self._released = 0
        self._queued_of: dict[int, int] = {}  # by stream
        self._released_of: dict[int, int] = {}
        # The writer thread's own:
        self._root_handle = -1
        self._open: set[OpenChunk] = set()
        self._dirty: dict[OpenChunk, None] = {}
        self._directories: dict[Path, None] = {}
        self._sealed: list[OpenChunk] = []
        self._records: list[StoredRecord] = []
        self._held: list[Held] = []
        self._held_bytes = 0
        self._can_preallocate = True

    # ---- the caller's side ----

    @property
    def queue_bytes(self) -> int:
        """Memory of what was handed over and is not yet on stable storage."""
        return self._queued - self._released

    def queue_bytes_of(self, stream_id: int) -> int:
        """One stream's part of `queue_bytes`."""
        return self._queued_of.get(stream_id, 0) - self._released_of.get(stream_id, 0)

    def queued_streams(self) -> int:
        """How many streams have something in the queue."""
        released = self._released_of
        return sum(queued > released.get(stream_id, 0) for stream_id, queued in self._queued_of.items())

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write, sync and commit all that is queued, then end the thread. Open chunks stay unsealed."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join(0 if self.error is not None else STOP_MAX_S)
            self.abandon(VolumeError(f"{self.volume.root} did not answer for {STOP_MAX_S:.0f} s", reason="hung"))

    @property
    def alive(self) -> bool:
        """True while the thread runs, also one that was given up and still waits for its disk."""
        return self._thread.is_alive()

    def abandon(self, error: VolumeError) -> bool:
        """Give up a thread that waits for its disk. False when it does not wait, or the volume has failed already."""
        with self._fence:
            if self.error is not None or not self.busy_since_s:
                return False
            self.error = error
        self._finish(error)
        self._jobs.put(None)
        return True

    def refuse(self, error: VolumeError) -> None:
        """Let the volume fail with this error as soon as the thread comes to it: what it writes to is not ours."""
        self._jobs.put((self._raise, error, None, None))

    def open_chunk(self, head: ChunkHead, config: StreamConfig) -> OpenChunk:
        """Queue a new chunk file. CameraError when the configuration cannot be stored."""
        chunk = OpenChunk(head, config, chunk_path(self.volume.root, head.stream_name, head.start_us, head.sequence))
        self._jobs.put((self._create, chunk, None, None))
        return chunk

    def append(
        self,
        chunk: OpenChunk,
        fragment: Fragment,
        *,
        start_us: int,
        end_us: int,
        video_base_90k: int,
        audio_base: int,
        camera_us: int = 0,
        clock_us: int = 0,
        gap: Gap | None = None,
    ) -> bool:
        """Queue a fragment as the chunk's next. False, and nothing queued, at the bound or after `unsynced`."""
        if self.given or self._queued - self._released + fragment.memory_bytes > self.queue_bytes_max:
            return False
        head, number, offset = chunk.head, chunk.fragments + 1, chunk.size
        gap_start_us, gap_end_us, cause, packets = (0, 0, 0, 0)
        if gap is not None:
            gap_start_us, gap_end_us, cause, packets = gap.start_us, gap.end_us, gap.cause, gap.packets
        length = fragment.prepare(
            number=number, stream_id=head.stream_id, sequence=head.sequence, video_base_90k=video_base_90k,
            audio_base=audio_base, wall_us=start_us, end_us=end_us, camera_us=camera_us, clock_us=clock_us,
            gap_start_us=gap_start_us, gap_end_us=gap_end_us, gap_cause=cause, gap_packets=packets, seed=chunk._seed,
        )  # fmt: skip
        media_bytes = fragment.media_bytes
        record = FragmentStored(
            head.stream_id, head.sequence, number, offset, length, start_us, end_us, fragment.key,
            fragment.video_samples, media_bytes, fragment.lost_packets, gap,
        )  # fmt: skip
        chunk.video_base_90k = video_base_90k
        chunk.audio_base = audio_base or chunk.audio_base
        chunk.fragments = number
        chunk.size = offset + length
        chunk.end_us = end_us
        chunk.media_bytes += media_bytes
        self._queued += fragment.memory_bytes
        self._queued_of[head.stream_id] = self._queued_of.get(head.stream_id, 0) + fragment.memory_bytes
        self._jobs.put((self._write, chunk, fragment, record))
        return True

    def seal(self, chunk: OpenChunk) -> None:
        """Queue the chunk's end; it takes no more fragments."""
        self._jobs.put((self._seal, chunk, None, None))

    def unsynced(self) -> list[Held]:
        """After a failure: what never reached stable storage, in order, to be replayed on another volume."""
        self.given = True
        for chunk in self._drain():
            chunk.failed = True
        return list(self._lost)

    # ---- the thread's side ----

    def _run(self) -> None:
        try:
            self.busy_since_s = time.monotonic()
            self._root_handle = os.open(self.volume.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            Volume.open(self.volume.root, self.volume.id)
            self._answered()
            self._work()
        except _Abandoned:
            pass
        except VolumeError as error:
            self._fail(error)
        except OSError as error:
            self._fail(self._failure(error))
        except Exception as error:  # a fault of ours must not end recording in silence
            self._fail(VolumeError(f"{self.volume.root}: its writer stopped by a fault of its own: {error!r}"))
        finally:
            for chunk in [*self._open, *self._sealed]:
                _close(chunk)
            if self._root_handle >= 0:
                os.close(self._root_handle)

    def _work(self) -> None:
        due_s = time.monotonic() + self._sync_interval_s
        while True:
            job: Job | None
            try:
                job = self._jobs.get(timeout=max(0.0, due_s - time.monotonic()))
            except Empty:
                pass
            else:
                if job is None:
                    self._commit()
                    return
                self._do(job)
                if self._jobs.empty():
                    time.sleep(GATHER_S)
            now_s = time.monotonic()
            if now_s >= due_s or self._held_bytes >= self.queue_bytes_max // COMMIT_PARTS:
                self._commit()
                due_s = now_s + self._sync_interval_s

    def _do(self, job: Job) -> None:
        """One job; when the disk refuses it, what was written before is still made durable and told."""
        if job[2] is not None and job[3] is not None and isinstance(job[1], OpenChunk):
            self._held.append((job[1], job[2], job[3]))
        self.busy_since_s = time.monotonic()
        try:
            job[0](job[1], job[2], job[3])
        except OSError:
            refused = self._held.pop() if self._held and self._held[-1][1] is job[2] else None
            try:
                self._commit()
            finally:
                if refused is not None:
                    self._held.append(refused)
            raise
        self._answered()

    def _answered(self) -> None:
        with self._fence:
            if self.error is not None:
                raise _Abandoned
            self.busy_since_s = 0.0

    @staticmethod
    def _raise(error: VolumeError, _fragment: None, _record: None) -> None:
        raise error

    def _create(self, chunk: OpenChunk, _fragment: None, _record: None) -> None:
        path = chunk.path.relative_to(self.volume.root)
        try:
            chunk._handle = self._make(path)
        except FileNotFoundError:  # retention took the day away, empty, between the two steps
            chunk._handle = self._make(path)
        self._open.add(chunk)
        self._directories[path.parent] = None
        self._put(chunk, chunk._header, 0)
        self._records.append(ChunkOpened(chunk.head, chunk.config, len(chunk._header)))
        chunk._header = b""

    def _make(self, path: Path) -> int:
        for parent in (path.parent.parent, path.parent):
            with contextlib.suppress(FileExistsError):
                os.mkdir(parent, 0o750, dir_fd=self._root_handle)
                self._directories[parent.parent] = None
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(path, flags, 0o640, dir_fd=self._root_handle)

    def _write(self, chunk: OpenChunk, fragment: Fragment, record: FragmentStored) -> None:
        end = record.offset + record.length
        if end > chunk._allocated and self._can_preallocate:
            self._can_preallocate = preallocate(chunk._handle, record.offset, record.length + PREALLOCATE_BYTES)
            chunk._allocated = end + PREALLOCATE_BYTES
        self.written_bytes += fragment.write(chunk._handle, record.offset)
        chunk._table.add(fragment.table_record(record.offset), record.offset, key=record.key)
        self._dirty[chunk] = None
        self._held_bytes += fragment.memory_bytes
        self._records.append(record)

    def _seal(self, chunk: OpenChunk, _fragment: None, _record: None) -> None:
        footer = chunk._table.footer(chunk.head, chunk.size, chunk.end_us)
        self._put(chunk, footer, chunk.size)
        size = chunk.size + len(footer)
        os.ftruncate(chunk._handle, size)  # gives back what was preallocated
        self._records.append(ChunkSealed(chunk.head.stream_id, chunk.head.sequence, chunk.end_us, size, chunk.size))
        self._open.discard(chunk)
        self._sealed.append(chunk)

    def _put(self, chunk: OpenChunk, data: bytes, offset: int) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(chunk._handle, data[done:], offset + done)
        self.written_bytes += len(data)
        self._dirty[chunk] = None

    def _commit(self) -> None:
        """Make everything written so far durable, then tell."""
        if not self._dirty:
            return
        leaves = fragment_leaves([fragment for _, fragment, _ in self._held]) if self._witness is not None else []
        started_s = self.busy_since_s = time.monotonic()
        if SYNCFS_PROVES and len(self._dirty) > SYNC_EACH_MAX:
            syncfs(self._root_handle)
        else:
            for chunk in self._dirty:
                os.fdatasync(chunk._handle)
            for directory in self._directories:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                handle = os.open(directory, flags, dir_fd=self._root_handle)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        with self._fence:  # told or given up, never both
            if self.error is not None:
                raise _Abandoned
            records = self._told()
        self.last_sync_s = time.monotonic() - started_s
        self.syncs += 1
        self._on_commit(records)
        if self._witness is not None:
            self._witness(records, leaves)
        for chunk in self._dirty:
            _trim_cache(chunk)
        for chunk in self._sealed:
            _close(chunk)
        self._dirty.clear()
        self._directories.clear()
        self._sealed.clear()
        self._answered()

    def _told(self) -> list[StoredRecord]:
        """What is durable now; from here on it is nobody's to replay."""
        for chunk in self._dirty:
            chunk.durable_size = chunk.durable_size or chunk.header_size
        for chunk, fragment, record in self._held:
            chunk.durable_size = record.offset + record.length
            self._released_of[record.stream_id] = self._released_of.get(record.stream_id, 0) + fragment.memory_bytes
        records, self._records = self._records, []
        self._held.clear()
        self._released += self._held_bytes
        self._held_bytes = 0
        return records

    def _failure(self, error: OSError) -> VolumeError:
        text = f"{self.volume.root}: {error.strerror or error}; replace or repair the disk, its streams go on elsewhere"
        return VolumeError(text, reason=REASONS.get(error.errno or 0, "eio"))

    def _fail(self, error: VolumeError) -> None:
        """The volume is done."""
        with self._fence:
            if self.error is not None:
                return
            self.error = error
        self._finish(error)

    def _finish(self, error: VolumeError) -> None:
        """Say so once, with every chunk that has no end on stable storage; keep what was not told."""
        self._lost = list(self._held)
        held = (chunk for chunk, _, _ in self._lost)
        failed = list(dict.fromkeys([*self._sealed, *self._open, *held, *self._drain()]))
        for chunk in failed:
            chunk.failed = True
        self._on_failure(error, failed)

    def _drain(self) -> list[OpenChunk]:
        """Keep the fragments of jobs that will not be done; the chunks they were for."""
        chunks: list[OpenChunk] = []
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return chunks
            if job is not None and isinstance(job[1], OpenChunk):
                chunks.append(job[1])
                if job[2] is not None and job[3] is not None:
                    self._lost.append((job[1], job[2], job[3]))


def _close(chunk: OpenChunk) -> None:
    handle, chunk._handle = chunk._handle, -1
    if handle >= 0:
        os.close(handle)


def _trim_cache(chunk: OpenChunk) -> None:
    """Drop synced pages in large steps, but for the newest."""
    if chunk.size - chunk._cached_from >= CACHE_STEP_BYTES + CACHE_KEEP_BYTES:
        upto = chunk.size - CACHE_KEEP_BYTES
        drop_cached(chunk._handle, chunk._cached_from, upto - chunk._cached_from)
        chunk._cached_from = upto
