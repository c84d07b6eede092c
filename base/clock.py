"""The two clocks of a node, and a simulated pair for tests.

Kept true: wall time (`wall_us`, UTC) may step and names moments; monotonic time (`monotonic_us`) never goes back and
measures durations. Code whose behaviour depends on time takes a `Clock`.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import time
from typing import Final, NamedTuple, Protocol

_STA_UNSYNC: Final = 0x0040  # linux/timex.h
_TIME_ERROR: Final = 5


def wall_us() -> int:
    """UTC microseconds since 1970."""
    return time.time_ns() // 1000


def monotonic_us() -> int:
    """CLOCK_MONOTONIC microseconds."""
    return time.monotonic_ns() // 1000


class Clock(Protocol):
    """What time-dependent code asks for."""

    def wall_us(self) -> int: ...
    def monotonic_us(self) -> int: ...
    async def sleep(self, duration_s: float) -> None: ...


class SystemClock:
    """The machine's clocks."""

    def wall_us(self) -> int:
        return wall_us()

    def monotonic_us(self) -> int:
        return monotonic_us()

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s)


class SimulatedClock:
    """Both clocks stand still until `advance`; sleepers wake in the order of their deadlines."""

    def __init__(self, wall_us: int = 1_700_000_000_000_000, monotonic_us: int = 1_000_000) -> None:
        self._wall_us = wall_us
        self._monotonic_us = monotonic_us
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    def wall_us(self) -> int:
        return self._wall_us

    def monotonic_us(self) -> int:
        return self._monotonic_us

    async def sleep(self, duration_s: float) -> None:
        if duration_s <= 0:
            await asyncio.sleep(0)
            return
        self._count += 1
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic_us + round(duration_s * 1e6), self._count, future))
        await future

    async def advance(self, duration_s: float) -> None:
        """Let time pass; whoever sleeps until then runs, at its own moment."""
        until_us = self._monotonic_us + round(duration_s * 1e6)
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= until_us:
            deadline_us, _, future = heapq.heappop(self._sleepers)
            self._pass(deadline_us - self._monotonic_us)
            if not future.done():
                future.set_result(None)
            await _settle()
        self._pass(until_us - self._monotonic_us)

    def step_wall(self, by_us: int) -> None:
        """A clock step: wall time jumps, monotonic time does not."""
        self._wall_us += by_us

    def _pass(self, duration_us: int) -> None:
        self._monotonic_us += duration_us
        self._wall_us += duration_us


async def _settle() -> None:
    """Let every task that is ready run as far as it gets without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)


class ClockTrust(NamedTuple):
    """Whether what depends on the age of footage may be done now; the reason is one short stable word when not."""

    trusted: bool
    reason: str = ""


class WallClockState(NamedTuple):
    """What the kernel knows of the wall clock: None when it cannot be asked; the error bound in µs, 0 when unknown."""

    synced: bool | None
    error_us: int


class _Timex(ctypes.Structure):
    # struct timex of linux/timex.h up to `status`; the rest is reserved space
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 208),
    )


def wall_clock_state() -> WallClockState:
    """Ask the kernel (adjtimex) whether the wall clock is disciplined, and how wrong it can be."""
    try:
        timex = _Timex()
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return WallClockState(None, 0)
    if answer < 0:
        return WallClockState(None, 0)
    synced = answer != _TIME_ERROR and not timex.status & _STA_UNSYNC
    return WallClockState(synced, int(timex.maxerror) if synced else 0)
