"""Stored time never goes back, follows what is vouched for, and says how far it is from the node's clock."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from base.clock import WallClockState
from base.units import US
from recorder.carried import BOOT_ID, FILE_NAME, CarriedOffset
from recorder.storedclock import (
    HOLD_US,
    LOOK_US,
    PLAUSIBLE_US,
    SETTLE_US,
    SQUEEZE_PPM,
    START_AHEAD_US,
    STEP_US,
    StoredClock,
)

HOUR_US = 3_600 * US
DAY_US = 24 * HOUR_US
YEAR_US = 365 * DAY_US
WALL_US = 1_790_000_000 * US


class Node:
    """Both clocks of a node and its kernel's word, set by hand."""

    def __init__(self, wall_us: int = WALL_US, synced: bool | None = True) -> None:
        self.wall = wall_us
        self.monotonic = 5 * US
        self.synced = synced

    def wall_us(self) -> int:
        return self.wall

    def monotonic_us(self) -> int:
        return self.monotonic

    async def sleep(self, duration_s: float) -> None:
        raise NotImplementedError

    def kernel(self) -> WallClockState:
        return WallClockState(self.synced, 3_000 if self.synced else 0)

    def stored(self, newest_us: int = 0, **more: int) -> StoredClock:
        return StoredClock(self, newest_us=newest_us, kernel=self.kernel, **more)

    def let_pass(self, stored: StoredClock, duration_us: int, every_us: int = US) -> None:
        """Time passes and the recorder looks at its clocks."""
        for _ in range(duration_us // every_us):
            self.wall += every_us
            self.monotonic += every_us
            before_us = stored.monotonic_us() + stored._offset_us
            assert stored.wall_us() >= before_us - every_us * SQUEEZE_PPM // 1_000_000


def test_without_steps_both_clocks_agree() -> None:
    node = Node()
    stored = node.stored()
    node.let_pass(stored, HOUR_US)
    assert stored.wall_us() == node.wall
    assert stored.trust() == (True, "")
    assert stored.status().error_us == 3_000


def test_an_hour_ahead_is_followed_at_once_and_deletes_nothing_for_an_hour() -> None:
    node = Node()
    stored = node.stored()
    marks = stored.marks
    node.wall += HOUR_US
    node.let_pass(stored, US)
    assert stored.wall_us() == node.wall
    assert stored.marks > marks
    assert stored.status().last_step_us == HOUR_US
    assert stored.trust() == (False, "stepped")
    node.let_pass(stored, SETTLE_US)
    assert stored.trust().trusted


def test_an_hour_back_by_mistake_and_mended_leaves_no_trace() -> None:
    """Nobody vouches for the clock that went back: stored time keeps its pace, and is right when the hour returns."""
    node = Node(synced=False)
    stored = node.stored()
    node.wall -= HOUR_US
    node.let_pass(stored, HOUR_US // 2)
    assert stored.ahead_us == HOUR_US
    assert stored.trust() == (False, "ahead")
    assert stored.error_us >= HOUR_US
    node.wall += HOUR_US
    marks = stored.marks
    node.let_pass(stored, US)
    assert stored.ahead_us == 0
    assert stored.marks > marks


def test_a_clock_set_back_for_good_is_met_in_ten_times_the_step() -> None:
    node = Node(synced=False)
    stored = node.stored()
    node.wall -= HOUR_US
    node.let_pass(stored, HOLD_US)
    assert stored.ahead_us > HOUR_US * 0.99
    node.let_pass(stored, 10 * HOUR_US, 10 * US)
    assert abs(stored.ahead_us) <= STEP_US
    node.let_pass(stored, 300 * US)
    assert stored.ahead_us == 0


def test_the_kernels_word_ends_the_wait() -> None:
    node = Node()
    stored = node.stored()
    node.wall -= HOUR_US
    node.let_pass(stored, 100 * US)
    assert stored.ahead_us == HOUR_US - 10 * US


def test_a_second_told_twice_is_within_half_a_second_after_five() -> None:
    """A leap second: the node's clock shows 23:59:59 again."""
    node = Node()
    stored = node.stored()
    node.wall -= US
    node.let_pass(stored, 6 * US)
    assert 0 < stored.ahead_us < 500_000
    assert stored.trust() == (False, "ahead")
    node.let_pass(stored, 300 * US)
    assert stored.ahead_us == 0
    assert stored.trust().trusted


def test_ten_years_ahead_need_the_kernels_word() -> None:
    node = Node(synced=False)
    stored = node.stored()
    node.wall += 10 * YEAR_US
    node.let_pass(stored, HOUR_US, 10 * US)
    assert stored.ahead_us == -10 * YEAR_US
    assert stored.trust() == (False, "step-not-followed")
    assert stored.error_us >= 10 * YEAR_US
    node.synced = True
    node.let_pass(stored, US)
    assert stored.wall_us() == node.wall


def test_ten_years_ahead_and_back_leave_no_trace() -> None:
    node = Node(synced=False)
    stored = node.stored()
    true_us = node.wall
    node.wall += 10 * YEAR_US
    node.let_pass(stored, 60 * US)
    node.wall -= 10 * YEAR_US
    node.let_pass(stored, 60 * US)
    assert stored.wall_us() == node.wall == true_us + 120 * US


def test_years_ahead_in_the_archive_are_kept_at_their_distance() -> None:
    """Running slower for a hundred years would be worse than a distance that is known."""
    node = Node()
    stored = node.stored(newest_us=node.wall + YEAR_US)
    node.let_pass(stored, DAY_US, 10 * US)
    assert stored.ahead_us == YEAR_US


def test_a_start_goes_on_where_the_archive_ends() -> None:
    node = Node(synced=False)
    newest_us = node.wall + HOUR_US
    stored = node.stored(newest_us=newest_us)
    assert stored.wall_us() == newest_us
    assert stored.trust() == (False, "ahead")
    assert stored.steps == 1


def test_a_restart_carries_stored_time_on(tmp_path: Path) -> None:
    """Down for a minute while the clock is an hour back: the absence is a minute long, stored time leaps nowhere."""
    node = Node(synced=False)
    stored = node.stored()
    node.wall -= HOUR_US
    node.let_pass(stored, 10 * US)
    newest_us = stored.wall_us()
    CarriedOffset(tmp_path).write(stored.offset_us())
    node.wall += 60 * US
    node.monotonic += 60 * US
    carried_us = CarriedOffset(tmp_path).read()
    again = StoredClock(node, newest_us=newest_us, carried_us=carried_us, kernel=node.kernel)
    assert again.wall_us() == newest_us + 60 * US
    assert again.ahead_us == HOUR_US
    node.wall += HOUR_US
    later = StoredClock(node, newest_us=newest_us, carried_us=carried_us, kernel=node.kernel)
    assert (later.ahead_us, later.wall_us()) == (0, node.wall)


def test_what_another_boot_carried_is_not_taken(tmp_path: Path) -> None:
    carried = CarriedOffset(tmp_path)
    carried.write(5)
    assert carried.read() == 5
    text = (tmp_path / FILE_NAME).read_text()
    (tmp_path / FILE_NAME).write_text(text.replace(BOOT_ID.read_text().strip(), "another"))
    assert carried.read() is None
    (tmp_path / FILE_NAME).write_text("{")
    assert carried.read() is None


def test_a_start_in_1970_goes_on_where_the_archive_ends() -> None:
    node = Node(wall_us=1000 * US, synced=False)
    stored = node.stored(newest_us=WALL_US)
    assert stored.wall_us() == WALL_US
    assert stored.trust() == (False, "not-set")
    node.let_pass(stored, 60 * US)
    node.wall, node.synced = WALL_US + 90 * US, True
    node.let_pass(stored, US)
    assert stored.wall_us() == node.wall


def test_a_first_start_in_1970_follows_the_clock_when_it_is_set() -> None:
    node = Node(wall_us=1000 * US, synced=False)
    stored = node.stored()
    node.let_pass(stored, 60 * US)
    assert stored.wall_us() == node.wall < PLAUSIBLE_US
    node.wall = WALL_US
    node.let_pass(stored, US)
    assert stored.wall_us() == node.wall


def test_a_start_years_after_the_archives_end_waits_for_the_kernels_word() -> None:
    node = Node(synced=False)
    assert node.stored(newest_us=node.wall - START_AHEAD_US + US).ahead_us == 0
    newest_us = node.wall - START_AHEAD_US - US
    assert node.stored(newest_us=newest_us).wall_us() == newest_us
    assert node.stored(newest_us=newest_us, step_max_us=2 * START_AHEAD_US).ahead_us == 0
    node.synced = True
    assert node.stored(newest_us=newest_us).ahead_us == 0


def test_trust_needs_a_vouched_clock() -> None:
    for synced in (False, None):
        node = Node(synced=synced)
        assert node.stored().trust() == (False, "unsynced")
        assert StoredClock(node, kernel=node.kernel, vouched=True).trust().trusted


def test_an_interruption_between_the_two_readings_is_no_step() -> None:
    class Interrupted(Node):
        """The first two readings of each look are torn apart by 400 ms."""

        reads = 0

        def wall_us(self) -> int:
            self.reads += 1
            if self.reads % 3:
                self.wall += 400_000
                self.monotonic += 400_000
            return self.wall

    node = Interrupted()
    stored = node.stored()
    node.let_pass(stored, 60 * US)
    assert stored.steps == 0
    assert abs(stored.ahead_us) < 1_000


STEP = st.one_of(st.integers(-2 * US, 2 * US), st.integers(-2 * DAY_US, 2 * DAY_US), st.just(10 * YEAR_US))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100 * US), STEP, st.booleans(), st.booleans()), max_size=40))
def test_stored_time_never_goes_back(doings: list[tuple[int, int, bool, bool]]) -> None:
    """Whatever passes, steps, restarts and the kernel says."""
    node = Node()
    stored = node.stored()
    before_us = stored.wall_us()
    for passed_us, step_us, synced, restart in doings:
        node.monotonic += passed_us
        node.wall = max(node.wall + passed_us + step_us, 0)
        node.synced = synced
        if restart:
            carried_us = stored.offset_us() if synced else None
            stored = StoredClock(node, newest_us=before_us, carried_us=carried_us, kernel=node.kernel)
        now_us = stored.wall_us()
        assert now_us >= before_us
        if passed_us >= LOOK_US and abs(stored.ahead_us) > STEP_US:
            assert not stored.trust().trusted
        before_us = now_us
