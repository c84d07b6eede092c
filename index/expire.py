"""Deleting, as far as the index goes: a chunk is condemned, then doomed, then forgotten.

    condemned  its rows (chunk, sequence, key-frame blocks, gaps inside it) lie in `garbage`; nobody finds it any more,
               and a hold brings it back as it was
    doomed     its file is going; no hold brings it back, and placing one says so
    forgotten  its file is gone and a deletion record is on stable storage

Kept true: each step is one transaction, so it is before or after and never between; a chunk that a hold covers in the
transaction that would condemn it stays; the time of what was condemned is a gap of cause `expired`; numbers of chunks
are not used again, even when a stream's last one goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from base.errors import DamageError
from chunks.records import Gap, GapCause
from index import schema
from index.holds import Range
from index.rows import ChunkRow, StreamRow
from index.schema import CHUNK, END, GAP, SEQUENCE_KEY, START, STREAM_KEY, TIME_KEY, USAGE, USAGE_KEY
from index.spans import JOIN_US, subtract

if TYPE_CHECKING:
    from index.deletions import Deletion
    from index.snapshot import Snapshot
    from index.transaction import Transaction


class Rule(IntEnum):
    """Why a chunk was deleted; stored, so a number never changes its meaning."""

    DAYS_MAX = 1  # older than it may be
    BYTES_MAX = 2  # its stream, or group of streams, has more than it may have
    SPACE = 3  # its volume was short of room, and it was beyond its guaranteed days
    BELOW_MIN = 4  # its volume was short of room, and the guarantee was declared to give way


class Garbage(msgspec.Struct, array_like=True, frozen=True):
    """A row of `garbage`: everything that brings a condemned chunk back, or tells of it when it is gone."""

    rule: int
    doomed: bool
    condemned_us: int
    start_us: int
    row: bytes  # of `chunks`
    blocks: list[tuple[int, bytes]]  # of `key-frames`
    gaps: list[tuple[int, int, int, int]]  # start, end, cause, packets: of `gaps`, inside the chunk


class Condemned(NamedTuple):
    """A condemned or doomed chunk."""

    chunk: ChunkRow
    rule: Rule
    condemned_us: int
    doomed: bool

    @property
    def key(self) -> tuple[int, int]:
        """(stream, sequence)."""
        return self.chunk.stream_id, self.chunk.sequence


class Usage(NamedTuple):
    """Sealed chunks of one stream on one volume: how many, their bytes, and how much time they hold."""

    chunks: int
    bytes: int
    recorded_us: int


def usage(snapshot: Snapshot) -> dict[tuple[int, bytes], Usage]:
    """What lies where: (stream, volume) → usage."""
    found: dict[tuple[int, bytes], Usage] = {}
    with snapshot._txn.cursor(snapshot._db.usage) as cursor:
        for key, value in cursor.iternext():
            found[USAGE_KEY.unpack(key)] = Usage._make(USAGE.unpack(value))
    return found


def garbage(snapshot: Snapshot, stream_id: int | None = None) -> Iterator[Condemned]:
    """All that is condemned or doomed, of one stream or of all."""
    prefix = b"" if stream_id is None else STREAM_KEY.pack(stream_id)
    with snapshot._txn.cursor(snapshot._db.garbage) as cursor:
        if cursor.set_range(prefix) if prefix else cursor.first():
            for key, value in cursor.iternext():
                if not key.startswith(prefix):
                    return
                stream, _ = SEQUENCE_KEY.unpack(key)
                row = _decode(value)
                chunk = snapshot._chunk_row(TIME_KEY.pack(stream, row.start_us), row.row)
                yield Condemned(chunk, Rule(row.rule), row.condemned_us, row.doomed)


def condemn(
    transaction: Transaction, chunk: ChunkRow, rule: Rule, now_us: int, held: Sequence[Range]
) -> Condemned | None:
    """Take a sealed chunk out of what can be found; None when it is not there, is held, or changed meanwhile.

    By an index that lacks chunks of volumes that are there nothing is deleted: what it calls the oldest may not be.
    """
    row = transaction.chunk(chunk.stream_id, chunk.sequence) if transaction.is_read_in() else None
    if row is None or not row.sealed or row.volume != chunk.volume or covers(held, row.start_us, row.end_us):
        return None
    txn, db = transaction._txn, transaction._db
    key, sequence_key = TIME_KEY.pack(row.stream_id, row.start_us), SEQUENCE_KEY.pack(row.stream_id, row.sequence)
    blocks = _blocks(transaction, row)
    gaps = _carve(transaction, row.stream_id, row.start_us, row.end_us)
    kept = Garbage(
        rule, False, now_us, row.start_us, txn.get(key, db=db.chunks) or b"", blocks,
        [(gap.start_us, gap.end_us, int(gap.cause), gap.packets) for gap in gaps],
    )  # fmt: skip
    last = transaction.last_chunk(row.stream_id)
    if last is not None and last.sequence == row.sequence:
        end = END.pack(row.sequence, row.epoch, row.run, row.end_us)
        txn.put(STREAM_KEY.pack(row.stream_id), end, db=db.ends)
    txn.put(sequence_key, msgspec.msgpack.encode(kept), db=db.garbage)
    txn.delete(key, db=db.chunks)
    txn.delete(sequence_key, db=db.sequences)
    for start_us, _ in blocks:
        txn.delete(TIME_KEY.pack(row.stream_id, start_us), db=db.key_frames)
    declare_expired(transaction, row.stream_id, row.start_us, row.end_us)
    transaction._count_usage(row, -1)
    return Condemned(row, rule, now_us, False)


def rescue(transaction: Transaction, stream_id: int, start_us: int, end_us: int) -> list[Range]:
    """Bring back what is condemned in [start, end); ranges of what is doomed or gone, which nothing brings back."""
    txn, db = transaction._txn, transaction._db
    for found in list(garbage(transaction, stream_id)):
        chunk = found.chunk
        if found.doomed or chunk.start_us >= end_us or chunk.end_us <= start_us:
            continue
        sequence_key = SEQUENCE_KEY.pack(*found.key)
        kept = _decode(txn.get(sequence_key, db=db.garbage) or b"")
        txn.delete(sequence_key, db=db.garbage)
        txn.put(TIME_KEY.pack(stream_id, chunk.start_us), kept.row, db=db.chunks)
        txn.put(sequence_key, START.pack(chunk.start_us), db=db.sequences)
        for block_us, block in kept.blocks:
            txn.put(TIME_KEY.pack(stream_id, block_us), block, db=db.key_frames)
        _carve(transaction, stream_id, chunk.start_us, chunk.end_us)
        for inside_us, *inside in kept.gaps:
            txn.put(TIME_KEY.pack(stream_id, inside_us), GAP.pack(*inside), db=db.gaps)
        for gap in transaction.gaps(stream_id, max(chunk.start_us - JOIN_US, 0), chunk.end_us + JOIN_US):
            if gap.cause is GapCause.EXPIRED and gap.end_us - gap.start_us <= JOIN_US:  # joined two chunks
                txn.delete(TIME_KEY.pack(stream_id, gap.start_us), db=db.gaps)
        transaction._count_usage(chunk, 1)
    return [
        (max(gap.start_us, start_us), min(gap.end_us, end_us))
        for gap in transaction.gaps(stream_id, start_us, end_us)
        if gap.cause is GapCause.EXPIRED
    ]


def doom(transaction: Transaction, keys: Iterable[tuple[int, int]]) -> list[Condemned]:
    """Those of the condemned that are still there: from here on their files may go."""
    found = []
    for stream_id, sequence in keys:
        sequence_key = SEQUENCE_KEY.pack(stream_id, sequence)
        raw = transaction._txn.get(sequence_key, db=transaction._db.garbage)
        if raw is None:
            continue  # a hold brought it back
        kept = msgspec.structs.replace(_decode(raw), doomed=True)
        transaction._txn.put(sequence_key, msgspec.msgpack.encode(kept), db=transaction._db.garbage)
        chunk = transaction._chunk_row(TIME_KEY.pack(stream_id, kept.start_us), kept.row)
        found.append(Condemned(chunk, Rule(kept.rule), kept.condemned_us, True))
    return found


def forget(transaction: Transaction, keys: Iterable[tuple[int, int]]) -> None:
    """Their files are gone and on record."""
    for key in keys:
        transaction._txn.delete(SEQUENCE_KEY.pack(*key), db=transaction._db.garbage)


def covers(held: Sequence[Range], start_us: int, end_us: int) -> bool:
    """Whether one of the ranges, ascending and disjoint, touches [start, end)."""
    return any(start < end_us and end > start_us for start, end in held)


def declare_expired(transaction: Transaction, stream_id: int, start_us: int, end_us: int) -> None:
    """[start, end) was deleted by intent: one row for all that lies together."""
    around = transaction.gaps(stream_id, max(start_us - JOIN_US, 0), end_us + JOIN_US)
    near = [gap for gap in around if gap.cause is GapCause.EXPIRED]
    start_us = min([start_us, *(gap.start_us for gap in near)])
    end_us = max([end_us, *(gap.end_us for gap in near)])
    _carve(transaction, stream_id, start_us, end_us)
    key = TIME_KEY.pack(stream_id, start_us)
    transaction._txn.put(key, GAP.pack(end_us, GapCause.EXPIRED, 0), db=transaction._db.gaps)


def restore_deleted(transaction: Transaction, record: Deletion) -> None:
    """Take in what a deletion record tells, as far as no chunk says otherwise."""
    stream = restore_end(transaction, record)
    there = [
        Gap(stream.id, row.start_us, row.end_us, GapCause.UNKNOWN)
        for row in transaction.chunks(stream.id, record.start_us, record.end_us)
    ]
    for start_us, end_us in subtract([(record.start_us, record.end_us)], there):
        declare_expired(transaction, stream.id, start_us, end_us)


def restore_end(transaction: Transaction, record: Deletion) -> StreamRow:
    """Numbers of deleted chunks are not used again: all of a deletion record that recording waits for."""
    stream = transaction.ensure_stream(record.stream)
    known = transaction.end(stream.id)
    if record.sequence > known.sequence:
        end = END.pack(record.sequence, record.epoch, record.run, max(record.end_us, known.end_us))
        transaction._txn.put(STREAM_KEY.pack(stream.id), end, db=transaction._db.ends)
    return stream


def _carve(transaction: Transaction, stream_id: int, start_us: int, end_us: int) -> list[Gap]:
    """Take declared absence out of [start, end); what lay inside comes back."""
    txn, db, inside = transaction._txn, transaction._db.gaps, []
    for gap in transaction.gaps(stream_id, start_us, end_us):
        txn.delete(TIME_KEY.pack(stream_id, gap.start_us), db=db)
        if gap.start_us < start_us:
            txn.put(TIME_KEY.pack(stream_id, gap.start_us), GAP.pack(start_us, gap.cause, gap.packets), db=db)
        if gap.end_us > end_us:
            txn.put(TIME_KEY.pack(stream_id, end_us), GAP.pack(gap.end_us, gap.cause, 0), db=db)
        packets = gap.packets if gap.start_us >= start_us else 0
        inside.append(Gap(stream_id, max(gap.start_us, start_us), min(gap.end_us, end_us), gap.cause, packets))
    return inside


def _blocks(snapshot: Snapshot, row: ChunkRow) -> list[tuple[int, bytes]]:
    """Key-frame blocks of a sealed chunk."""
    rows = snapshot._time_rows(snapshot._db.key_frames, row.stream_id, row.start_us, max(row.end_us, row.start_us + 1))
    mine = row.sequence.to_bytes(4, "little")  # a block begins with its chunk's sequence
    return [(TIME_KEY.unpack(key)[1], block) for key, block in rows if block[:4] == mine]


def _decode(raw: bytes) -> Garbage:
    try:
        kept = msgspec.msgpack.decode(raw, type=Garbage)
        if len(kept.row) == CHUNK.size and kept.rule in Rule.__members__.values():
            return kept
    except (msgspec.DecodeError, msgspec.ValidationError):
        pass
    raise DamageError("index: a row of deleted chunks is damaged; run keyreel rebuild")


def count_usage(txn_value: bytes | None, row: ChunkRow, sign: int) -> bytes:
    """The usage row after a chunk came (1) or went (-1)."""
    chunks, size, recorded_us = USAGE.unpack(txn_value) if txn_value is not None else (0, 0, 0)
    span_us = max(row.end_us - row.start_us, 0)
    counts = (chunks + sign, size + sign * row.size, recorded_us + sign * span_us)
    return USAGE.pack(*(max(0, count) for count in counts))


def count_all(snapshot: Snapshot) -> dict[bytes, bytes]:
    """Usage rows counted from the chunk rows."""
    rows: dict[bytes, bytes] = {}
    with snapshot._txn.cursor(snapshot._db.chunks) as cursor:
        for key, value in cursor.iternext():
            if len(key) < schema.ROW_KEY_BYTES_MIN:
                continue
            stream_id, start_us = TIME_KEY.unpack(key)
            _, _, _, flags, volume, end_us, size, *_ = CHUNK.unpack(value)
            if flags & schema.CHUNK_SEALED:
                usage_key = USAGE_KEY.pack(stream_id, volume)
                row = ChunkRow(stream_id, 0, 0, 0, volume, start_us, end_us, size, True, 0, 0, 0, 0, 0)
                rows[usage_key] = count_usage(rows.get(usage_key), row, 1)
    return rows
