"""What all volumes' deletions share: the rules, the facts, the clock they go by, and whether any of it may be trusted.

Kept true: retention's clock gains on monotonic time by at most a second a second, so a step of the machine's clock
deletes nothing; without a trusted clock nothing is too old and no hold expires; limits are the first rule's whose
pattern fits the stream.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as LateError
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Protocol, TypeVar

from base.clock import Clock, ClockTrust
from base.config import Config, RetentionRule
from base.datadir import DataDir
from base.errors import VolumeError
from base.leases import leases
from index import ChunkRow, Index, Snapshot, Transaction
from index.deletions import DeletionLog, deletions_path
from index.expire import usage
from index.holds import Range, held_ranges, joined
from index.schema import TIME_MAX_US
from recorder.committer import Committer
from recorder.forecast import DAY_S, Facts, gather
from recorder.overload import rank_of
from recorder.policy import Group, Limits, Line
from recorder.slot import ROOM_BYTES

T = TypeVar("T")
WRITE_WAIT_S: Final = 10.0
AGED_FACTOR: Final = 4  # what is too old goes at most so much faster than footage comes in
AGED_DAYS: Final = 10  # or so fast that all that is stored would take this long
HINTS_S: Final = 600.0
VOLUME_AT: Final = slice(13, 29)  # of a chunk row


class TrustedClock(Clock, Protocol):
    """A clock that says whether ages can be told by it."""

    def trust(self) -> ClockTrust: ...


class AgeClock:
    """The time that ages are told by."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._monotonic_us = clock.monotonic_us()
        self._most_us = clock.wall_us()

    def now_us(self) -> int:
        """Wall time, or less while that is ahead of what can have passed."""
        with self._lock:
            monotonic_us, wall_us = self._clock.monotonic_us(), self._clock.wall_us()
            passed_us = monotonic_us - self._monotonic_us
            self._monotonic_us = monotonic_us
            self._most_us += passed_us
            self._most_us += max(0, min(wall_us - self._most_us, passed_us))  # catches up as fast as time passes
            return min(wall_us, self._most_us)


