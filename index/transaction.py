"""The only code that writes rows: stored media, streams and the camera register.

Kept true: applying the same record again changes nothing, in whatever order batches come; ids of streams are never
given out twice; a key frame is always either among the key-frame rows or in the growing block of its stream's newest
chunk, so a seek has two places to look at and no more; gaps of one stream never overlap, the first told stays.

What changes every second (size and end of a growing chunk, its newest key frames) lies in the rows of the `open`
database, which fill few pages; a commit of 2,000 streams would otherwise rewrite 2,000 pages scattered over the index.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import lmdb
import msgspec

from base.errors import DamageError, IndexDamage, NotFound, UserError
from base.media import StreamConfig
from chunks.records import ChunkHead, ChunkOpened, ChunkSealed, FragmentStored, Gap, GapCause, StoredRecord
from chunks.summary import ChunkSummary
from index import holds, register, schema
from index.expire import count_usage
from index.register import Camera, RegisterCopy
from index.rows import ChunkRow, StreamRow
from index.schema import (
    CHUNK,
    GAP,
    OPEN_CHUNK,
    SEQUENCE_KEY,
    START,
    STREAM_KEY,
    TIME_KEY,
    TIME_MAX_US,
    USAGE_KEY,
    Handles,
)
from index.snapshot import GROWING_AT, Snapshot
from index.spans import subtract
from native import keyblock

if TYPE_CHECKING:
    from lmdb import _Database as Database


class _Growth(NamedTuple):
    """Row of an open chunk."""

    start_us: int
    end_us: int
    size: int
    media_bytes: int
    samples: int
    fragments: int
    flags: int
    block_us: int
    block: bytes

    def pack(self) -> bytes:
        return OPEN_CHUNK.pack(*self[:7]) + START.pack(self.block_us) + self.block

    @classmethod
    def unpack(cls, row: bytes) -> _Growth:
        block_us = START.unpack_from(row, GROWING_AT)[0]
        return cls._make((*OPEN_CHUNK.unpack_from(row), block_us, row[GROWING_AT + START.size :]))


class Transaction(Snapshot):
    """A snapshot that can be changed; everything is kept or nothing is."""

    def __init__(self, txn: lmdb.Transaction[bytes], databases: Handles) -> None:
        super().__init__(txn, databases)
        self._register_changed = False

    # --- stored media

    def apply(self, records: Iterable[StoredRecord]) -> None:
        """Take in what the chunk writer, or a scan of chunk files, reports; idempotent."""
        for chunk, group in groupby(records, _chunk_of):
            if chunk is None:
                for record in group:
                    if isinstance(record, ChunkOpened):
                        self._open_chunk(record)
                    elif isinstance(record, ChunkSealed):
                        self._seal(record)
                    elif isinstance(record, Gap):
                        self._declare(record)
            else:
                self._store(*chunk, [record for record in group if isinstance(record, FragmentStored)])

    def take_in(self, chunk: ChunkSummary, volume: bytes) -> bool:
        """Take in a chunk that lies on `volume` whole; False when the index knows it already."""
        stream_id, sequence = chunk.head.stream_id, chunk.head.sequence
        if self.knows(stream_id, sequence):
            return False
        self._open_chunk(ChunkOpened(replace(chunk.head, volume=volume), chunk.config, chunk.header_bytes))
        growth = self._growth(stream_id, sequence)
        if growth is not None and chunk.fragments:
            keys = [(_valid_time(time_us), offset) for time_us, offset in chunk.keys]
            full, (block_us, block) = self._blocks_of(stream_id, sequence, growth, keys)
            for full_us, full_block in full:
                self._put_block(stream_id, full_us, full_block)
            size = chunk.table_offset or chunk.size
            grown = _Growth(
                growth.start_us, chunk.end_us, size, chunk.media_bytes, chunk.samples, chunk.fragments, growth.flags,
                block_us, block,
            )  # fmt: skip
            self._put_growth(stream_id, sequence, grown)
            for gap in chunk.gaps:
                self._declare(gap)
        if chunk.sealed:
            self._seal(ChunkSealed(stream_id, sequence, chunk.end_us, chunk.size, chunk.table_offset))
        return True

    def _open_chunk(self, record: ChunkOpened) -> None:
        head = record.head
        if self._txn.get(SEQUENCE_KEY.pack(head.stream_id, head.sequence), db=self._db.sequences) is not None:
            self._expect_same(head)
            return
        if self.knows(head.stream_id, head.sequence):
            return  # condemned, and told again
        self.register_stream(head.stream_id, head.stream_name)
        self._put_config(head.stream_id, head.epoch, record.config)
        key = TIME_KEY.pack(head.stream_id, _valid_time(head.start_us))
        last = self.last_chunk(head.stream_id)
        row = CHUNK.pack(
            head.sequence, head.epoch, head.run, 0, head.volume, head.start_us, record.size, head.origin_90k, 0, 0, 0, 0
        )  # fmt: skip
        if not self._txn.put(key, row, db=self._db.chunks, overwrite=False):
            raise DamageError(
                f"index: chunk {head.sequence} of {head.stream_name} starts at {head.start_us}, as another chunk does"
            )
        sequence_key = SEQUENCE_KEY.pack(head.stream_id, head.sequence)
        self._txn.put(sequence_key, START.pack(head.start_us), db=self._db.sequences)
        is_newest = last is None or last.sequence < head.sequence
        growth = _Growth(
            head.start_us, head.start_us, record.size, 0, 0, 0, 0 if is_newest else schema.OPEN_SUPERSEDED, 0, b""
        )
        if is_newest:
            self._supersede(head.stream_id)
        self._txn.put(sequence_key, growth.pack(), db=self._db.open)
        if head.gap_start_us:
            self._declare(Gap(head.stream_id, head.gap_start_us, head.start_us, head.gap_cause))

    def _expect_same(self, head: ChunkHead) -> None:
        row = self.chunk(head.stream_id, head.sequence)
        if row is None or (row.start_us, row.volume) != (head.start_us, head.volume):
            raise DamageError(
                f"two chunks of {head.stream_name} have the sequence {head.sequence}: one starts at {head.start_us} on "
                f"volume {head.volume.hex()}, the index knows another; keep one of the files and run keyreel rebuild"
            )

    def _supersede(self, stream_id: int) -> None:
        """A newer chunk begins: growing blocks of the stream move to where late fragments may still extend them."""
        for sequence in self._open_sequences(stream_id):
            growth = self._growth(stream_id, sequence)
            if growth is not None and not growth.flags & schema.OPEN_SUPERSEDED:
                self._put_growth(stream_id, sequence, growth._replace(flags=growth.flags | schema.OPEN_SUPERSEDED))

    def _growth(self, stream_id: int, sequence: int) -> _Growth | None:
        row = self._txn.get(SEQUENCE_KEY.pack(stream_id, sequence), db=self._db.open)
        return None if row is None else _Growth.unpack(row)

    def _put_growth(self, stream_id: int, sequence: int, growth: _Growth) -> None:
        if growth.flags & schema.OPEN_SUPERSEDED and growth.block:
            self._put_block(stream_id, growth.block_us, growth.block)
        self._txn.put(SEQUENCE_KEY.pack(stream_id, sequence), growth.pack(), db=self._db.open)

    @staticmethod
    def _blocks_of(
        stream_id: int, sequence: int, growth: _Growth, keys: list[tuple[int, int]]
    ) -> tuple[list[tuple[int, bytes]], tuple[int, bytes]]:
        """The growing block with more key frames: full ones, and the one that goes on growing."""
        if not keys:
            return [], (growth.block_us, growth.block)
        try:
            *full, last = keyblock.extend(sequence, growth.block_us, growth.block, keys)
        except ValueError as error:
            raise DamageError(f"index: stream {stream_id}, chunk {sequence}: {error}") from None
        return full, last

    def _put_block(self, stream_id: int, start_us: int, block: bytes) -> None:
        self._txn.put(TIME_KEY.pack(stream_id, start_us), block, db=self._db.key_frames)

    def _store(self, stream_id: int, sequence: int, fragments: list[FragmentStored]) -> None:
        growth = self._growth(stream_id, sequence)
        if growth is None:
            if not self.knows(stream_id, sequence):
                raise _unknown(stream_id, sequence)
            return  # sealed: all its fragments are in
        fresh = [fragment for fragment in fragments if fragment.number > growth.fragments]
        if not fresh:
            return
        last = fresh[-1]
        block_us, block = growth.block_us, growth.block
        keys = [(_valid_time(fragment.start_us), fragment.offset) for fragment in fresh if fragment.key]
        if keys:
            full, (block_us, block) = self._blocks_of(stream_id, sequence, growth, keys)
            for full_us, full_block in full:
                self._put_block(stream_id, full_us, full_block)
        self._put_growth(
            stream_id,
            sequence,
            _Growth(
                growth.start_us,
                max(growth.end_us, last.end_us),
                last.offset + last.length,
                growth.media_bytes + sum([fragment.media_bytes for fragment in fresh]),
                growth.samples + sum([fragment.samples for fragment in fresh]),
                last.number,
                growth.flags,
                block_us,
                block,
            ),
        )
        for fragment in fresh:
            if fragment.gap is not None:
                self._declare(fragment.gap)

    def _seal(self, record: ChunkSealed) -> None:
        growth = self._growth(record.stream_id, record.sequence)
        if growth is None:
            if not self.knows(record.stream_id, record.sequence):
                raise _unknown(record.stream_id, record.sequence)
            return
        if growth.block:
            self._put_block(record.stream_id, growth.block_us, growth.block)
        key = TIME_KEY.pack(record.stream_id, growth.start_us)
        opened = self._txn.get(key, db=self._db.chunks)
        if opened is None:
            raise IndexDamage(f"index: chunk {record.sequence} of stream {record.stream_id} has no row")
        sequence, epoch, run, flags, volume, _, _, origin_90k, *_ = CHUNK.unpack(opened)
        row = CHUNK.pack(
            sequence, epoch, run, flags | schema.CHUNK_SEALED, volume, max(growth.end_us, record.end_us), record.size,
            origin_90k, growth.samples, growth.fragments, growth.media_bytes, record.table_offset,
        )  # fmt: skip
        self._txn.put(key, row, db=self._db.chunks)
        self._txn.delete(SEQUENCE_KEY.pack(record.stream_id, record.sequence), db=self._db.open)
        self._count_usage(self._chunk_row(key, row), 1)

    def _count_usage(self, row: ChunkRow, sign: int) -> None:
        """A sealed chunk came (1) or went (-1)."""
        key = USAGE_KEY.pack(row.stream_id, row.volume)
        counted = count_usage(self._txn.get(key, db=self._db.usage), row, sign)
        self._txn.put(key, counted, db=self._db.usage)

    def _declare(self, gap: Gap) -> None:
        """Add a gap where none is declared yet; one that is told again with a later end grows."""
        if gap.end_us <= gap.start_us:
            return
        at_us = _valid_time(gap.start_us)
        known = self.gaps(gap.stream_id, at_us, _valid_time(gap.end_us))
        for start_us, end_us in subtract([(at_us, gap.end_us)], known):
            grows = any((old.start_us, old.end_us, old.cause) == (at_us, start_us, gap.cause) for old in known)
            key = TIME_KEY.pack(gap.stream_id, at_us if grows else start_us)
            self._txn.put(key, GAP.pack(end_us, gap.cause, gap.packets), db=self._db.gaps)

    def declare_damage(self, chunk: ChunkRow, ranges: Iterable[tuple[int, int]]) -> None:
        """Let these ranges of a chunk, and no others, be gaps of cause damage; nothing of one that is no more."""
        if self.chunk(chunk.stream_id, chunk.sequence) != chunk:
            return
        for start_us, _ in self.damage(chunk):
            self._txn.delete(TIME_KEY.pack(chunk.stream_id, start_us), db=self._db.gaps)
        for start_us, end_us in ranges:
            self._declare(Gap(chunk.stream_id, start_us, end_us, GapCause.DAMAGE))

    def _put_config(self, stream_id: int, epoch: int, config: StreamConfig) -> None:
        key, row = SEQUENCE_KEY.pack(stream_id, epoch), msgspec.msgpack.encode(config)
        if not self._txn.put(key, row, db=self._db.epochs, overwrite=False) and self.config(stream_id, epoch) != config:
            raise DamageError(f"index: stream {stream_id}: epoch {epoch} has two different codec configurations")

    # --- streams and cameras

    def ensure_stream(self, name: str) -> StreamRow:
        """The stream of that name, made with a new id when there is none."""
        found = self.stream(name)
        if found is not None:
            return found
        if not 0 < len(name.encode()) <= schema.STREAM_NAME_BYTES_MAX:
            raise UserError(f"stream name {name[:32]!r} must have 1 to {schema.STREAM_NAME_BYTES_MAX} bytes")
        row = StreamRow(self._number(schema.META_NEXT_STREAM, 1), name)
        self.register_stream(row.id, name)
        return row

    def put_camera(self, camera: Camera) -> None:
        """Add the camera, or change it; its streams get their ids."""
        for name in camera.stream_names():
            self.ensure_stream(name)
        self._txn.put(camera.id.encode(), msgspec.json.encode(camera), db=self._db.cameras)
        self._count_change()

    def remove_camera(self, camera_id: str) -> None:
        """Take the camera off the register; its streams and all that was recorded stay."""
        if not camera_id or not self._txn.delete(camera_id.encode(), db=self._db.cameras):
            raise NotFound(f"there is no camera {camera_id[:64]!r}; keyreel camera list shows them")
        self._count_change()

    def set_whole(self, *, read_in: bool = True, complete: bool = True) -> None:
        """Say whether chunks are still to be read in, and whether all volumes they may lie on are there."""
        if read_in and complete:
            self._txn.delete(schema.META_INCOMPLETE, db=self._db.meta)
        else:
            word = schema.VOLUMES_AWAY if read_in else schema.READING_IN
            self._txn.put(schema.META_INCOMPLETE, word, db=self._db.meta)

    def restore_register(self, copy: RegisterCopy) -> None:
        """Take in a copy of the register; used when an index is made again."""
        for name, stream_id in copy.streams.items():
            self.register_stream(stream_id, name)
        if copy.next_stream > self._number(schema.META_NEXT_STREAM, 1):
            self._put_number(schema.META_NEXT_STREAM, copy.next_stream)
        for camera in copy.cameras:
            self.put_camera(camera)
        holds.restore(self, copy.holds, copy.next_hold)
        self._put_number(schema.META_REGISTER, max(copy.version, self.register_version()) + 1)

    def finish(self) -> RegisterCopy | None:
        """Before the commit: the new copy of the register when streams, cameras or holds changed."""
        if not self._register_changed:
            return None
        return RegisterCopy(
            format=register.FORMAT_VERSION,
            version=self.register_version(),
            next_stream=self._number(schema.META_NEXT_STREAM, 1),
            streams={row.name: row.id for row in self.streams()},
            cameras=self.cameras(),
            holds=holds.holds(self),
            next_hold=holds.next_hold(self),
        )

    def register_stream(self, stream_id: int, name: str) -> None:
        """Give a stream the id that chunks or the register's copy know it by."""
        key = STREAM_KEY.pack(stream_id)
        known = self._txn.get(key, db=self._db.streams)
        if known == name.encode():
            return
        if known is not None or not self._txn.put(name.encode(), key, db=self._db.stream_names, overwrite=False):
            raise DamageError(
                f"index: stream id {stream_id} and name {name!r} already belong to other streams; "
                "chunks of two nodes cannot share one index"
            )
        self._txn.put(key, name.encode(), db=self._db.streams)
        for database in (self._db.chunks, self._db.sequences, self._db.key_frames):
            self._begin_page(database, key)
        if stream_id >= self._number(schema.META_NEXT_STREAM, 1):
            self._put_number(schema.META_NEXT_STREAM, stream_id + 1)
        self._register_changed = True

    def _begin_page(self, database: Database, stream_key: bytes) -> None:
        """Let the rows of a stream begin on a page of their own.

        A tree page that holds the newest rows of one stream and the first of the next is halved again and again as
        the former grows, and the left halves stay half empty for ever: 9.7 bytes per key frame against 7.3. Ids
        ascend, so a new stream comes last in the tree; two rows of half a page each reach a fresh page, the second
        stays as its head.
        """
        head = stream_key + schema.PAGE_HEAD_SUFFIX
        for key in (stream_key, head):
            row = bytes(schema.HALF_PAGE_BYTES - len(key))
            self._txn.put(key, row, db=database, append=True) or self._txn.put(key, row, db=database)
        self._txn.delete(stream_key, db=database)

    def _count_change(self) -> None:
        self._put_number(schema.META_REGISTER, self.register_version() + 1)
        self._register_changed = True

    def _put_number(self, name: bytes, value: int) -> None:
        self._txn.put(name, str(value).encode(), db=self._db.meta)


def _chunk_of(record: StoredRecord) -> tuple[int, int] | None:
    """(stream, sequence) of a fragment, so that fragments of one chunk in a row are taken in together."""
    return (record.stream_id, record.sequence) if isinstance(record, FragmentStored) else None


def _unknown(stream_id: int, sequence: int) -> NotFound:
    return NotFound(f"index: chunk {sequence} of stream {stream_id} is not known; its ChunkOpened record comes first")


def _valid_time(time_us: int) -> int:
    if not 0 <= time_us < TIME_MAX_US:
        raise DamageError(f"index: {time_us} is not a time in microseconds since 1970")
    return time_us
