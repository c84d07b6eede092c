"""Everything that can be asked of the index, inside one transaction.

Kept true: answers of one snapshot agree with one another; a row that cannot be read raises `IndexDamage` and never
gives a wrong answer silently; what comes back stays valid after the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import lmdb
import msgspec
import numpy as np
import numpy.typing as npt

from base.errors import IndexDamage, NotFound, UserError
from base.media import StreamConfig
from chunks.records import Gap, GapCause
from index import schema
from index.register import Camera
from index.rows import ChunkRow, KeyFrame, StreamEnd, StreamRow, Timeline
from index.schema import CHUNK, GAP, OPEN_CHUNK, SEQUENCE_KEY, START, STREAM_KEY, TIME_KEY, TIME_MAX_US, Handles
from index.spans import JOIN_US, join_spans, subtract
from native import keyblock
from native.extents import extents

if TYPE_CHECKING:
    from lmdb import _Database as Database

Times = npt.NDArray[np.int64]

GROWING_AT = OPEN_CHUNK.size  # where START and the growing block begin in an open chunk's row
SEQUENCE_MAX = 2**32 - 1
_CAUSES = {int(cause): cause for cause in GapCause}  # a look-up is a third of what GapCause(number) takes


class Snapshot:
    """A consistent view of the index; belongs to the thread and the block that `Index.read()` gave it to."""

    def __init__(self, txn: lmdb.Transaction[bytes], databases: Handles) -> None:
        self._txn = txn
        self._db = databases
        self._key_frames = txn.cursor(databases.key_frames)
        self._open = txn.cursor(databases.open)

    # --- identity and register

    def node(self) -> bytes | None:
        """Id of the node whose index this is, when it was told."""
        return self._txn.get(schema.META_NODE, db=self._db.meta)

    def register_version(self) -> int:
        """Grows with every change of the camera register."""
        return self._number(schema.META_REGISTER, 0)

    def is_whole(self) -> bool:
        """Every chunk that lay on a volume when the index was made is in it."""
        return self._txn.get(schema.META_INCOMPLETE, db=self._db.meta) is None

    def is_read_in(self) -> bool:
        """Those on the volumes that are there; on others there may be chunks that the index lacks."""
        return self._txn.get(schema.META_INCOMPLETE, db=self._db.meta) in (None, schema.VOLUMES_AWAY)

    def cameras(self) -> list[Camera]:
        """The register, by camera id."""
        with self._txn.cursor(self._db.cameras) as cursor:
            return [self._camera(key, value) for key, value in cursor.iternext()]

    def camera(self, camera_id: str) -> Camera | None:
        """One camera of the register."""
        key = camera_id.encode()
        value = self._txn.get(key, db=self._db.cameras) if key else None
        return None if value is None else self._camera(key, value)

    def streams(self) -> list[StreamRow]:
        """All streams that ever were, by name."""
        with self._txn.cursor(self._db.stream_names) as cursor:
            return [StreamRow(STREAM_KEY.unpack(value)[0], name.decode()) for name, value in cursor.iternext()]

    def stream(self, name: str) -> StreamRow | None:
        """The stream of that name."""
        key = name.encode()
        if not 0 < len(key) <= schema.STREAM_NAME_BYTES_MAX:
            return None
        value = self._txn.get(key, db=self._db.stream_names)
        return None if value is None else StreamRow(STREAM_KEY.unpack(value)[0], name)

    def stream_by_id(self, stream_id: int) -> StreamRow | None:
        """The stream with that id."""
        name = self._txn.get(STREAM_KEY.pack(stream_id), db=self._db.streams)
        return None if name is None else StreamRow(stream_id, name.decode())

    # --- chunks

    def chunk(self, stream_id: int, sequence: int) -> ChunkRow | None:
        """The chunk of that sequence number, sealed or open."""
        start = self._txn.get(SEQUENCE_KEY.pack(stream_id, sequence), db=self._db.sequences)
        if start is None:
            return None
        key = TIME_KEY.pack(stream_id, START.unpack(start)[0])
        value = self._txn.get(key, db=self._db.chunks)
        if value is None:
            raise IndexDamage(f"index: chunk {sequence} of stream {stream_id} has no row; run keyreel rebuild")
        return self._chunk_row(key, value)

    def chunk_at(self, stream_id: int, time_us: int) -> ChunkRow | None:
        """The chunk with stored pictures whose [start, end) contains the time."""
        found = self.chunks(stream_id, time_us, time_us + 1)
        return found[0] if found else None

    def chunks(self, stream_id: int, start_us: int, end_us: int) -> list[ChunkRow]:
        """Chunks with stored pictures that overlap [start_us, end_us), in time order."""
        return list(self._chunks(stream_id, start_us, end_us))

    def chunks_from(self, stream_id: int, start_us: int) -> Iterator[ChunkRow]:
        """Chunks that begin at or after a time, one by one: only what is taken is read."""
        for key, value in self._time_rows(self._db.chunks, stream_id, start_us, TIME_MAX_US):
            row = self._chunk_row(key, value)
            if row.start_us >= start_us:
                yield row

    def damage(self, chunk: ChunkRow) -> list[tuple[int, int]]:
        """What is declared damaged inside a chunk, ascending."""
        found = self._gaps(chunk.stream_id, chunk.start_us, max(chunk.end_us, chunk.start_us + 1))
        return [
            (gap.start_us, gap.end_us)
            for gap in found
            if gap.cause is GapCause.DAMAGE and chunk.start_us <= gap.start_us < max(chunk.end_us, chunk.start_us + 1)
        ]

    def last_chunk(self, stream_id: int) -> ChunkRow | None:
        """The chunk with the highest sequence number, even if nothing is stored in it yet."""
        with self._txn.cursor(self._db.sequences) as cursor:
            row = row_before(cursor, _after_all(stream_id))
        return None if row is None else self.chunk(stream_id, SEQUENCE_KEY.unpack(row[0])[1])

    def first_sequence(self, stream_id: int) -> int:
        """The lowest sequence number the index knows of a stream; 0 when it knows none."""
        with self._txn.cursor(self._db.sequences) as cursor:
            key = cursor.key() if cursor.set_range(SEQUENCE_KEY.pack(stream_id, 0)) else b""
        is_row = len(key) == SEQUENCE_KEY.size and key[:4] == STREAM_KEY.pack(stream_id)
        return SEQUENCE_KEY.unpack(key)[1] if is_row else 0

    def knows(self, stream_id: int, sequence: int) -> bool:
        """There is a chunk of that sequence number, or there was one whose file is about to be deleted."""
        key = SEQUENCE_KEY.pack(stream_id, sequence)
        found = self._txn.get(key, db=self._db.sequences) or self._txn.get(key, db=self._db.garbage)
        return found is not None

    def end(self, stream_id: int) -> StreamEnd:
        """Where the stream ended when its last chunk was deleted; zeros when that never was."""
        raw = self._txn.get(STREAM_KEY.pack(stream_id), db=self._db.ends)
        return StreamEnd() if raw is None else StreamEnd._make(schema.END.unpack(raw))

    def open_chunks(self) -> list[ChunkRow]:
        """Every chunk that is not sealed, by stream and sequence."""
        keys = [SEQUENCE_KEY.unpack(key) for key in self._open.iternext(values=False)] if self._open.first() else []
        found = (self.chunk(stream_id, sequence) for stream_id, sequence in keys)
        return [row for row in found if row is not None]

    def config(self, stream_id: int, epoch: int) -> StreamConfig:
        """The codec configuration of one epoch."""
        raw = self._txn.get(SEQUENCE_KEY.pack(stream_id, epoch), db=self._db.epochs)
        if raw is None:
            raise NotFound(f"stream {stream_id} has no epoch {epoch} in the index; run keyreel check")
        try:
            return msgspec.msgpack.decode(raw, type=StreamConfig)
        except msgspec.DecodeError as error:
            raise IndexDamage(
                f"index: configuration of stream {stream_id}, epoch {epoch} is damaged ({error}); run keyreel rebuild"
            ) from None

    def next_sequence(self, stream_id: int) -> int:
        """The sequence number for the stream's next chunk."""
        last, end = self.last_chunk(stream_id), self.end(stream_id)
        return max(end.sequence, last.sequence if last is not None else 0) + 1

    def next_epoch(self, stream_id: int) -> int:
        """The number for the stream's next epoch."""
        with self._txn.cursor(self._db.epochs) as cursor:
            row = row_before(cursor, _after_all(stream_id))
        return 1 if row is None else int(SEQUENCE_KEY.unpack(row[0])[1]) + 1

    def next_run(self, stream_id: int) -> int:
        """The number for the stream's next camera session."""
        last, end = self.last_chunk(stream_id), self.end(stream_id)
        return max(end.run, last.run if last is not None else 0) + 1

    # --- key frames

    def seek(self, stream_id: int, time_us: int) -> KeyFrame | None:
        """The last key frame at or before the time."""
        try:
            hit = keyblock.seek_floor(
                self._key_frames, self._open, GROWING_AT, stream_id, min(time_us, TIME_MAX_US - 1)
            )
        except ValueError as error:
            raise _damage(stream_id, error) from None
        return None if hit is None else KeyFrame._make(hit)

    def seek_next(self, stream_id: int, time_us: int) -> KeyFrame | None:
        """The first key frame at or after the time."""
        for start_us, block in self._blocks(stream_id, time_us, TIME_MAX_US):
            try:
                hit = keyblock.ceiling(block, start_us, _bounded(time_us))
            except ValueError as error:
                raise _damage(stream_id, error) from None
            if hit is not None:
                return KeyFrame._make(hit)
        return None

    def seek_many(self, stream_ids: Iterable[int], time_us: int) -> list[KeyFrame | None]:
        """`seek` of many streams at one instant, in the order given."""
        ids = list(stream_ids)
        try:
            hits = keyblock.seek_many(self._key_frames, self._open, GROWING_AT, ids, _bounded(time_us))
        except ValueError as error:
            raise IndexDamage(f"index: {error}; run keyreel rebuild") from None
        return [None if hit is None else KeyFrame._make(hit) for hit in hits]

    def key_frames(self, stream_id: int, start_us: int, end_us: int) -> npt.NDArray[Any]:
        """Key frames with start_us ≤ time < end_us as an array of (time_us, sequence, offset), ascending."""
        blocks = list(self._blocks(stream_id, start_us, end_us))
        try:
            frames = np.empty(sum(keyblock.count(block) for _, block in blocks), schema.KEY_FRAME_DTYPE)
            at = 0
            for begin_us, block in blocks:
                at = keyblock.decode_into(block, begin_us, frames["time_us"], frames["sequence"], frames["offset"], at)
        except ValueError as error:
            raise _damage(stream_id, error) from None
        first, after = np.searchsorted(frames["time_us"], [_bounded(start_us), _bounded(end_us)])
        return frames[first:after]

    # --- time

    def gaps(self, stream_id: int, start_us: int, end_us: int) -> list[Gap]:
        """Declared gaps that overlap [start_us, end_us), whole, ascending and disjoint."""
        return list(self._gaps(stream_id, start_us, end_us))

    def timeline(self, stream_id: int, start_us: int, end_us: int, resolution_us: int = 0) -> Timeline:
        """Spans and gaps inside [start_us, end_us).

        With a resolution, spans and gaps nearer to each other than it are joined, so the answer has at most
        (end - start) / resolution of each; a joined gap has the cause of the longest.
        """
        starts, ends = self._extents(stream_id, start_us, end_us)
        gaps = self.gaps(stream_id, start_us, end_us)
        spans = subtract(join_spans(starts, ends, JOIN_US), gaps)
        clipped = [(max(start, start_us), min(end, end_us)) for start, end in spans]
        spans = [(start, end) for start, end in clipped if start < end]
        found = Timeline(spans, gaps, self.durable_until(stream_id))
        return found.coarser(resolution_us) if resolution_us > 0 else found

    def durable_until(self, stream_id: int) -> int:
        """Up to here everything recorded, or declared a gap, is on stable storage; 0 when there is nothing."""
        until_us = self._last_end(stream_id)
        for sequence in self._open_sequences(stream_id):  # ascending; all but the newest were left unsealed
            row = self.chunk(stream_id, sequence)
            if row is not None and row.end_us < until_us and not self._goes_on(row):
                return row.end_us
        return until_us

    # --- inside

    def _number(self, name: bytes, default: int) -> int:
        raw = self._txn.get(name, db=self._db.meta)
        if raw is not None and not raw.isdigit():
            raise IndexDamage(f"index: {name.decode()} in meta is not a number; run keyreel rebuild")
        return default if raw is None else int(raw)

    def _camera(self, key: bytes, value: bytes) -> Camera:
        try:
            return msgspec.json.decode(value, type=Camera)
        except (msgspec.DecodeError, msgspec.ValidationError, UserError):
            raise IndexDamage(f"index: the row of camera {key.decode()} is damaged; run keyreel rebuild") from None

    def _time_rows(self, db: Database, stream_id: int, start_us: int, end_us: int) -> Iterator[tuple[bytes, bytes]]:
        """Rows of one stream with start < end_us, from the last one that starts at or before start_us."""
        after, stop = self._bounds(stream_id, start_us, end_us)
        with self._txn.cursor(db) as cursor:
            if row_before(cursor, after) is None and not cursor.set_range(after):
                return
            for row in cursor.iternext():
                if row[0] >= stop:
                    return
                yield row

    @staticmethod
    def _bounds(stream_id: int, start_us: int, end_us: int) -> tuple[bytes, bytes]:
        """Keys between which the rows of [start_us, end_us) lie, but for the one that began before."""
        after, stop = max(_bounded(start_us), 0) + 1, max(_bounded(end_us), 0)
        return TIME_KEY.pack(stream_id, after), TIME_KEY.pack(stream_id, stop)

    def _chunks(self, stream_id: int, start_us: int, end_us: int) -> Iterator[ChunkRow]:
        for key, value in self._time_rows(self._db.chunks, stream_id, start_us, end_us):
            row = self._chunk_row(key, value)
            if row.end_us > start_us and row.fragments:
                yield row

    def _chunk_row(self, key: bytes, value: bytes) -> ChunkRow:
        stream_id, start_us = TIME_KEY.unpack(key)
        sequence, epoch, run, flags, volume, end_us, size, origin_90k, samples, fragments, media_bytes, table_offset = (
            CHUNK.unpack(value)
        )
        is_sealed = bool(flags & schema.CHUNK_SEALED)
        if not is_sealed:
            state = self._txn.get(SEQUENCE_KEY.pack(stream_id, sequence), db=self._db.open)
            if state is None:
                raise IndexDamage(
                    f"index: open chunk {sequence} of stream {stream_id} has no state; run keyreel rebuild"
                )
            _, end_us, size, media_bytes, samples, fragments, _ = OPEN_CHUNK.unpack_from(state)
        if not start_us <= end_us < schema.TIME_SANE_US:
            raise IndexDamage(
                f"index: chunk {sequence} of stream {stream_id} has no possible times; run keyreel rebuild"
            )
        return ChunkRow(
            stream_id, sequence, epoch, run, volume, start_us, end_us, size, is_sealed, origin_90k, samples, fragments,
            media_bytes, table_offset,
        )  # fmt: skip

    def _open_sequences(self, stream_id: int) -> list[int]:
        prefix, sequences = STREAM_KEY.pack(stream_id), []
        if self._open.set_range(prefix):
            for key in self._open.iternext(values=False):
                if not key.startswith(prefix):
                    break
                sequences.append(int(SEQUENCE_KEY.unpack(key)[1]))
        return sequences

    def _growing(self, stream_id: int) -> tuple[int, bytes] | None:
        """Start and bytes of the block that the stream's newest open chunk still grows."""
        row = row_before(self._open, _after_all(stream_id))
        if row is None or len(row[1]) <= GROWING_AT + START.size:
            return None
        return START.unpack_from(row[1], GROWING_AT)[0], row[1][GROWING_AT + START.size :]

    def _blocks(self, stream_id: int, start_us: int, end_us: int) -> Iterator[tuple[int, bytes]]:
        """(start, block) in time order, from the one that holds the last key frame at or before start_us."""
        last_us = -1
        for key, block in self._time_rows(self._db.key_frames, stream_id, start_us, end_us):
            last_us = TIME_KEY.unpack(key)[1]
            yield last_us, block
        growing = self._growing(stream_id)
        if growing is not None and last_us < growing[0] < end_us:
            yield growing

    def _gaps(self, stream_id: int, start_us: int, end_us: int) -> Iterator[Gap]:
        for key, value in self._time_rows(self._db.gaps, stream_id, start_us, end_us):
            gap_start_us, (gap_end_us, cause, packets) = TIME_KEY.unpack(key)[1], GAP.unpack(value)
            known = _CAUSES.get(cause)
            if known is None:
                raise IndexDamage(f"index: a gap of stream {stream_id} has no cause; run keyreel rebuild")
            if gap_end_us > start_us:
                yield Gap(stream_id, gap_start_us, gap_end_us, known, packets)

    def _extents(self, stream_id: int, start_us: int, end_us: int) -> tuple[Times, Times]:
        """Starts and ends of the chunks that may overlap the range, as arrays."""
        after, stop = self._bounds(stream_id, start_us, end_us)
        with self._txn.cursor(self._db.chunks) as cursor:
            if row_before(cursor, after) is None and not cursor.set_range(after):
                return np.empty(0, np.int64), np.empty(0, np.int64)
            try:
                starts, ends, unsealed = extents(cursor.iternext(), stop)
            except ValueError as error:
                raise _damage(stream_id, error) from None
        for i, key, value in unsealed:
            ends[i] = self._chunk_row(key, value).end_us
        return starts, ends

    def _last_end(self, stream_id: int) -> int:
        """End of the last stored picture."""
        with self._txn.cursor(self._db.chunks) as cursor:
            row = row_before(cursor, TIME_KEY.pack(stream_id, TIME_MAX_US))
            while row is not None:
                chunk = self._chunk_row(*row)
                if chunk.fragments:
                    return chunk.end_us
                row = row_before(cursor, row[0])
        return 0

    def _goes_on(self, chunk: ChunkRow) -> bool:
        """Whether the footage after this chunk joins it, or a declared gap explains why not."""
        after = next(self._chunks(chunk.stream_id, chunk.end_us, TIME_MAX_US), None)
        if after is None or after.start_us - chunk.end_us <= JOIN_US:
            return True
        hole = [(chunk.end_us, after.start_us)]
        rest = subtract(hole, self.gaps(chunk.stream_id, chunk.end_us, after.start_us))
        return sum(end - start for start, end in rest) <= JOIN_US


def _bounded(time_us: int) -> int:
    """The time, or the nearest one that the index can hold."""
    return min(max(time_us, -1), TIME_MAX_US - 1)


def _after_all(stream_id: int) -> bytes:
    """A key behind every (stream, number) of this stream and before every one of the next."""
    return SEQUENCE_KEY.pack(stream_id, SEQUENCE_MAX) + b"\0"


def row_before(cursor: lmdb.Cursor[bytes], key: bytes) -> tuple[bytes, bytes] | None:
    """The last row before `key` that is of the same stream; the cursor stands on it."""
    found = cursor.prev() if cursor.set_range(key) else cursor.last()
    if not found:
        return None
    row = cursor.item()
    return row if row[0][:4] == key[:4] and len(row[0]) >= schema.ROW_KEY_BYTES_MIN else None


def _damage(stream_id: int, error: ValueError) -> IndexDamage:
    return IndexDamage(f"index: stream {stream_id}: {error}; run keyreel rebuild")
