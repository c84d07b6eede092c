"""Schedules: what the words mean, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from base.errors import UserError
from base.schedule import parse_schedule

HANOI = ZoneInfo("Asia/Ho_Chi_Minh")


@pytest.fixture(autouse=True)
def local_time_of_hanoi(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Ho_Chi_Minh")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=HANOI).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("schedule", "inside", "outside"),
    [  # 2026-03-02 is a Monday
        ("mon-fri 07:00-19:00", ["2026-03-02T07:00", "2026-03-06T18:59"], ["2026-03-02T06:59:59", "2026-03-07T12"]),
        ("daily 22:00-06:00", ["2026-03-01T23:00", "2026-03-02T05:59:59"], ["2026-03-02T06:00", "2026-03-02T21:59:59"]),
        ("sun 20:00-04:00", ["2026-03-01T21:00", "2026-03-02T03:00"], ["2026-03-01T03:00", "2026-03-03T03:00"]),
        ("sat,sun 09:00-12:00,13:00-24:00; wed 00:00-24:00", ["2026-03-07T23:59", "2026-03-04T00"], ["2026-03-07T12"]),
        ("fri-mon 08:00-09:00", ["2026-03-01T08:30", "2026-03-02T08:30"], ["2026-03-03T08:30"]),
    ],
)  # fmt: skip
def test_what_a_schedule_covers(schedule: str, inside: list[str], outside: list[str]) -> None:
    parsed = parse_schedule(schedule)
    assert [parsed.covers(at(text)) for text in inside] == [True] * len(inside)
    assert [parsed.covers(at(text)) for text in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    "text",
    ["", ";", "mon", "someday 07:00-08:00", "mon-xyz 07:00-08:00", "mon 7-8", "mon 25:00-26:00", "mon 07:60-08:00",
     "mon 07:00-24:30", "daily 07:00-08:00;" * 100],
)  # fmt: skip
def test_what_is_no_schedule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match="mon-fri 07:00-19:00") as caught:
        parse_schedule(text)
    assert caught.value.reason == "bad-schedule"
