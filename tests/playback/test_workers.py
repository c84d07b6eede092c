from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from base.errors import DamageError
from playback.problems import Problem
from playback.workers import Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(2, waiting_max=3)
    yield made
    made.close()


async def test_a_call_runs_in_a_thread_and_answers(workers: Workers) -> None:
    assert await workers.run("disk", threading.current_thread) is not threading.current_thread()


async def test_an_error_arrives_as_it_was_raised(workers: Workers) -> None:
    def fail() -> None:
        raise DamageError("broken")

    with pytest.raises(DamageError, match="broken"):
        await workers.run("disk", fail)


async def test_a_hung_lane_costs_the_others_nothing_and_is_bounded(workers: Workers) -> None:
    release = threading.Event()
    begun = threading.Semaphore(0)

    def hang() -> bool:
        begun.release()
        return release.wait(30)

    tasks = [asyncio.ensure_future(workers.run("hung", hang)) for _ in range(2)]
    for _ in tasks:
        await asyncio.to_thread(begun.acquire)
    tasks += [asyncio.ensure_future(workers.run("hung", hang)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Problem) as caught:
        await workers.run("hung", hang)
    assert caught.value.status == 503
    assert await workers.run("healthy", lambda: 7) == 7
    release.set()
    assert await asyncio.gather(*tasks) == [True] * 5


async def test_what_nobody_waits_for_is_not_begun(workers: Workers) -> None:
    release = threading.Event()
    ran: list[int] = []
    blockers = [asyncio.ensure_future(workers.run("disk", lambda: release.wait(30))) for _ in range(2)]
    waiting = asyncio.ensure_future(workers.run("disk", lambda: ran.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    release.set()
    await asyncio.gather(*blockers)
    await asyncio.gather(*(workers.run("disk", lambda: None) for _ in range(2)))
    assert ran == []


async def test_after_closing_calls_are_refused() -> None:
    workers = Workers(1)
    workers.close()
    with pytest.raises(Problem) as caught:
        await workers.run("disk", lambda: None)
    assert caught.value.reason == "stopping"
