"""The media clock → UTC: ascending, anchored at the least delay, slewed and never stepped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recorder.wallclock import SLEW_PPM, WallClock

WALL = 1_700_000_000_000_000  # monotonic → wall


def test_first_fragment_is_anchored_at_its_least_delay() -> None:
    clock = WallClock()
    clock.observe(900_000, 40_000, WALL)  # media 10 s, least delay 40 ms
    assert clock.wall_us(900_000) == WALL + 10_000_000 + 40_000


def test_nothing_is_given_before_what_is_stored() -> None:
    clock = WallClock(floor_us=WALL + 60_000_000)
    clock.observe(0, 0, WALL)
    assert clock.wall_us(0) == WALL + 60_000_000


def test_a_less_delayed_picture_is_approached_and_never_jumped_to() -> None:
    clock = WallClock()
    clock.observe(0, 500_000, WALL)
    for second in range(1, 20):
        clock.observe(second * 90_000, 0, WALL)
        assert clock.wall_us(second * 90_000) == WALL + second * 1_000_000 + 500_000 - second * SLEW_PPM


def test_a_drifting_camera_is_followed_within_the_window() -> None:
    """A camera 500 ppm slow for an hour: stored time stays within 100 ms of arrival."""
    clock = WallClock()
    for second in range(3600):
        true_us = second * 1_000_500
        clock.observe(second * 90_000, true_us - second * 1_000_000, WALL)
        assert abs(clock.wall_us(second * 90_000) - (WALL + true_us)) < 100_000


@given(st.lists(st.tuples(st.integers(1, 20 * 90_000), st.integers(-(10**7), 10**7)), min_size=2, max_size=200))
def test_stored_time_ascends_whatever_arrives(steps: list[tuple[int, int]]) -> None:
    clock = WallClock()
    media, before = 0, None
    for step_90k, delay_us in steps:
        media += step_90k
        clock.observe(media, delay_us, WALL)
        now = clock.wall_us(media)
        assert before is None or now > before
        before = now
