"""Which chunks of a volume go, and in which order: a pure function of what lies there.

Kept true: what is held, leased to a reader, or a stream's newest is not named (the newest alone when it is older than
it may be); nothing within its guaranteed days is named but by the rule BELOW_MIN, which has to be declared; within a
rule a stream's chunks go oldest first; no more is named than was asked for, to the next whole chunk.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from base.units import US
from index import ChunkRow
from index.expire import Rule, covers
from index.holds import Range

DAY_US: Final = 86_400 * US


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, and how much, of a stream is kept; 0 is no limit."""

    days_min: float = 0.0
    days_max: float = 0.0
    bytes_max: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One stream's sealed chunks on the volume, oldest first."""

    stream_id: int
    limits: Limits
    chunks: Iterable[ChunkRow]
    newest: int = 0  # sequence of the stream's newest chunk anywhere
    rank: int = 0  # streams of lower rank give way first
    kept: Sequence[Range] = ()  # held, or leased: ascending and disjoint
    excess_bytes: int = 0  # of its chunks here, above what the stream may have


@dataclass(frozen=True, slots=True)
class Group:
    """Streams that share a limit of bytes: what they have here above it."""

    excess_bytes: int
    streams: frozenset[int]


@dataclass(frozen=True, slots=True)
class Need:
    """What a volume is short of."""

    bytes: int = 0
    files: int = 0


class Victim(NamedTuple):
    """A chunk to delete, and why."""

    chunk: ChunkRow
    rule: Rule


@dataclass(slots=True)
class Choice:
    """What to delete, in order; what no rule gives although it is needed; whether age was held back to `aged_max`."""

    victims: list[Victim] = field(default_factory=list)
    short: Need = Need()
    held_back: bool = False


def choose(
    lines: Sequence[Line],
    *,
    now_us: int,
    need: Need = Need(),
    groups: Sequence[Group] = (),
    below_min: bool = False,
    ages_known: bool = True,
    aged_max: int | None = None,
    most: int = 1 << 30,
) -> Choice:
    """The chunks to delete now: at most `most`, and of those that are too old at most about `aged_max` bytes.

    Without `ages_known`, as when the clock is not trusted, nothing is too old and every guaranteed day still runs.
    """
    walks = [_Walk(line, now_us if ages_known else None) for line in lines]
    choice = Choice()
    if ages_known:
        _take_aged(walks, choice, now_us, aged_max, most)
    _take_excess(walks, choice, groups, most)
    lack_bytes = need.bytes - sum(victim.chunk.size for victim in choice.victims)
    lack_files = need.files - len(choice.victims)
    for rule in (Rule.SPACE, Rule.BELOW_MIN) if below_min else (Rule.SPACE,):
        for chunk in _by_rank(walks, guaranteed=rule is Rule.BELOW_MIN):
            if (lack_bytes <= 0 and lack_files <= 0) or len(choice.victims) >= most:
                break
            choice.victims.append(Victim(chunk, rule))
            lack_bytes -= chunk.size
            lack_files -= 1
    if len(choice.victims) < most:
        choice.short = Need(max(lack_bytes, 0), max(lack_files, 0))
    return choice


class _Walk:
    """A stream's chunks that may go, looked at one by one."""

    def __init__(self, line: Line, now_us: int | None) -> None:
        self.line = line
        self.guaranteed_us = -1 if now_us is None else now_us - round(line.limits.days_min * DAY_US)
        self._chunks = iter(line.chunks)
        self.head: ChunkRow | None = None
        self.next()

    def next(self) -> None:
        """Step to the next one that is sealed and that nobody keeps."""
        for chunk in self._chunks:
            if chunk.sealed and not covers(self.line.kept, chunk.start_us, chunk.end_us):
                self.head = chunk
                return
        self.head = None

    def may_go(self, *, guaranteed: bool = False) -> bool:
        """Whether the head may make room: it is not the newest, and beyond its days unless `guaranteed` ones may go."""
        head = self.head
        if head is None or head.sequence == self.line.newest:
            return False
        return guaranteed or not self.line.limits.days_min or head.end_us <= self.guaranteed_us


def _take_aged(walks: Sequence[_Walk], choice: Choice, now_us: int, aged_max: int | None, most: int) -> None:
    """Older than it may be; streams in turn by age, so that a bound on the bytes costs all alike."""
    left = aged_max
    due = [walk for walk in walks if walk.line.limits.days_max]
    heap = [(walk.head.start_us, i) for i, walk in enumerate(due) if walk.head is not None]
    heapq.heapify(heap)
    while heap and len(choice.victims) < most:
        _, i = heapq.heappop(heap)
        walk = due[i]
        chunk = walk.head
        if chunk is None or chunk.end_us > now_us - round(walk.line.limits.days_max * DAY_US):
            continue
        if left is not None and left <= 0:
            choice.held_back = True
            return
        left = None if left is None else left - chunk.size
        choice.victims.append(Victim(chunk, Rule.DAYS_MAX))
        walk.next()
        if walk.head is not None:
            heapq.heappush(heap, (walk.head.start_us, i))


def _take_excess(walks: Sequence[_Walk], choice: Choice, groups: Sequence[Group], most: int) -> None:
    """More bytes than a stream, or a group of streams, may have."""
    taken: dict[int, int] = {}
    for victim in choice.victims:
        taken[victim.chunk.stream_id] = taken.get(victim.chunk.stream_id, 0) + victim.chunk.size
    limits = [(frozenset([walk.line.stream_id]), walk.line.excess_bytes) for walk in walks]
    limits += [(group.streams, group.excess_bytes) for group in groups]
    for streams, excess_bytes in limits:
        if excess_bytes <= 0:
            continue
        left = excess_bytes - sum(size for stream_id, size in taken.items() if stream_id in streams)
        mine = [walk for walk in walks if walk.line.stream_id in streams]
        for chunk in _by_rank(mine) if left > 0 else ():
            if len(choice.victims) >= most:
                return
            choice.victims.append(Victim(chunk, Rule.BYTES_MAX))
            taken[chunk.stream_id] = taken.get(chunk.stream_id, 0) + chunk.size
            left -= chunk.size
            if left <= 0:
                break


def _by_rank(walks: Sequence[_Walk], *, guaranteed: bool = False) -> Iterator[ChunkRow]:
    """What may go: of the lowest rank first, and there the oldest; a chunk counts as gone when it was given out."""
    heap = [
        (walk.line.rank, walk.head.start_us, i)
        for i, walk in enumerate(walks)
        if walk.head is not None and walk.may_go(guaranteed=guaranteed)
    ]
    heapq.heapify(heap)
    while heap:
        rank, _, i = heapq.heappop(heap)
        walk = walks[i]
        chunk = walk.head
        assert chunk is not None
        walk.next()
        if walk.head is not None and walk.may_go(guaranteed=guaranteed):
            heapq.heappush(heap, (rank, walk.head.start_us, i))
        yield chunk
