from __future__ import annotations

import contextlib
import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playback.problems import Problem
from playback.ranges import RANGES_MAX, matches, parse_ranges, plan_ranges, precondition, range_applies

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-", [(0, 1000)]),
        ("bytes=990-2000", [(990, 1000)]),
        ("bytes=-10", [(990, 1000)]),
        ("bytes=-5000", [(0, 1000)]),
        ("BYTES = 1-2", [(1, 3)]),
        ("bytes=0-1, 5-6", [(0, 2), (5, 7)]),
        ("bytes=5-6,0-1", [(5, 7), (0, 2)]),  # the order asked is kept
        ("bytes=,0-1,,", [(0, 2)]),
        ("bytes=0-1,5000-6000", [(0, 2)]),  # what lies outside is left out while something is inside
        ("bytes=0-1,-0", [(0, 2)]),
    ],
)
def test_ranges_are_taken_as_the_standard_says(header: str, expected: list[tuple[int, int]]) -> None:
    assert parse_ranges(header, SIZE) == expected


def test_another_unit_is_ignored() -> None:
    assert parse_ranges("seconds=0-1", SIZE) is None


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ("bytes=1000-", "1000 bytes"),
        ("bytes=-0", "1000 bytes"),
        ("bytes=", "1000 bytes"),
        ("bytes=5-2", "ends before it starts"),
        ("bytes=a-b", "not a range"),
        ("bytes=--1", "not a range"),
        ("bytes=-", "not a range"),
        ("bytes=0x0-1", "not a range"),
        ("bytes=٠-١", "not a range"),
        ("bytes=" + "9" * 400 + "-", "not a range"),
        ("bytes=0-,0-", "overlap"),
        ("bytes=" + ",".join(f"{i}-{i}" for i in range(RANGES_MAX + 1)), f"at most {RANGES_MAX}"),
        ("bytes=" + "0-0," * 5000, f"at most {RANGES_MAX}"),
    ],
)
def test_an_absurd_range_is_refused_with_the_size(header: str, word: str) -> None:
    with pytest.raises(Problem) as caught:
        parse_ranges(header, SIZE)
    assert caught.value.status == 416
    assert caught.value.headers["Content-Range"] == f"bytes */{SIZE}"
    assert word in caught.value.detail


@given(st.text(max_size=80), st.integers(0, 1 << 70))
def test_any_header_gives_ranges_inside_the_file_or_a_problem(text: str, size: int) -> None:
    ranges = []
    with contextlib.suppress(Problem):
        ranges = parse_ranges("bytes=" + text, size) or []
    assert all(0 <= start < end <= size for start, end in ranges)


def test_one_range_is_sent_plain() -> None:
    shape = plan_ranges([(5, 10)], SIZE, "video/mp4", "x")
    assert (shape.content_range, shape.content_type, shape.length) == ("bytes 5-9/1000", "video/mp4", 5)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 400)), min_size=2, max_size=8))
def test_several_ranges_parse_as_mime(pairs: list[tuple[int, int]]) -> None:
    data = bytes(i % 251 for i in range(SIZE))
    ranges = [(start, start + length) for start, length in pairs]
    shape = plan_ranges(ranges, SIZE, "video/mp4", "frontier")
    body = b"".join(part.head + data[part.start : part.end] for part in shape.parts) + shape.tail
    assert len(body) == shape.length
    head = f"Content-Type: {shape.content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    parts = list(message.iter_parts())
    assert [part["Content-Range"] for part in parts] == [f"bytes {a}-{b - 1}/{SIZE}" for a, b in ranges]
    assert body.count(b"--frontier") == len(ranges) + 1


@pytest.mark.parametrize(
    ("header", "weak", "expected"),
    [
        ('"a"', False, True),
        ('W/"a"', False, False),
        ('W/"a"', True, True),
        ('"b", "a"', True, True),
        ('"b",W/"c"', True, False),
        ("*", False, True),
        ("a", True, False),
        ("", True, False),
    ],
)
def test_tags_compare_weakly_or_strongly(header: str, weak: bool, expected: bool) -> None:
    assert matches(header, '"a"', weak=weak) is expected


def test_conditions_come_in_order() -> None:
    assert precondition("GET", None, None, '"a"') == 200
    assert precondition("GET", None, '"a"', '"a"') == 304
    assert precondition("HEAD", None, "*", '"a"') == 304
    assert precondition("GET", '"b"', '"a"', '"a"') == 412
    assert precondition("POST", None, '"a"', '"a"') == 412


def test_a_range_holds_only_for_the_same_strong_tag() -> None:
    assert range_applies(None, '"a"')
    assert range_applies('"a"', '"a"')
    assert not range_applies('W/"a"', '"a"')
    assert not range_applies("Wed, 21 Oct 2026 07:28:00 GMT", '"a"')
