from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.media import VideoConfig
from simcam.cursor import NEVER, Cursor
from simcam.loop import Track, make_track, parameter_sets, split_annexb

CONFIG = VideoConfig("h264")


def track(dts: list[int], pts: list[int], duration: int) -> Track:
    units = [[b"\x65key" if n == 0 else b"\x41not"] for n in range(len(dts))]
    return make_track(CONFIG, 90_000, units, pts, dts, duration)


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=6), st.sampled_from([b"\0\0\1", b"\0\0\0\1"]))
def test_annexb_splits_into_what_was_joined(bodies: list[bytes], start: bytes) -> None:
    nals = [b"\x65" + body.replace(b"\0", b"\2") for body in bodies]
    assert split_annexb(start + start.join(nals) + b"\0\0") == nals


def test_a_track_begins_at_zero_and_shows_nothing_before_it_is_decoded() -> None:
    made = track([-200, -100, 0], [-300, 100, 0], 300)
    assert list(made.dts) == [0, 100, 200]
    assert list(made.pts) == [0, 400, 300]
    assert made.delay_ticks == 300
    assert made.keys == (True, False, False)


def test_no_two_pictures_share_a_time() -> None:
    made = track([0, 0, 0, 100], [0, 0, 0, 100], 100)
    assert list(made.pts) == [0, 1, 2, 100]
    assert made.duration_ticks == 101


def test_a_track_without_units_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot repeat"):
        make_track(CONFIG, 90_000, [], [], [], 100)


def test_parameter_sets_are_found_once_each() -> None:
    nals = [b"\x67a", b"\x68b", b"\x65c", b"\x67a", b"\x68d"]
    assert parameter_sets("h264", nals) == VideoConfig("h264", (), (b"\x67a",), (b"\x68b", b"\x68d"))
    assert parameter_sets("h265", [b"\x40\x01v", b"\x42\x01s", b"\x44\x01p"]).vps == (b"\x40\x01v",)


def test_time_goes_on_over_the_turns() -> None:
    cursor = Cursor(0, track([0, 100, 200], [100, 200, 300], 300), 5_000_000, 1.0, 0)
    seen = []
    for _ in range(8):
        seen.append((cursor.pts, cursor.due_us))
        cursor.step()
    assert [pts for pts, _ in seen] == [100, 200, 300, 400, 500, 600, 700, 800]
    assert [due for _, due in seen] == [5_000_000 + n * 100 * 100 // 9 for n in range(8)]


def test_a_bounded_loop_ends() -> None:
    cursor = Cursor(0, track([0, 100], [0, 100], 200), 0, 1.0, 2)
    for _ in range(4):
        assert cursor.due_us < NEVER
        cursor.step()
    assert cursor.due_us == NEVER


@given(st.integers(0, 10_000_000), st.sampled_from([0, 3]), st.sampled_from([0.5, 1.0, 10.0]))
def test_skipping_is_stepping(until_us: int, repeat: int, rate: float) -> None:
    def make() -> Cursor:
        return Cursor(0, track([0, 90_000, 95_000], [0, 90_000, 95_000], 180_000), 7, rate, repeat)

    skipped, stepped = make(), make()
    assert skipped.skip_until(until_us) == steps(stepped, lambda: stepped.due_us < until_us)
    assert (skipped.due_us, skipped.index, skipped.turn) == (stepped.due_us, stepped.index, stepped.turn)


def steps(cursor: Cursor, more: Callable[[], bool]) -> int:
    count = 0
    while more():
        cursor.step()
        count += 1
    return count


def test_a_switch_goes_on_in_time() -> None:
    cursor = Cursor(0, track([0, 100, 200], [100, 300, 200], 300), 0, 1.0, 0)
    cursor.step()
    cursor.switch(track([0, 50], [0, 50], 100), 1)
    assert cursor.pts == 100 + 200
    assert cursor.loop_number == 1


def test_the_next_key_is_found_over_the_seam() -> None:
    cursor = Cursor(0, track([0, 100, 200], [0, 100, 200], 300), 0, 1.0, 0)
    assert cursor.key_pts == 0
    cursor.step()
    assert cursor.key_pts == 300


@pytest.mark.parametrize("away_us", [1, 700_000, 9_999_999, 10_000_000, 10_700_000, 123_456_789])
@pytest.mark.parametrize("index", [0, 7, 149])
def test_a_cursor_passes_over_no_more_than_what_was_due(index: int, away_us: int) -> None:
    ten_seconds = track([6000 * n for n in range(150)], [6000 * n for n in range(150)], 900_000)
    cursor = Cursor(0, ten_seconds, 1_000_000, 1.0, 0)
    for _ in range(index):
        cursor.step()
    now_us = cursor.due_us + away_us
    skipped = cursor.skip_until(now_us)
    assert now_us <= cursor.due_us < now_us + 70_000, "the next unit comes within a picture's time"
    assert cursor.turn * 150 + cursor.index == index + skipped
