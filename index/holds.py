"""Holds: ranges of streams that nothing deletes, who placed them and why, and who released them.

Kept true: a `Hold` that exists is valid; placing one and condemning a chunk exclude each other by the index's one
write lock, so what an acknowledged hold covers exists until it is released or expires; a released hold is
remembered, not erased; all of them are in the copy of the register too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from base.errors import DamageError, NotFound, UserError
from index import schema
from index.schema import HOLD_KEY, TIME_MAX_US

if TYPE_CHECKING:
    from index.snapshot import Snapshot
    from index.transaction import Transaction

HOLDS_MAX: Final = 10_000  # released ones count; the copy of the register, written with every change, has them all
STREAMS_MAX: Final = 1_000  # of one hold
TEXT_BYTES_MAX: Final = 1_024
Range = tuple[int, int]  # [start_us, end_us)


class Hold(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One hold; `UserError` (reason bad-hold) says what is wrong with a field. Times of 0 mean never, or not yet."""

    id: int = 0  # given when it is placed
    streams: tuple[str, ...]
    start_us: int
    end_us: int
    reason: str
    case: str = ""
    owner: str
    created_us: int
    expires_us: int = 0
    review_us: int = 0
    released_us: int = 0
    released_by: str = ""
    release_reason: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.start_us < self.end_us < TIME_MAX_US:
            raise _bad("its end is not after its start; swap them or name a later end")
        if not 0 < len(self.streams) <= STREAMS_MAX or len(set(self.streams)) != len(self.streams):
            raise _bad(f"it names no stream, one twice, or more than {STREAMS_MAX}; place several")
        for name in ("reason", "owner", "case", "released_by", "release_reason"):
            text = getattr(self, name)
            if len(text.encode("utf-8", "replace")) > TEXT_BYTES_MAX or not text.isprintable():
                raise _bad(f"its {name} is longer than {TEXT_BYTES_MAX} bytes or has control characters")
        if not self.reason.strip() or not self.owner.strip():
            raise _bad("it needs a reason and the name of who places it")
        for name in ("created_us", "expires_us", "review_us", "released_us"):
            if not 0 <= getattr(self, name) < TIME_MAX_US:
                raise _bad(f"its {name} is not a time")
        if self.expires_us and self.expires_us <= self.created_us:
            raise _bad("it would have expired already; name a later time, or none")

    def active(self, now_us: int) -> bool:
        """Whether it holds at that moment."""
        return not self.released_us and (not self.expires_us or now_us < self.expires_us)


@dataclass(frozen=True, slots=True)
class Placed:
    """A hold as placed; what of its range was deleted already, by stream."""

    hold: Hold
    gone: dict[str, list[Range]]


def place(transaction: Transaction, hold: Hold) -> Placed:
    """Place a hold; chunks that are condemned and not yet given to deletion come back."""
    from index.expire import rescue

    known = {row.name: row.id for row in transaction.streams()}
    for name in hold.streams:
        if name not in known:
            raise NotFound(f"there is no stream {name[:80]!r}; `keyreel status` lists them", reason="unknown-stream")
    if transaction._txn.stat(transaction._db.holds)["entries"] >= HOLDS_MAX:
        raise UserError(f"there are {HOLDS_MAX} holds, released ones counted; no more can be placed", reason="too-many")
    number = transaction._number(schema.META_NEXT_HOLD, 1)
    hold = msgspec.structs.replace(hold, id=number)
    transaction._put_number(schema.META_NEXT_HOLD, number + 1)
    _put(transaction, hold)
    gone = {name: rescue(transaction, known[name], hold.start_us, hold.end_us) for name in hold.streams}
    return Placed(hold, {name: ranges for name, ranges in gone.items() if ranges})


