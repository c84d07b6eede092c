"""The media clock of one run → stored time, and nothing else.

Kept true: the mapping is anchored at the least delayed picture seen (network and camera delays only ever add); it is
slewed and never stepped, so the times it gives for ascending media times ascend; where it is wrong by more than a step
in the direction that is free, `behind` asks for a new anchor, which the pipeline gives at a key frame.
The arithmetic is in integers of microseconds; media time is in 1/90000 s.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from base.units import ticks_to_us
from recorder.storedclock import SLEW_PPM, SQUEEZE_PPM, STEP_US

# The least delay is taken over this much media time: long enough to meet an undelayed picture, short enough for drift.
WINDOW_US: Final = 60_000_000
# A camera's crystal is within ±100 ppm, a bad one within ±500; the slew outruns the worst.
DRIFT_PPM: Final = 500


class WallClock:
    """Maps one run's 90 kHz time to stored time in UTC microseconds.

    `observe()` is called once per fragment with the least (arrival − media time) of its pictures;
    `wall_us()` may then be asked for any media time at or after those already asked for.
    """

    def __init__(self) -> None:
        self.offset_us = 0  # stored − monotonic, in force
        self._delay_us: int | None = None  # monotonic − media, in force
        self._at_media_us = 0
        self._window: deque[tuple[int, int]] = deque()  # (media_us, monotonic − media), ascending in both

    def observe(self, media_90k: int, least_delay_us: int) -> None:
        """Learn from one fragment starting at `media_90k`; `least_delay_us` is min(arrival − media) in monotonic µs."""
        media_us = ticks_to_us(media_90k)
        while self._window and self._window[-1][1] >= least_delay_us:
            self._window.pop()
        self._window.append((media_us, least_delay_us))
        while self._window[0][0] < media_us - WINDOW_US:
            self._window.popleft()
        if self._delay_us is not None:
            self._slew(max(media_us - self._at_media_us, 0))
        self._at_media_us = media_us

    def anchor(self, media_90k: int, offset_us: int, floor_us: int) -> None:
        """Let `media_90k` be when its least delayed picture says, but not before `floor_us`, where stored time ends."""
        self.offset_us = offset_us
        self._delay_us = max(self._window[0][1], floor_us - offset_us - ticks_to_us(media_90k))

    def forget(self) -> None:
        """The camera's clock jumped: what was learnt of its distance to ours is void, the times given stay."""
        self._window.clear()

    @property
    def anchored(self) -> bool:
        """Whether times can be given."""
        return self._delay_us is not None

    @property
    def behind(self) -> bool:
        """Every picture of the window says that stored time is too early by more than a step."""
        return self._delay_us is not None and self._window[0][1] - self._delay_us > STEP_US

    @property
    def error_us(self) -> int:
        """Bound of how far the mapping is off the least delayed picture's, a camera's drift in the window included."""
        apart_us = 0 if self._delay_us is None or not self._window else abs(self._window[0][1] - self._delay_us)
        return apart_us + WINDOW_US * DRIFT_PPM // 1_000_000

    def _slew(self, passed_us: int) -> None:
        """Too late by more than a step, as after a start with old pictures, it is mended a hundred times faster."""
        assert self._delay_us is not None
        error_us = self._window[0][1] - self._delay_us
        reach_us = passed_us * (SQUEEZE_PPM if error_us < -STEP_US else SLEW_PPM) // 1_000_000
        self._delay_us += max(-reach_us, min(reach_us, error_us))

    def wall_us(self, media_90k: int) -> int:
        """Stored time of a media time; `anchor()` must have been called."""
        assert self._delay_us is not None, "wall_us() before anchor()"
        return ticks_to_us(media_90k) + self._delay_us + self.offset_us

    def monotonic_us(self, media_90k: int) -> int:
        """When the picture of that media time was taken by the node's monotonic clock, as the least delay says."""
        return ticks_to_us(media_90k) + self._window[0][1]
