"""Which threads read a stream's media: those of the one volume it lies on, or of exactly that set of volumes.

Kept true: a call that may touch a volume runs only in threads that wait for that volume anyway, so a hung disk costs
the readers of other disks nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from clips.store import ChunkStore
from index import ChunkRow, Snapshot
from playback.context import Context
from playback.streams import find_stream

T = TypeVar("T")
Pick = Callable[[Snapshot, int], Iterable[ChunkRow | None]]  # the chunks of a stream id that a call will read
Read = Callable[[Snapshot, ChunkStore, int], T]


def chunks_between(start_us: int, end_us: int) -> Pick:
    """The chunks of a range."""
    return lambda snapshot, stream_id: snapshot.chunks(stream_id, start_us, end_us)


def newest_chunk(snapshot: Snapshot, stream_id: int) -> Iterable[ChunkRow | None]:
    """The chunk that grows."""
    return (snapshot.last_chunk(stream_id),)


def lane_of(rows: Iterable[ChunkRow | None]) -> Hashable:
    """The lane for reading these chunks."""
    volumes = frozenset(row.volume for row in rows if row is not None)
    return next(iter(volumes)) if len(volumes) == 1 else volumes


async def find_lane(context: Context, name: str, pick: Pick) -> tuple[int, Hashable]:
    """(id of the stream, lane for reading the chunks that `pick` names)."""

    def look(snapshot: Snapshot) -> tuple[int, Hashable]:
        stream_id = find_stream(snapshot, name).id
        return stream_id, lane_of(pick(snapshot, stream_id))

    return await context.read(look)


async def read_media(
    context: Context, name: str, pick: Pick, read: Read[T], *, beside: str = "", threads: int = 0
) -> T:
    """`read(snapshot, store, stream_id)` in the lane of the chunks that `pick` names.

    With `beside`, in a lane of that name next to it, of so many `threads`: for what takes a processor, not a disk.
    """

    stream_id, lane = await find_lane(context, name, pick)

    def inside() -> T:
        with context.index.read() as snapshot:
            return read(snapshot, context.store, stream_id)

    return await context.read_media((beside, lane) if beside else lane, inside, threads=threads or None)
