"""The media clock → stored time: ascending, anchored at the least delay, slewed, and honest about its error."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recorder.storedclock import SLEW_PPM, SQUEEZE_PPM, STEP_US
from recorder.wallclock import WINDOW_US, WallClock

WALL = 1_700_000_000_000_000  # monotonic → stored


def anchored(media_90k: int, delay_us: int, floor_us: int = 0) -> WallClock:
    clock = WallClock()
    clock.observe(media_90k, delay_us)
    clock.anchor(media_90k, WALL, floor_us)
    return clock


def test_first_fragment_is_anchored_at_its_least_delay() -> None:
    clock = anchored(900_000, 40_000)  # media 10 s, least delay 40 ms
    assert clock.wall_us(900_000) == WALL + 10_000_000 + 40_000
    assert clock.monotonic_us(900_000) == 10_040_000


def test_nothing_is_given_before_what_is_stored() -> None:
    clock = anchored(0, 0, WALL + 60_000_000)
    assert clock.wall_us(0) == WALL + 60_000_000
    assert clock.error_us >= 60_000_000


def test_a_less_delayed_picture_is_approached_and_never_jumped_to() -> None:
    clock = anchored(0, STEP_US)
    for second in range(1, 20):
        clock.observe(second * 90_000, 0)
        assert clock.wall_us(second * 90_000) == WALL + second * 1_000_000 + STEP_US - second * SLEW_PPM


def test_a_start_with_old_pictures_is_mended_soon() -> None:
    """The first pictures were 2 s old: within half a second after 16 s."""
    clock = anchored(0, 2_000_000)
    for second in range(1, 17):
        clock.observe(second * 90_000, 0)
        assert clock.wall_us(second * 90_000) == WALL + second * 1_000_000 + 2_000_000 - second * SQUEEZE_PPM
        assert clock.error_us >= 2_000_000 - second * SQUEEZE_PPM
    assert clock.wall_us(16 * 90_000) - WALL - 16_000_000 < 500_000


def test_pictures_later_than_thought_ask_for_a_new_anchor() -> None:
    """After a stall a whole window of late pictures is no stall any more."""
    clock = anchored(0, 0)
    for second in range(1, WINDOW_US // 1_000_000 + 1):
        clock.observe(second * 90_000, 3_000_000)
        assert not clock.behind
    clock.observe(61 * 90_000, 3_000_000)
    assert clock.behind
    clock.anchor(61 * 90_000, WALL, 0)
    assert not clock.behind
    assert clock.wall_us(61 * 90_000) == WALL + 64_000_000


def test_a_camera_that_drifts_for_a_week_is_followed() -> None:
    """500 ppm fast and slow, looked at each 5 s: within 100 ms of arrival, and within the bound that is told."""
    for ppm in (-500, 500):
        clock = WallClock()
        for second in range(0, 7 * 86_400, 5):
            true_us = second * (1_000_000 + ppm)
            clock.observe(second * 90_000, true_us - second * 1_000_000)
            if not clock.anchored:
                clock.anchor(0, WALL, 0)
            off_us = abs(clock.wall_us(second * 90_000) - (WALL + true_us))
            assert off_us < 100_000
            assert off_us <= clock.error_us
            assert not clock.behind


@given(st.lists(st.tuples(st.integers(1, 20 * 90_000), st.integers(-(10**7), 10**7)), min_size=2, max_size=200))
def test_stored_time_ascends_whatever_arrives(steps: list[tuple[int, int]]) -> None:
    clock = WallClock()
    media, before = 0, 0
    for step_90k, delay_us in steps:
        media += step_90k
        clock.observe(media, delay_us)
        if not clock.anchored or clock.behind:
            clock.anchor(media, WALL, before)
        now = clock.wall_us(media)
        assert now > before or now == before == 0
        before = now + 1
