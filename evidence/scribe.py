"""What of one stream's recording goes into its ledger: records that became durable, and events → contents of entries.

Kept true: a root speaks only of fragments whose records were given, which are on stable storage; entries wait here
until they are told written, at most `waiting_max` of them; what does not fit is counted and becomes an entry `missed`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from chunks.format import pack_config, pack_header
from chunks.records import ChunkOpened, ChunkSealed, FragmentStored, Gap, GapCause
from evidence.ledger import Chunk, ChunkState, ClockNote, Content, Epoch, GapNote, Missed, Opened
from evidence.tree import GrowingTree

LOSSES_MAX: Final = 8  # entries of packet losses in one interval; what is more is joined to the last


@dataclass(slots=True)
class _Growing:
    """A chunk that has not had its last word."""

    opened: ChunkOpened
    tree: GrowingTree = field(default_factory=GrowingTree)
    end_us: int = 0
    size: int = 0
    told: int = 0  # fragments under the last root that was given out

    def content(self, state: ChunkState) -> Chunk:
        head = self.opened.head
        return Chunk(
            head.opening, head.sequence, state, 1, self.tree.count, head.start_us, self.end_us or head.start_us,
            self.size, self.tree.root(),
        )  # fmt: skip


class Scribe:
    """One stream's; one thread at a time."""

    def __init__(self, waiting_max: int) -> None:
        self.waiting_max = waiting_max
        self.waiting: deque[tuple[int, Content]] = deque()
        self.sign_soon = False  # what waits has a head behind it as soon as it is durable
        self.missed = 0
        self._missed_us = (0, 0)
        self._growing: dict[int, _Growing] = {}  # by sequence
        self._losses: list[Gap] = []
        self._epoch: int | None = None
        self._clock: ClockNote | None = None

    def add(self, now_us: int, content: Content) -> None:
        """Let this be an entry."""
        if isinstance(content, Chunk) and self._replaces(content):
            return
        if len(self.waiting) >= self.waiting_max:
            since_us, _ = self.waiting.popleft()
            self._missed_us = (self._missed_us[0] or since_us, since_us)
            self.missed += 1
        self.waiting.append((now_us, content))

    def _replaces(self, content: Chunk) -> bool:
        """A root over more of a chunk takes the place of one that still waits."""
        for i, (at_us, other) in enumerate(self.waiting):
            if isinstance(other, Chunk) and other.opening == content.opening and other.state == ChunkState.GROWING:
                self.waiting[i] = (at_us, content)
                return True
        return False

    def take(self, now_us: int, reason: str) -> list[tuple[int, Content]]:
        """All that waits, to be written; `missed` first when something is."""
        taken = list(self.waiting)
        self.waiting.clear()
        if self.missed:
            taken.insert(0, (taken[0][0] if taken else now_us, Missed(self.missed, *self._missed_us, reason)))
        return taken

    def give_back(self, taken: list[tuple[int, Content]]) -> None:
        """It was not written after all."""
        for at_us, content in reversed(taken):
            if not isinstance(content, Missed):  # it is made again when these are taken
                self.waiting.appendleft((at_us, content))
        while len(self.waiting) > self.waiting_max:
            since_us, _ = self.waiting.popleft()
            self._missed_us = (self._missed_us[0] or since_us, since_us)
            self.missed += 1

    def written(self) -> None:
        """What was taken is on stable storage."""
        self.missed, self._missed_us = 0, (0, 0)

    @property
    def recording(self) -> bool:
        """A chunk of the stream is growing."""
        return bool(self._growing)

    # -- what happened ------------------------------------------------------------------------------------------------

    def opened(self, record: ChunkOpened, now_us: int) -> None:
        """A chunk's head is durable."""
        head = record.head
        if head.gap_start_us:
            self.gap(Gap(head.stream_id, head.gap_start_us, head.start_us, head.gap_cause), now_us)
        if head.epoch != self._epoch:
            self._epoch = head.epoch
            self.add(now_us, Epoch(head.epoch, sha256(pack_config(record.config)).digest()))
        header = pack_header(head, record.config)
        self.add(now_us, Opened(
            head.opening, head.volume, head.sequence, head.epoch, head.run, head.start_us, len(header),
            sha256(header).digest(),
        ))  # fmt: skip
        self._growing[head.sequence] = _Growing(record)

    def stored(self, record: FragmentStored, leaf: bytes, now_us: int) -> None:
        """A fragment is durable, and this is its hash."""
        chunk = self._growing.get(record.sequence)
        if chunk is None:
            return
        if record.number != chunk.tree.count + 1:  # something before it was not told: what was told stays told
            self._growing.pop(record.sequence)
            return
        chunk.tree.add(leaf)
        chunk.size += record.length
        chunk.end_us = record.end_us
        if record.gap is not None:
            self.gap(record.gap, now_us)

    def sealed(self, record: ChunkSealed, now_us: int) -> None:
        """A chunk has its end."""
        self._end(record.sequence, ChunkState.SEALED, now_us)

    def volume_failed(self, volume: bytes, now_us: int) -> None:
        """Chunks on it get nothing more; what was told of them is durable."""
        for sequence in [one for one, chunk in self._growing.items() if chunk.opened.head.volume == volume]:
            self._end(sequence, ChunkState.GIVEN_UP, now_us)

    def forget(self, sequence: int) -> None:
        """A record of this chunk was lost: no root over it can be made any more."""
        self._growing.pop(sequence, None)

    def gap(self, gap: Gap, now_us: int) -> None:
        """Stored absence; losses of packets, which may come twice a second, wait for `progress`."""
        if gap.cause is GapCause.PACKET_LOSS:
            if len(self._losses) < LOSSES_MAX:
                self._losses.append(gap)
            else:
                self._losses[-1] = _joined(self._losses[-1], gap)
        else:
            self.add(now_us, GapNote(gap.start_us, gap.end_us, gap.cause, gap.packets))

    def clock(self, note: ClockNote, now_us: int) -> None:
        """What is known of the clock; an entry when that is something else than before."""
        before, self._clock = self._clock, note
        if before is None or (before.state, before.detail) != (note.state, note.detail):
            self.add(now_us, note)

    def progress(self, now_us: int) -> None:
        """An interval is over: roots of what grew, and losses."""
        losses, self._losses = self._losses, []
        for gap in losses:
            self.add(now_us, GapNote(gap.start_us, gap.end_us, gap.cause, gap.packets))
        for chunk in self._growing.values():
            if chunk.tree.count > chunk.told:
                chunk.told = chunk.tree.count
                self.add(now_us, chunk.content(ChunkState.GROWING))
        self.sign_soon = True

    def _end(self, sequence: int, state: ChunkState, now_us: int) -> None:
        chunk = self._growing.pop(sequence, None)
        if chunk is not None:
            self.add(now_us, chunk.content(state))
            self.sign_soon = True


def _joined(one: Gap, later: Gap) -> Gap:
    """One gap in the place of two; their seals tell them apart."""
    packets = min(one.packets + later.packets, 0xFFFFFFFF)
    return Gap(one.stream_id, one.start_us, max(one.end_us, later.end_us), one.cause, packets)
