"""A recorder that is late for seconds pauses cameras by rank, one that hiccups does not; and all come back."""

from __future__ import annotations

import asyncio

from base.clock import SimulatedClock
from recorder.alarm import QUIET_US, Alarms
from recorder.shedding import CALM_MIN_US, LOOK_S, STEP_US, Shedding

LATE_US = 300_000


class Session:
    """A camera that can be paused."""

    def __init__(self, number: int, rank: int = 3, packets: int = 100) -> None:
        self.stream_id = number
        self.rank = rank
        self.packets = packets  # more at each look
        self.total = 0
        self.paused = False
        self.connected = True
        self.resumable = True

    def packet_totals(self) -> tuple[int, int, int, int]:
        self.total += self.packets
        return self.total, 0, 0, 0

    async def pause(self) -> None:
        self.paused = True
        self.connected = False

    def resume(self) -> bool:
        if self.resumable:
            self.paused, self.connected = False, True
        return self.resumable


class Rig:
    def __init__(self, *sessions: Session) -> None:
        self.clock = SimulatedClock()
        self.alarms = Alarms(self.clock)
        self.sessions = list(sessions)
        self.shedding = Shedding(self.clock, self.alarms, lambda: self.sessions, 200_000)

    async def look(self, lag_us: int, for_us: int) -> None:
        """Look on for so long, each time so late."""
        end_us = self.clock.monotonic_us() + for_us
        while self.clock.monotonic_us() < end_us:
            await self.clock.advance(LOOK_S + lag_us / 1e6)
            self.shedding.observe(lag_us)
            self.alarms.tick()
            await asyncio.sleep(0)

    def paused(self) -> list[int]:
        return sorted(one.stream_id for one in self.sessions if one.paused)


async def test_a_hiccup_pauses_nobody() -> None:
    rig = Rig(*(Session(n) for n in range(8)))
    await rig.look(20_000_000, 1)  # one long standstill
    await rig.look(0, 1_000_000)
    for _ in range(20):  # and a bad time that comes and goes
        await rig.look(LATE_US, STEP_US - 1_000_000)
        await rig.look(0, 100_000)
    assert rig.paused() == []
    assert rig.alarms.count == 0


async def test_low_ranks_and_heavy_streams_go_first_and_one_is_left() -> None:
    rig = Rig(Session(1, 5), Session(2, 3, 900), Session(3, 3), Session(4, 1, 100), Session(5, 1, 900), Session(6, 0))
    dead = Session(7, 0)
    dead.connected = False
    rig.sessions.append(dead)
    order = []
    for _ in range(8):
        await rig.look(LATE_US, STEP_US + 2 * LATE_US)
        order += [number for number in rig.paused() if number not in order]
    assert order == [6, 5, 4, 2, 3], "one at each step, and the last stays"
    (episode,) = rig.alarms.told()
    assert (episode.cause, episode.streams, episode.waiting) == ("cpu", 5, 5)


async def test_an_eighth_at_each_step() -> None:
    rig = Rig(*(Session(n) for n in range(40)))
    await rig.look(LATE_US, STEP_US + 2 * LATE_US)
    assert len(rig.paused()) == 5
    await rig.look(LATE_US, STEP_US + 2 * LATE_US)
    assert len(rig.paused()) == 10


async def test_they_come_back_in_order_and_a_relapse_makes_it_slower() -> None:
    rig = Rig(*(Session(n, rank=n) for n in range(8)))
    for _ in range(3):
        await rig.look(LATE_US, STEP_US + 2 * LATE_US)
    assert rig.paused() == [0, 1, 2]
    await rig.look(0, CALM_MIN_US - 1_000_000)
    assert rig.paused() == [0, 1, 2]
    await rig.look(0, 2_000_000)
    assert rig.paused() == [0, 1], "the highest rank first, and one alone"
    await rig.look(LATE_US, STEP_US + 2 * LATE_US)
    assert rig.paused() == [0, 1, 2], "too early"
    await rig.look(0, 2 * CALM_MIN_US - 1_000_000)
    assert rig.paused() == [0, 1, 2]
    await rig.look(0, 2_000_000 + STEP_US)
    assert rig.paused() == [], "one, then two"
    await rig.look(0, QUIET_US + 1_000_000)
    (episode,) = rig.alarms.told()
    assert episode.until_us
    assert (episode.streams, episode.waiting) == (3, 0)


async def test_one_that_cannot_come_back_yet_or_was_removed_holds_nobody() -> None:
    rig = Rig(*(Session(n, rank=n) for n in range(4)))
    for _ in range(3):
        await rig.look(LATE_US, STEP_US + 2 * LATE_US)
    assert rig.paused() == [0, 1, 2]
    rig.sessions[2].resumable = False
    del rig.sessions[1]
    await rig.look(0, CALM_MIN_US + 3 * STEP_US)
    assert rig.paused() == [2]
    assert rig.alarms.told()[0].waiting == 1
    rig.sessions[1].resumable = True
    await rig.look(0, STEP_US + 1_000_000)
    assert rig.paused() == []
    assert rig.alarms.told()[0].waiting == 0


async def test_it_watches_the_loop_it_runs_in() -> None:
    """Real time: a loop that is held up again and again is seen, and a session is paused in it."""
    from base.clock import SystemClock

    clock = SystemClock()
    sessions = [Session(1), Session(2)]
    shedding = Shedding(clock, Alarms(clock), lambda: sessions, 20_000)
    shedding.start()
    end_us = clock.monotonic_us() + 30_000_000
    while not any(one.paused for one in sessions) and clock.monotonic_us() < end_us:
        held_until_us = clock.monotonic_us() + 150_000
        while clock.monotonic_us() < held_until_us:
            pass
        await asyncio.sleep(0)
    await shedding.stop()
    assert sum(one.paused for one in sessions) == 1
