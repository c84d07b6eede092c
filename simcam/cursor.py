"""A camera's place in one track of its loop.

Kept true: media time only grows, over turns of the loop and over switches to another loop.
"""

from __future__ import annotations

from typing import Final

from simcam.loop import Track

NEVER: Final = 1 << 62


class Cursor:
    """`turn_ticks` is the media time at which the present turn of the loop began; `due_us` is monotonic time."""

    __slots__ = (
        "_repeat",
        "_start_us",
        "_us_per_tick",
        "due_us",
        "index",
        "kind",
        "loop_number",
        "track",
        "turn",
        "turn_ticks",
    )

    def __init__(self, kind: int, track: Track, start_us: int, rate: float, repeat: int) -> None:
        self.kind = kind
        self.track = track
        self.loop_number = 0
        self.turn = 0
        self.turn_ticks = 0
        self.index = 0
        self._start_us = start_us
        self._us_per_tick = 1_000_000 / track.clock_hz / rate
        self._repeat = repeat
        self.due_us = start_us + int(track.dts[0] * self._us_per_tick)

    @property
    def pts(self) -> int:
        """Presentation time of the present unit in ticks since the camera's start."""
        return self.turn_ticks + self.track.pts[self.index]

    @property
    def key_pts(self) -> int:
        """Presentation time of the first key unit from here."""
        keys = self.track.keys
        count = len(keys)
        ahead = next((n for n in range(count) if keys[(self.index + n) % count]), 0)
        turns, index = divmod(self.index + ahead, count)
        return self.turn_ticks + turns * self.track.duration_ticks + self.track.pts[index]

    def step(self) -> None:
        """Goes to the next unit."""
        self.index += 1
        if self.index == len(self.track.dts):
            self.index = 0
            self.turn += 1
            self.turn_ticks += self.track.duration_ticks
        self._place()

    def _place(self) -> None:
        if self._repeat and self.turn >= self._repeat:
            self.due_us = NEVER
        else:
            self.due_us = self._start_us + int((self.turn_ticks + self.track.dts[self.index]) * self._us_per_tick)

    def skip_until(self, now_us: int) -> int:
        """Passes over all units that were due before `now_us`; returns how many."""
        if self.due_us >= now_us:
            return 0
        track = self.track
        passed = int((now_us - self._start_us) / self._us_per_tick) - self.turn_ticks
        turns = max(passed // track.duration_ticks, 0)
        if self._repeat:
            turns = min(turns, self._repeat - self.turn)
        before = self.turn * len(track.dts) + self.index
        if turns > 0:
            self.turn += turns
            self.turn_ticks += turns * track.duration_ticks
            self.index = 0  # where it was in that turn may lie ahead of now by most of a turn
        self._place()
        while self.due_us < now_us:
            self.step()
        return self.turn * len(track.dts) + self.index - before

    def switch(self, track: Track, loop_number: int) -> None:
        """Goes on with the first unit of another track of the same clock, when the present unit would have been due."""
        self.turn_ticks += self.track.dts[self.index] + self.track.delay_ticks
        self.track, self.index, self.loop_number = track, 0, loop_number
        self._place()
