"""The media clock of one run → UTC, and nothing else.

Kept true: the mapping is anchored at the least delayed picture seen (network and camera delays only ever add), it is
slewed by at most `SLEW_PPM` and never stepped, and the times it gives for ascending media times ascend.
The arithmetic is in integers of microseconds; media time is in 1/90000 s.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from base.units import ticks_to_us

# A camera's crystal is within ±100 ppm, a bad one within ±500; the slew must outrun the worst.
SLEW_PPM: Final = 1_000
# The least delay is taken over this much media time: long enough to meet an undelayed picture, short enough for drift.
WINDOW_US: Final = 60_000_000


class WallClock:
    """Maps one run's 90 kHz time to UTC microseconds.

    `observe()` is called once per fragment with the least (arrival − media time) of its pictures;
    `wall_us()` may then be asked for any media time at or after those already asked for.
    """

    def __init__(self, *, floor_us: int = 0) -> None:
        self._floor_us = floor_us  # end of what the stream already stored; no time is given before it
        self._offset_us: int | None = None  # wall − media, in force
        self._at_media_us = 0
        self._window: deque[tuple[int, int]] = deque()  # (media_us, wall − media), ascending in both

    def observe(self, media_90k: int, least_delay_us: int, monotonic_to_wall_us: int) -> None:
        """Learn from one fragment starting at `media_90k`; `least_delay_us` is min(arrival − media) in monotonic µs."""
        media_us = ticks_to_us(media_90k)
        seen_us = least_delay_us + monotonic_to_wall_us
        while self._window and self._window[-1][1] >= seen_us:
            self._window.pop()
        self._window.append((media_us, seen_us))
        while self._window[0][0] < media_us - WINDOW_US:
            self._window.popleft()
        if self._offset_us is None:
            self._offset_us = max(seen_us, self._floor_us - media_us)
        else:
            self._slew(media_us, self._window[0][1])
        self._at_media_us = media_us

    def _slew(self, media_us: int, target_us: int) -> None:
        assert self._offset_us is not None
        reach_us = max(media_us - self._at_media_us, 0) * SLEW_PPM // 1_000_000
        error_us = target_us - self._offset_us
        self._offset_us += max(-reach_us, min(reach_us, error_us))

    def wall_us(self, media_90k: int) -> int:
        """UTC microseconds of a media time; `observe()` must have been called."""
        assert self._offset_us is not None, "wall_us() before observe()"
        return ticks_to_us(media_90k) + self._offset_us
