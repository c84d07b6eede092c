"""Open chunk files and their frame tables, shared by all readers of a process, bounded in bytes and in files.

Kept true: a chunk is found by its volume's identity and checked against the row that named it before any of it is
used; a table handed out never changes; a file stays open for as long as a reader holds it, evicted or not. Fragments
that failed their check are remembered here and left out of every later plan; those that a disk could not give for a
minute only, as the disk may have been away.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from base.errors import DamageError, IndexDamage, KeyreelError, VolumeError
from base.media import StreamConfig
from chunks.filesystem import read_once
from chunks.path import chunk_path
from chunks.reader import ChunkFile, FrameTable, head_of
from clips.lru import Lru
from clips.tables import Int64s
from index import ChunkRow, Snapshot
from index.suspect import PROVEN

Key = tuple[int, int]  # stream id, chunk sequence
FILES_MAX: Final = 512  # open at a time, of the usual limit of 1,024 per process
DAMAGED_MAX: Final = 65_536  # fragments remembered; past that they are found again when read
UNREADABLE_S: Final = 60.0
KEYS_BYTES_MAX: Final = 32 << 20  # of key-frame columns kept: some months of one stream
KEYS_CHUNKS_MAX: Final = 65_536
PREPARE_MIN: Final = 8  # fewer tables are not worth a thread


class KeyColumns(NamedTuple):
    """The key frames of a chunk: wall times, and bytes of each picture."""

    wall_us: Int64s
    size: Int64s


@dataclass(frozen=True, slots=True)
class OpenChunk:
    """One chunk as far as `row` promises it: the file, and the table of its durable fragments."""

    row: ChunkRow
    file: ChunkFile
    table: FrameTable

    def config(self, snapshot: Snapshot) -> StreamConfig:
        """The epoch's configuration, as index and chunk both say; `IndexDamage` when they do not."""
        known = snapshot.config(self.row.stream_id, self.row.epoch)
        if known != self.file.config:
            raise _contradiction(self.file, "another codec configuration")
        return known

    def read_fragment(self, i: int) -> bytes:
        """The i-th fragment's bytes, checked; `DamageError` if they are not what was written."""
        return self.file.read_fragment(i, self.table)


