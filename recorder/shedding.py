"""What to do when the recorder's CPU cannot keep up: cameras are paused by rank, and called again when it can.

Kept true: nothing is paused for a hiccup, only when the event loop was late at every look for some seconds; each step
is an eighth of what is left, and its effect is awaited; one camera is always left; after a return that was too early
the next one waits twice as long. A paused camera's connection is closed: that alone takes its whole cost away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Protocol

from base.clock import Clock
from recorder.alarm import Alarms, Episode

LOOK_S: Final = 0.05  # between two looks; 20 wakings a second cost about 0.05 % of a core
LOOKS_MIN: Final = 5  # so many late ones in a row at least: one long standstill is a hiccup
STEP_US: Final = 5_000_000  # late at every look for so long pauses some; punctual for so long lets some come back
SHED_PART: Final = 8
CALM_MIN_US: Final = 10_000_000  # after the last late look nobody comes back for so long
CALM_MAX_US: Final = 160_000_000
RELAPSE_US: Final = 120_000_000  # a step so soon after a return says that it was too early
TEXT: Final = "paused, as the recorder cannot keep up and others come first; it goes on by itself"


class Pausable(Protocol):
    """A session, as far as this module goes."""

    paused: bool

    @property
    def connected(self) -> bool:
        """Something may come from its camera."""

    @property
    def stream_id(self) -> int:
        """Its stream's."""

    @property
    def rank(self) -> int:
        """As of recorder.overload."""

    def packet_totals(self) -> tuple[int, int, int, int]:
        """Packets first: what a stream costs."""

    async def pause(self) -> None:
        """Close the connection and stay so."""

    def resume(self) -> bool:
        """Call the camera again; False when it cannot be done yet."""


class Shedding:
    """Watches the event loop of this process."""

    def __init__(
        self, clock: Clock, alarms: Alarms, sessions: Callable[[], Collection[Pausable]], lag_us_max: int
    ) -> None:
        self._clock = clock
        self._alarms = alarms
        self._sessions = sessions
        self._lag_us_max = lag_us_max
        self._episode: Episode | None = None
        self._late = 0  # looks in a row
        self._late_from_us = 0
        self._calm_from_us = 0
        self._calm_us = CALM_MIN_US
        self._grant = 1
        self._returned_us: int | None = None  # when somebody last came back, until a step after that
        self._packets: dict[int, int] = {}  # by stream, at the last step or some seconds ago
        self._packets_us = 0
        self._pausing: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._watching = asyncio.get_running_loop().create_task(self._watch(), name="loop lag")

    async def stop(self) -> None:
        """Watch no more; who is paused stays so."""
        tasks = [task for task in (self._watching, *self._pausing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            before_us = self._clock.monotonic_us()
            await asyncio.sleep(LOOK_S)
            self.observe(self._clock.monotonic_us() - before_us - round(LOOK_S * 1e6))

    def observe(self, lag_us: int) -> None:
        """One look: how late the event loop was."""
        now_us = self._clock.monotonic_us()
        if lag_us <= self._lag_us_max:
            self._late = 0
            self._return(now_us)
            return
        self._late += 1
        if self._late == 1:
            self._late_from_us = now_us
        self._calm_from_us = now_us
        if self._late >= LOOKS_MIN and now_us - self._late_from_us >= STEP_US:
            self._late = 0
            self._shed(now_us)

    def _shed(self, now_us: int) -> None:
        """Pause some: the lowest rank first, within it who sends most."""
        recorded = [one for one in self._sessions() if one.connected and not one.paused]
        count = min(-(-len(recorded) // SHED_PART), len(recorded) - 1)
        if count <= 0:
            return
        if self._returned_us is not None:
            relapse = now_us - self._returned_us < RELAPSE_US
            self._calm_us = min(self._calm_us * 2, CALM_MAX_US) if relapse else CALM_MIN_US
            self._returned_us = None
        self._grant = 1
        if self._episode is None or self._episode.over:
            self._episode = self._alarms.begin("cpu")
        seen = self._packets
        recorded.sort(key=lambda one: (one.rank, seen.get(one.stream_id, 0) - one.packet_totals()[0]))
        for session in recorded[:count]:
            self._episode.lost(session.stream_id)
            session.paused = True
            task = asyncio.get_running_loop().create_task(session.pause(), name="pause")
            self._pausing.add(task)
            task.add_done_callback(self._pausing.discard)
        self._count_packets(now_us)

    def _return(self, now_us: int) -> None:
        """Let some come back, the highest rank first, when it was calm for long enough."""
        if now_us - self._packets_us >= STEP_US:
            self._count_packets(now_us)
        if self._episode is None or now_us - self._calm_from_us < self._calm_us:
            return
        paused = [one for one in self._sessions() if one.paused]
        for gone in self._episode.shed - {one.stream_id for one in paused}:
            self._episode.back(gone)
        if not paused:
            return
        paused.sort(key=lambda one: -one.rank)
        for session in paused[: self._grant]:
            if session.resume():
                self._episode.back(session.stream_id)
        self._grant *= 2
        self._returned_us = now_us
        self._calm_from_us = now_us - self._calm_us + STEP_US  # the next ones when these have shown what they cost

    def _count_packets(self, now_us: int) -> None:
        self._packets = {one.stream_id: one.packet_totals()[0] for one in self._sessions()}
        self._packets_us = now_us
