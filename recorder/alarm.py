"""Episodes in which this node could not keep up: one alarm each, from the first loss to some quiet after the last.

Kept true: an episode is logged when it begins and when it is over, and not in between; the newest ones are remembered.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import structlog

from base.clock import Clock
from base.status import OverloadCause, OverloadStatus

QUIET_US: Final = 60_000_000  # an episode is over when nothing was left out for so long
REMEMBERED: Final = 32
_TEXTS: Final[dict[OverloadCause, str]] = {
    "disk": "a volume gets more than it can write; GOPs are left out by priority",
    "cpu": "the recorder cannot keep up; cameras are paused by priority",
}

log = structlog.get_logger("recorder.overload")


class Episode:
    """One time of shortage at one place, while it lasts."""

    def __init__(self, cause: OverloadCause, volume: str, path: str, clock: Clock) -> None:
        self.streams: set[int] = set()  # that lost something
        self.shed: set[int] = set()  # that wait now
        self.status = OverloadStatus(cause=cause, volume=volume, path=path, since_us=clock.wall_us())
        self._clock = clock
        self._last_us = clock.monotonic_us()

    def lost(self, stream_id: int, gops: int = 0) -> None:
        """This stream waits from now on, or has lost GOPs more."""
        self.shed.add(stream_id)
        self.streams.add(stream_id)
        self.status.dropped_gops += gops
        self._last_us = self._clock.monotonic_us()

    def back(self, stream_id: int) -> None:
        """This stream is recorded again, or has ended."""
        self.shed.discard(stream_id)

    @property
    def quiet(self) -> bool:
        """All are back, and it stayed so."""
        return not self.shed and self._clock.monotonic_us() - self._last_us >= QUIET_US

    @property
    def over(self) -> bool:
        """It has ended, and was told."""
        return self.status.until_us > 0

    def told(self) -> OverloadStatus:
        """The published form."""
        self.status.streams, self.status.waiting = len(self.streams), len(self.shed)
        return self.status


class Alarms:
    """The episodes of a recorder."""

    def __init__(self, clock: Clock) -> None:
        self.count = 0  # since the recorder started
        self._clock = clock
        self._now: list[Episode] = []
        self._past: deque[OverloadStatus] = deque(maxlen=REMEMBERED)

    def begin(self, cause: OverloadCause, volume: str = "", path: str = "") -> Episode:
        """A new episode; told at once."""
        episode = Episode(cause, volume, path, self._clock)
        self._now.append(episode)
        self.count += 1
        where = {"volume": path} if path else {}
        log.warning(f"overload: {_TEXTS[cause]}", cause=cause, **where)
        return episode

    def tick(self) -> None:
        """End what became quiet; called about once a second."""
        for episode in [one for one in self._now if one.quiet]:
            self._now.remove(episode)
            status = episode.told()
            status.until_us = self._clock.wall_us()
            self._past.append(status)
            where = {"volume": status.path} if status.path else {}
            log.warning(
                "overload is over",
                cause=status.cause,
                seconds=round((status.until_us - status.since_us) / 1e6),
                streams=status.streams,
                dropped_gops=status.dropped_gops,
                **where,
            )

    def told(self) -> list[OverloadStatus]:
        """What is published: episodes of now, then those that are over, newest first."""
        return [episode.told() for episode in reversed(self._now)] + list(reversed(self._past))
