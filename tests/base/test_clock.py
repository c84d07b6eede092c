"""The simulated clock wakes sleepers in order, and the real ones agree with the system."""

from __future__ import annotations

import asyncio
import time

from base.clock import SimulatedClock, SystemClock, wall_clock_state


async def test_sleepers_wake_in_order_at_their_own_moment() -> None:
    clock = SimulatedClock(wall_us=0, monotonic_us=0)
    woken: list[tuple[str, int]] = []

    async def sleeper(name: str, duration_s: float) -> None:
        await clock.sleep(duration_s)
        woken.append((name, clock.monotonic_us()))

    async def twice() -> None:
        await sleeper("first half", 1)
        await sleeper("second half", 1)

    tasks = [asyncio.create_task(sleeper("late", 3)), asyncio.create_task(sleeper("early", 1.5))]
    tasks.append(asyncio.create_task(twice()))
    await clock.advance(2)
    assert woken == [("first half", 1_000_000), ("early", 1_500_000), ("second half", 2_000_000)]
    assert clock.monotonic_us() == 2_000_000
    await clock.advance(1)
    assert woken[-1] == ("late", 3_000_000)
    await asyncio.gather(*tasks)


async def test_a_step_moves_wall_time_alone() -> None:
    clock = SimulatedClock(wall_us=1_000, monotonic_us=5)
    clock.step_wall(-500)
    assert (clock.wall_us(), clock.monotonic_us()) == (500, 5)


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = SimulatedClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.advance(0.5)
    task.cancel()
    await clock.advance(1)
    assert task.cancelled()


def test_system_clocks_bracket() -> None:
    clock = SystemClock()
    before_ns, wall_us, after_ns = time.time_ns(), clock.wall_us(), time.time_ns()
    assert before_ns // 1000 <= wall_us <= after_ns // 1000
    before_ns, monotonic_us, after_ns = time.monotonic_ns(), clock.monotonic_us(), time.monotonic_ns()
    assert before_ns // 1000 <= monotonic_us <= after_ns // 1000


def test_the_kernel_tells_whether_the_clock_is_disciplined() -> None:
    state = wall_clock_state()
    assert state.synced in (True, False, None)
    assert state.error_us >= 0