def release(transaction: Transaction, number: int, *, by: str, reason: str, now_us: int) -> Hold:
    """End a hold; it stays on record."""
    hold = find(transaction, number)
    if hold is None:
        raise NotFound(f"there is no hold {number}; `keyreel hold list` shows them", reason="unknown-hold")
    if hold.released_us:
        raise UserError(f"hold {number} was released already, by {hold.released_by}", reason="released")
    if not by.strip():
        raise UserError("a release needs the name of who releases", reason="bad-hold")
    hold = msgspec.structs.replace(hold, released_us=max(now_us, 1), released_by=by, release_reason=reason)
    hold.__post_init__()
    _put(transaction, hold)
    return hold


def restore(transaction: Transaction, holds: Iterable[Hold], next_hold: int) -> None:
    """Take in the holds of a copy of the register."""
    for hold in holds:
        _put(transaction, hold)
        next_hold = max(next_hold, hold.id + 1)
    if next_hold > transaction._number(schema.META_NEXT_HOLD, 1):
        transaction._put_number(schema.META_NEXT_HOLD, next_hold)


def find(snapshot: Snapshot, number: int) -> Hold | None:
    """The hold of that number."""
    if not 0 <= number < 1 << 32:
        return None
    raw = snapshot._txn.get(HOLD_KEY.pack(number), db=snapshot._db.holds)
    return None if raw is None else _decode(raw)


def holds(snapshot: Snapshot, active_at_us: int | None = None) -> list[Hold]:
    """All holds by number, or those that hold at a moment."""
    with snapshot._txn.cursor(snapshot._db.holds) as cursor:
        found = [_decode(raw) for raw in cursor.iternext(keys=False, values=True)]
    return found if active_at_us is None else [hold for hold in found if hold.active(active_at_us)]


def next_hold(snapshot: Snapshot) -> int:
    """The number of the next hold; lower ones were given out."""
    return snapshot._number(schema.META_NEXT_HOLD, 1)


def held_ranges(snapshot: Snapshot, now_us: int) -> dict[str, list[Range]]:
    """What is held now: by stream name, ascending and disjoint."""
    by_stream: dict[str, list[Range]] = {}
    for hold in holds(snapshot, now_us):
        for name in hold.streams:
            by_stream.setdefault(name, []).append((hold.start_us, hold.end_us))
    return {name: joined(ranges) for name, ranges in by_stream.items()}


def joined(ranges: Iterable[Range], hole_us: int = 0) -> list[Range]:
    """Union of ranges, ascending and disjoint; holes of up to `hole_us` are closed."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1] + hole_us:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def held_bytes(snapshot: Snapshot, stream_id: int, ranges: Iterable[Range]) -> dict[bytes, tuple[int, int]]:
    """(chunks, bytes) that disjoint ranges of a stream keep, by volume; each chunk counts once."""
    parts = []
    for start_us, end_us in ranges:
        rows = list(snapshot._time_rows(snapshot._db.chunks, stream_id, start_us, end_us))
        table = np.frombuffer(b"".join([value for _, value in rows]), schema.CHUNK_DTYPE)
        parts.append(table[table["end_us"].astype(np.int64) > start_us])
    if not parts:
        return {}
    table = np.concatenate(parts)
    _, first = np.unique(table["sequence"], return_index=True)
    table = table[first]
    found: dict[bytes, tuple[int, int]] = {}
    for volume, size in zip(table["volume"].tolist(), table["size"].tolist(), strict=True):
        chunks, total = found.get(volume, (0, 0))
        found[volume] = chunks + 1, total + size
    return found


def _put(transaction: Transaction, hold: Hold) -> None:
    transaction._txn.put(HOLD_KEY.pack(hold.id), msgspec.json.encode(hold), db=transaction._db.holds)
    transaction._count_change()


def _decode(raw: bytes) -> Hold:
    try:
        return msgspec.json.decode(raw, type=Hold)
    except (msgspec.DecodeError, msgspec.ValidationError, UserError):
        raise DamageError("index: the row of a hold is damaged; run keyreel rebuild") from None


def _bad(what: str) -> UserError:
    return UserError(f"the hold cannot be placed: {what}", reason="bad-hold")
