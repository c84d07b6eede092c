"""Who may call when: places, the quarter of the doubtful, and neighbours that wake each other; on a simulated clock."""

from __future__ import annotations

import asyncio
import random

import pytest

from base.clock import SimulatedClock
from recorder.admission import SPREAD_S_PER_100, Admission, neighbourhood
from recorder.backoff import Backoff


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("rtsp://user:p%40ss@10.1.2.3:554/live", "10.1.2.0/24"),
        ("rtsp://10.1.2.250/other?x=1", "10.1.2.0/24"),
        ("rtsp://10.1.3.3/live", "10.1.3.0/24"),
        ("rtsps://[2001:db8:1:2:3::4]/x", "2001:db8:1:2::/64"),
        ("rtmp://nvr.example/live/1", "nvr.example"),
        ("rtsp://[broken/x", "rtsp://[broken/x"),
    ],
)
def test_neighbours_share_a_subnet_or_a_name(url: str, near: str) -> None:
    assert neighbourhood(url) == near


async def test_places_are_bounded_and_the_doubtful_have_a_quarter() -> None:
    admission = Admission(8, SimulatedClock())
    release = asyncio.Event()
    inside: list[bool] = []

    async def set_up(doubtful: bool) -> None:
        async with admission.place(doubtful=doubtful):
            inside.append(doubtful)
            await release.wait()

    tasks = [asyncio.create_task(set_up(True)) for _ in range(50)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(set_up(False)) for _ in range(50)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert sorted(inside) == [False] * 6 + [True] * 2, "fifty that answer nothing leave six of eight places free"
    release.set()
    await asyncio.gather(*tasks)
    assert (admission.taken, admission.taken_max) == (0, 8)


async def test_a_returned_neighbour_wakes_the_others_once() -> None:
    clock = SimulatedClock()
    admission = Admission(64, clock, random.Random(1))
    woken: list[float] = []

    async def wait(near: str, may_be_early: bool = True) -> None:
        if await admission.wait(near, 30.0, may_be_early=may_be_early):
            woken.append(clock.monotonic_us() / 1e6)

    start_s = clock.monotonic_us() / 1e6
    near = [asyncio.create_task(wait("10.1.2.0/24")) for _ in range(200)]
    others = [asyncio.create_task(wait("10.1.3.0/24")), asyncio.create_task(wait("10.1.2.0/24", may_be_early=False))]
    await clock.advance(2.0)
    assert admission.spread_s() == pytest.approx(SPREAD_S_PER_100 * 2.02)
    admission.returned("10.1.2.0/24")
    admission.returned("10.1.2.0/24")
    await clock.advance(SPREAD_S_PER_100 * 2)
    assert all(task.done() for task in near)
    assert not any(task.done() for task in others), "another subnet, and one that was woken in its last wait, wait on"
    spread = [moment - start_s - 2.0 for moment in woken]
    assert len(spread) == 200
    assert max(spread) - min(spread) > 0.8, "not all at once"
    await clock.advance(30.0)
    assert all(task.done() for task in others)
    assert admission.spread_s() == 0.0


async def test_a_wait_that_is_cancelled_leaves_nothing() -> None:
    admission = Admission(1, SimulatedClock())
    task = asyncio.create_task(admission.wait("a", 30.0, may_be_early=True))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert admission.spread_s() == 0.0
    admission.returned("a")


def test_the_longest_wait_of_a_thousand_leaves_room_in_a_minute() -> None:
    """30 s and its jitter, the spread of a thousand, and a connection that was tried just before: under 60 s."""
    backoff = Backoff(1.0, 30.0, random.Random(7))
    longest_s = max(backoff.next_delay_s(SPREAD_S_PER_100 * 10) for _ in range(5000))
    connect_timeout_s = 10.0
    assert longest_s + connect_timeout_s < 60.0