class Keeper:
    """Shared by the volumes' threads; `refresh` is called now and then by one."""

    def __init__(
        self, index: Index, committer: Committer, config: Config, datadir: DataDir, clock: TrustedClock
    ) -> None:
        self.index = index
        self.run_path = datadir.run_path
        self.log = DeletionLog(deletions_path(index.path))
        self.facts = Facts()
        self.below_min = config.retention.below_min
        self.grace_s = config.retention.grace_s
        self._committer = committer
        self._config = config.retention
        self._floors = {Path(volume.path).resolve(): volume for volume in config.volumes}
        self._clock = clock
        self._ages = AgeClock(clock)
        self._limits: dict[str, tuple[Limits, int]] = {}
        self._hints: dict[tuple[int, bytes], int] = {}
        self._hinted_s = 0.0

    def now_us(self) -> int:
        """The time that ages are told by."""
        return self._ages.now_us()

    def holds_us(self) -> int:
        """The time that holds expire by; while the clock is not trusted none does."""
        return self.now_us() if self._clock.trust().trusted else 0

    def refresh(self) -> None:
        """Look at everything anew."""
        with self.index.read() as snapshot:
            self.facts = gather(snapshot, self.now_us())

    def clock_distrust(self) -> str:
        """Why ages are not known now; empty when they are. What has no guaranteed days makes room all the same."""
        trust = self._clock.trust()
        if trust.trusted:
            return ""
        return (
            f"the clock is not trusted ({trust.reason}): nothing goes for its age, guaranteed days do not run out, and "
            "no hold expires; `keyreel status` tells of the clock"
        )

    def distrust(self, *, full: bool) -> tuple[str, str]:
        """Why nothing at all may be deleted now: a word and a sentence; empty when it may."""
        if self._committer.behind and not full:
            return "index", "the index has yet to take in chunks; deleting waits until it has"
        return "", ""

    def is_reading_in(self) -> bool:
        """The index lacks chunks of volumes that are there, so what it calls the oldest may not be."""
        with self.index.read() as snapshot:
            return not snapshot.is_read_in()

    def write(self, job: Callable[[Transaction], T]) -> T:
        """Run `job` in the committer's thread, as every write of the recorder."""
        try:
            return self._committer.call(job).result(WRITE_WAIT_S)
        except LateError:
            raise VolumeError("the index does not answer; check its disk", reason="hung") from None

    # -- the rules ----------------------------------------------------------------------------------------------------

    def floor_bytes(self, path: Path, total: int) -> int:
        """What stays free on a volume: as configured, what a full one needs to be taken back, half of it at most."""
        own = self._floors.get(path.resolve())
        percent, least = self._config.free_percent_min, self._config.free_bytes_min
        if own is not None:
            percent = percent if own.free_percent_min is None else own.free_percent_min
            least = least if own.free_bytes_min is None else own.free_bytes_min
        return min(max(round(total * percent / 100), least, min(ROOM_BYTES, total // 20)), total // 2)

    def limits(self, stream: str) -> tuple[Limits, int]:
        """The limits of a stream, and the number of the rule they are of; -1 for the defaults."""
        known = self._limits.get(stream)
        if known is None:
            rules = self._config.rules
            number = next((i for i, rule in enumerate(rules) if _fits(rule, stream)), -1)
            rule = rules[number] if number >= 0 else self._config
            known = self._limits[stream] = Limits(rule.days_min, rule.days_max, rule.bytes_max), number
        return known

    def aged_rate(self, volume: bytes) -> float:
        """Bytes a second that may go from a volume for their age."""
        return max(AGED_FACTOR * self.facts.rate_on(volume), self.facts.stored(volume) / (AGED_DAYS * DAY_S))

    def streams_short(self, volume: bytes, days_kept: float | None) -> int:
        """How many streams that come to a volume have more guaranteed days than it can keep."""
        if days_kept is None:
            return 0
        coming = {stream_id for (stream_id, where) in self.facts.rates if where == volume}
        return sum(self.limits(self.facts.names.get(one, ""))[0].days_min > days_kept for one in coming)

    def lines(self, snapshot: Snapshot, volume: bytes, *, everything: bool) -> tuple[list[Line], list[Group]]:
        """The streams that have something on a volume; without `everything` those that have a limit to look at."""
        if time.monotonic() - self._hinted_s > HINTS_S:  # what was brought back or taken in late is found then
            self._hints, self._hinted_s = {}, time.monotonic()
        names = {row.id: row.name for row in snapshot.streams()}
        ranks = _ranks(snapshot)
        totals: dict[int, int] = {}
        here: dict[int, int] = {}
        for (stream_id, where), one in usage(snapshot).items():
            totals[stream_id] = totals.get(stream_id, 0) + one.bytes
            if where == volume and one.chunks:
                here[stream_id] = one.bytes
        groups = self._groups(names, totals, here)
        kept = self._kept(snapshot, names)
        lines = []
        for stream_id, mine in here.items():
            name = names.get(stream_id)
            limits, _ = self.limits(name or "")
            excess = (
                (totals[stream_id] - limits.bytes_max) * mine // max(totals[stream_id], 1) if limits.bytes_max else 0
            )
            in_group = any(stream_id in group.streams for group in groups)
            if name is None or not (everything or limits.days_max or excess > 0 or in_group):
                continue
            last = snapshot.last_chunk(stream_id)
            lines.append(
                Line(
                    stream_id, limits, self._chunks(snapshot, stream_id, volume), last.sequence if last else 0,
                    ranks.get(name, -1), kept.get(stream_id, ()), max(excess, 0),
                )
            )  # fmt: skip
        return lines, groups

    def _groups(self, names: dict[int, str], totals: dict[int, int], here: dict[int, int]) -> list[Group]:
        """Groups that have more than they may, each with this volume's part of it."""
        groups = []
        for number, rule in enumerate(self._config.rules):
            if rule.group_bytes_max:
                members = frozenset(one for one in totals if self.limits(names.get(one, ""))[1] == number)
                total = sum(totals[one] for one in members)
                mine = sum(here.get(one, 0) for one in members)
                if mine and total > rule.group_bytes_max:
                    groups.append(Group((total - rule.group_bytes_max) * mine // total, members))
        return groups

    def _kept(self, snapshot: Snapshot, names: dict[int, str]) -> dict[int, list[Range]]:
        """What is held, and what a reader has a lease of, by stream."""
        held = held_ranges(snapshot, self.holds_us())
        kept = {stream_id: list(held[name]) for stream_id, name in names.items() if name in held}
        for lease in leases(self.run_path):
            kept.setdefault(lease.stream_id, []).append((lease.start_us, lease.end_us))
        return {stream_id: joined(ranges) for stream_id, ranges in kept.items()}

    def _chunks(self, snapshot: Snapshot, stream_id: int, volume: bytes) -> Iterator[ChunkRow]:
        """A stream's chunks on a volume, oldest first, read as they are asked for."""
        is_first = True
        for key, value in snapshot._time_rows(
            snapshot._db.chunks, stream_id, self._hints.get((stream_id, volume), 0), TIME_MAX_US
        ):
            if value[VOLUME_AT] == volume:
                row = snapshot._chunk_row(key, value)
                if is_first:
                    self._hints[stream_id, volume] = row.start_us
                    is_first = False
                yield row


def _ranks(snapshot: Snapshot) -> dict[str, int]:
    """By stream name: the camera's priority, main before sub; one that is in no register gives way first."""
    return {name: rank_of(camera.priority, name) for camera in snapshot.cameras() for name in camera.stream_names()}


def _fits(rule: RetentionRule, stream: str) -> bool:
    return any(fnmatchcase(stream, pattern) for pattern in rule.streams)