class ChunkStore:
    """Resolves index rows to open chunks. Safe to use from many threads."""

    def __init__(
        self, volumes: Mapping[bytes, Path], *, bytes_max: int = 256 << 20, files_max: int = FILES_MAX
    ) -> None:
        self._volumes = volumes
        self._open: Lru[Key, OpenChunk] = Lru(bytes_max, files_max)
        self._keys: Lru[Key, KeyColumns] = Lru(KEYS_BYTES_MAX, KEYS_CHUNKS_MAX)
        self._damaged: dict[tuple[int, int, int], float] = {}  # until when
        self._lock = threading.Lock()

    def open(self, stream_name: str, row: ChunkRow) -> OpenChunk:
        """The chunk of `row`, from memory or from its volume."""
        key = (row.stream_id, row.sequence)
        found = self._open.get(key)
        if found is not None and (found.row.size, found.row.sealed) == (row.size, row.sealed):
            return found
        if found is not None and not row.sealed:  # the same growing file, read further
            fresh = OpenChunk(row, found.file, found.file.table(upto=row.size))
        else:
            fresh = self._load(stream_name, row)
        self._open.put(key, fresh, fresh.table.nbytes)
        return fresh

    def prepare(self, stream_name: str, rows: Sequence[ChunkRow]) -> None:
        """Have the tables of a few chunks in memory before they are opened one by one, unpacked by two threads.

        Unpacking is half of a long clip's first byte and leaves the interpreter's lock alone. What fails here fails
        again, and is told, in `open`.
        """
        missing = [row for row in rows if (row.stream_id, row.sequence) not in self._open]

        def load(some: Sequence[ChunkRow]) -> None:
            for row in some:
                with suppress(KeyreelError):
                    self.open(stream_name, row)

        if len(missing) < PREPARE_MIN:
            return
        beside = threading.Thread(target=load, args=(missing[1::2],), name="chunk-tables", daemon=True)
        beside.start()
        load(missing[::2])
        beside.join()

    def key_frames(self, stream_name: str, row: ChunkRow) -> KeyColumns:
        """The chunk's key frames; those of a sealed chunk are kept beyond its table."""
        key = (row.stream_id, row.sequence)
        if row.sealed and (kept := self._keys.get(key)) is not None:
            return kept
        table = self.open(stream_name, row).table
        at = np.flatnonzero(table.key)
        found = KeyColumns(table.wall_us[at], table.video_size[table.video_first[at]].astype(np.int64))
        if row.sealed:
            self._keys.put(key, found, found.wall_us.nbytes + found.size.nbytes + 256)
        return found

    @property
    def roots(self) -> list[Path]:
        """Where volumes are mounted."""
        return list(self._volumes.values())

    def path(self, stream_name: str, row: ChunkRow) -> Path:
        """Where the chunk lies; `VolumeError` when its volume is not here."""
        root = self._volumes.get(row.volume)
        if root is None:
            raise VolumeError(
                f"chunk {row.sequence} of {stream_name} lies on volume {row.volume.hex()}, which is not part of this "
                "node; add the volume again or drop it from the index with a rebuild",
                reason="missing",
            )
        return chunk_path(root, stream_name, row.start_us, row.sequence)

    def fragment(self, chunk: OpenChunk, i: int) -> bytes:
        """The checked bytes of one fragment; a damaged one is remembered, so that the next plan leaves it out."""
        try:
            return chunk.read_fragment(i)
        except DamageError as error:
            self.note_damage(chunk.row, i, error)
            raise

    def note_damage(self, row: ChunkRow, i: int, error: DamageError) -> None:
        """Remember why the i-th fragment could not be read: for ever, or for a while where the disk may be at fault."""
        self.mark_damaged(row, i, UNREADABLE_S if error.reason == "eio" else math.inf)

    def mark_damaged(self, row: ChunkRow, i: int, for_s: float = math.inf) -> None:
        """Remember that the i-th fragment failed its check."""
        with self._lock:
            if len(self._damaged) < DAMAGED_MAX:
                self._damaged[row.stream_id, row.sequence, i] = time.monotonic() + for_s

    def damaged(self, row: ChunkRow) -> list[int]:
        """Fragments of a chunk known to be damaged, ascending."""
        now_s = time.monotonic()
        with self._lock:
            mine = [key for key in self._damaged if key[:2] == (row.stream_id, row.sequence)]
            for key in mine:
                if self._damaged[key] < now_s:
                    del self._damaged[key]
            return sorted(key[2] for key in mine if key in self._damaged)

    def damaged_times(self, row: ChunkRow) -> list[tuple[int, int]]:
        """Wall times of the fragments known to be damaged, if the chunk's table is in memory; no disk is touched."""
        bad = self.damaged(row)
        chunk = self._open.get((row.stream_id, row.sequence)) if bad else None
        if chunk is None:
            return []
        return [(int(chunk.table.wall_us[i]), int(chunk.table.end_us[i])) for i in bad if i < len(chunk.table)]

    def close(self) -> None:
        """Forget all; files close when their last reader lets go."""
        self._open.clear()
        self._keys.clear()

    @property
    def held_bytes(self) -> int:
        """Bytes of frame tables kept."""
        return self._open.held_bytes

    def _load(self, stream_name: str, row: ChunkRow) -> OpenChunk:
        path = self.path(stream_name, row)
        try:
            file = ChunkFile(path)
        except FileNotFoundError:
            _refuse_renamed(path, stream_name, row)
            raise VolumeError(f"{path} is gone; run `keyreel check`", reason="missing") from None
        except OSError as error:
            raise VolumeError(f"{path} cannot be opened: {error.strerror}; check the disk", reason="eio") from error
        read_once(file.fileno())  # clips of days must not push the index out of memory
        head = file.head
        if (head.stream_id, head.sequence) != (row.stream_id, row.sequence):
            raise DamageError(f"{path} holds another chunk than its name says; run `keyreel check`")
        for what in ("start_us", "epoch", "run", "origin_90k"):
            if getattr(head, what) != getattr(row, what):
                raise _contradiction(file, f"another {what}")
        table = file.table(upto=row.table_offset if row.sealed else row.size)
        if row.sealed and file.end not in (None, (row.size, row.table_offset, row.end_us)):
            raise _contradiction(file, "another end")
        if row.sealed and file.end is not None and _counts(table) != (row.fragments, row.samples, row.media_bytes):
            raise _contradiction(file, "other numbers of fragments, pictures or bytes")
        return OpenChunk(row, file, table)


def _counts(table: FrameTable) -> tuple[int, int, int]:
    """Fragments, pictures and media bytes of a chunk, as its row has them."""
    return len(table), len(table.video_size), int(table.media_bytes.sum())


def _contradiction(file: ChunkFile, what: str) -> IndexDamage:
    return IndexDamage(f"{file.path} has {what} than the index says; the recorder makes the index again", reason=PROVEN)


def _refuse_renamed(path: Path, stream_name: str, row: ChunkRow) -> None:
    """`IndexDamage` when the chunk lies on its volume at another time than the index says."""
    pattern = f"*/*Z-{row.sequence}.mp4"
    for other in path.parent.parent.glob(pattern):
        head = head_of(other)
        if head is not None and (head.stream_id, head.sequence) == (row.stream_id, row.sequence):
            raise IndexDamage(f"{other} is where the index has {path.name} of {stream_name}", reason=PROVEN)
