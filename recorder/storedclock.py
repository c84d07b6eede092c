"""Stored time: the one clock under which all pictures of this node are filed.

Kept true: it never goes back, also over a restart, and all streams share it, so cameras stay in step with each other;
it follows the node's wall clock, forward at once and backward by running slower; a step that nobody vouches for and
that is larger than `step_max_us` is not followed, as an archive filed ten years ahead would stay so for ten years.
How far the two clocks are apart is told at all times. The arithmetic is in integers of microseconds.

Wall minus monotonic is constant but for steps: the kernel's clock discipline turns both clocks alike.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import structlog

from base.clock import Clock, ClockTrust, WallClockState, wall_clock_state
from base.status import ClockStatus
from base.units import US

log = structlog.get_logger("recorder.clock")

LOOK_US: Final = 100_000  # between two looks at the node's clock; one takes 5 µs
READ_US_MAX: Final = 1_000  # both clocks read within this count as read at the same moment
STEP_US: Final = 250_000  # a smaller difference is slewed; half of what stored time may be wrong by
SLEW_PPM: Final = 1_000  # of a difference below a step
SQUEEZE_PPM: Final = 100_000  # of stored time that is ahead: an hour takes ten, a day ten days
HOLD_OVER_US: Final = 10 * US  # a step back by more is not followed at first,
HOLD_US: Final = 3_600 * US  # but after this time, or when the kernel calls the clock synchronised
SETTLE_US: Final = 3_600 * US  # after such a step nothing that cannot be undone is done
START_AHEAD_US: Final = 400 * 86_400 * US  # a node may have been off for so long
PLAUSIBLE_US: Final = 1_735_689_600 * US  # 2025-01-01: an earlier wall clock has not been set


class StoredClock:
    """A `Clock` whose wall time is stored time.

    `newest_us` is where the stored past of all streams ends; `carried_us` is stored minus monotonic time as an earlier
    process of this boot had it.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        newest_us: int = 0,
        carried_us: int | None = None,
        step_max_us: int = 86_400 * US,
        vouched: bool = False,
        kernel: Callable[[], WallClockState] = wall_clock_state,
    ) -> None:
        self.steps = 0  # of the node's clock
        self.leaps = 0  # of stored time after it
        self._clock = clock
        self._step_max_us = step_max_us
        self._vouched = vouched
        self._kernel = kernel
        self._state = kernel()
        self._lock = threading.Lock()
        self._looked_us = clock.monotonic_us()
        self._node_us = self._read()  # wall − monotonic of the node
        self._offset_us = self._node_us  # stored − monotonic
        self._step_us = 0
        self._stepped_us: int | None = None  # monotonic time of the last step
        self._hold_until_us = 0
        if carried_us is not None and newest_us and carried_us + self._looked_us >= newest_us:
            self._carry_on(carried_us)
        elif newest_us:
            self._begin_at(newest_us)

    # -- a Clock ------------------------------------------------------------------------------------------------------

    def wall_us(self) -> int:
        """Stored time of this moment."""
        return self.monotonic_us() + self.offset_us()

    def monotonic_us(self) -> int:
        """The node's monotonic clock."""
        return self._clock.monotonic_us()

    async def sleep(self, duration_s: float) -> None:
        """Sleep by the monotonic clock."""
        await self._clock.sleep(duration_s)

    # -- what else it tells -------------------------------------------------------------------------------------------

    def offset_us(self) -> int:
        """Stored minus monotonic time, as of now."""
        self._look()
        return self._offset_us

    def node_us(self) -> int:
        """What the node's wall clock shows."""
        return self._clock.wall_us()

    @property
    def marks(self) -> int:
        """Changes with each step and leap; what is filed before and after one lies in different chunks."""
        return self.steps + self.leaps

    @property
    def node_offset_us(self) -> int:
        """The node's wall clock minus its monotonic one, at the last look."""
        return self._node_us

    @property
    def ahead_us(self) -> int:
        """Stored time minus the node's wall clock, at the last look."""
        return self._offset_us - self._node_us

    @property
    def synced(self) -> bool | None:
        """What the kernel said of the node's wall clock; None when it cannot be asked."""
        return self._state.synced

    @property
    def error_us(self) -> int:
        """Bound of stored time's error: the kernel's own bound and the distance to the node's clock; 0 unknown."""
        apart_us = abs(self.ahead_us)
        return apart_us + self._state.error_us if self._state.error_us or apart_us > STEP_US else 0

    def trust(self) -> ClockTrust:
        """Whether the age of footage can be told now; deleting by age waits until it can. Asked from any thread."""
        if self._node_us + self._looked_us < PLAUSIBLE_US:
            return ClockTrust(False, "not-set")
        if abs(self.ahead_us) > STEP_US:
            return ClockTrust(False, "ahead" if self.ahead_us > 0 else "step-not-followed")
        if self._state.synced is not True and not self._vouched:
            return ClockTrust(False, "unsynced")
        if self._stepped_us is not None and self._looked_us - self._stepped_us < SETTLE_US:
            return ClockTrust(False, "stepped")
        return ClockTrust(True)

    def status(self) -> ClockStatus:
        """The published state."""
        trust = self.trust()
        return ClockStatus(
            trusted=trust.trusted,
            reason=trust.reason,
            synced=self._state.synced,
            ahead_us=self.ahead_us,
            error_us=self.error_us,
            steps=self.steps,
            last_step_us=self._step_us,
        )

    # -- following ----------------------------------------------------------------------------------------------------

    def _carry_on(self, offset_us: int) -> None:
        """As if this process had run all the time, so that the absence before it is as long as it was."""
        self._offset_us = offset_us
        if abs(self.ahead_us) > STEP_US:
            self._note_step(-self.ahead_us)
            self._follow(0)

    def _begin_at(self, newest_us: int) -> None:
        """Go on after a stored past that the node's clock may contradict."""
        behind_us = self._node_us + self._looked_us - newest_us
        too_far = behind_us > max(START_AHEAD_US, self._step_max_us) and newest_us >= PLAUSIBLE_US
        if behind_us >= -STEP_US and not (too_far and self._state.synced is not True):
            self._offset_us = max(self._node_us, newest_us - self._looked_us)
            return
        self._offset_us = newest_us - self._looked_us
        self._note_step(-self.ahead_us)

    def _read(self) -> int:
        """Wall − monotonic of the node; read again when this process was interrupted between the two."""
        best_us, offset_us = None, 0
        for _ in range(5):
            before_us = self._clock.monotonic_us()
            wall_us = self._clock.wall_us()
            took_us = self._clock.monotonic_us() - before_us
            if best_us is None or took_us < best_us:
                best_us, offset_us = took_us, wall_us - before_us - took_us // 2
            if took_us <= READ_US_MAX:
                break
        return offset_us

    def _look(self) -> None:
        if self._clock.monotonic_us() - self._looked_us >= LOOK_US:
            with self._lock:  # whoever deletes asks from a thread of its own
                self._look_anew()

    def _look_anew(self) -> None:
        now_us = self._clock.monotonic_us()
        passed_us = now_us - self._looked_us
        if passed_us < LOOK_US:
            return
        self._state = self._kernel()
        node_us = self._read()
        moved_us, self._node_us = node_us - self._node_us, node_us
        self._looked_us = now_us
        if abs(moved_us) > STEP_US:
            self._note_step(moved_us)
        self._follow(passed_us)

    def _note_step(self, step_us: int) -> None:
        """The node's clock moved against time itself, or against what is stored."""
        self.steps += 1
        self._step_us = step_us
        if abs(step_us) > HOLD_OVER_US:
            self._stepped_us = self._looked_us
            self._hold_until_us = self._looked_us + HOLD_US
        log.warning("the node's clock was stepped", step_s=step_us / US, stored_ahead_s=self.ahead_us / US)

    def _follow(self, passed_us: int) -> None:
        ahead_us = self.ahead_us
        if abs(ahead_us) <= STEP_US:
            reach_us = passed_us * SLEW_PPM // 1_000_000
            self._offset_us -= max(-reach_us, min(reach_us, ahead_us))
        elif ahead_us > 0:
            if self._may_squeeze(ahead_us):
                self._offset_us -= min(passed_us * SQUEEZE_PPM // 1_000_000, ahead_us)
        elif self._believes(-ahead_us):
            log.warning("stored time follows the node's clock ahead", by_s=-ahead_us / US)
            self._offset_us = self._node_us
            self.leaps += 1

    def _may_squeeze(self, ahead_us: int) -> bool:
        """Running slower must end in days: more than `step_max_us` ahead, stored time keeps its distance."""
        held = ahead_us > HOLD_OVER_US and self._state.synced is not True and self._looked_us < self._hold_until_us
        return not held and ahead_us <= self._step_max_us

    def _believes(self, step_us: int) -> bool:
        """A step ahead cannot be taken back, so a large one needs the kernel's word, unless no time was set before."""
        unset = self._offset_us + self._looked_us < PLAUSIBLE_US
        return step_us <= self._step_max_us or self._state.synced is True or unset
