"""When a camera is to be recorded, in words of weekdays and hours.

Grammar: parts separated by `;`, each `DAYS HH:MM-HH:MM[,HH:MM-HH:MM…]`, where DAYS is `daily`, a day (`mon` … `sun`),
a range (`mon-fri`) or several of both joined by commas. An end at or before its start is on the next day; `24:00` is
the day's end. Times are the machine's local time (TZ).

Kept true: what parses means one thing; a text is bounded, and so is what asking costs.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from base.errors import UserError
from base.units import US

TEXT_MAX: Final = 500
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MIN: Final = 24 * 60
_SPAN: Final = re.compile(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Minutes of the week, from Monday 00:00: pairs [from, to), `to` may lie in the week after."""

    spans: tuple[tuple[int, int], ...]

    def covers(self, wall_us: int) -> bool:
        """Whether a moment (UTC, µs) lies in one of the spans."""
        local = time.localtime(wall_us // US)
        minute = local.tm_wday * _DAY_MIN + local.tm_hour * 60 + local.tm_min
        week = 7 * _DAY_MIN
        return any(start <= minute < end or start <= minute + week < end for start, end in self.spans)


@lru_cache(maxsize=1024)
def parse_schedule(text: str) -> Schedule:
    """The schedule that a text means; `UserError` (reason bad-schedule) says what is wrong."""
    if len(text) > TEXT_MAX:
        raise _bad("it is longer than 500 characters")
    spans: list[tuple[int, int]] = []
    for part in filter(None, (part.strip() for part in text.lower().split(";"))):
        days, _, hours = part.partition(" ")
        if not hours.strip():
            raise _bad(f"{part!r} names no hours")
        for day in _days(days):
            spans += [(day * _DAY_MIN + start, day * _DAY_MIN + end) for start, end in _hours(hours)]
    if not spans:
        raise _bad("it is empty")
    return Schedule(tuple(sorted(spans)))


def _days(text: str) -> list[int]:
    if text == "daily":
        return list(range(7))
    days: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise _bad(f"{part!r} is no day; write mon to sun, mon-fri, or daily")
        begin = DAYS.index(first)
        count = (DAYS.index(last) - begin) % 7 + 1 if dash else 1
        days += [(begin + i) % 7 for i in range(count)]
    return sorted(set(days))


def _hours(text: str) -> list[tuple[int, int]]:
    hours: list[tuple[int, int]] = []
    for part in text.split(","):
        found = _SPAN.fullmatch(part.strip())
        if found is None:
            raise _bad(f"{part.strip()!r} is no span of time; write 07:30-19:00")
        from_h, from_m, to_h, to_m = map(int, found.groups())
        start, end = from_h * 60 + from_m, to_h * 60 + to_m
        if from_h > 23 or from_m > 59 or to_m > 59 or end > _DAY_MIN:
            raise _bad(f"{part.strip()!r} is no time of day")
        hours.append((start, end if end > start else end + _DAY_MIN))
    return hours


def _bad(what: str) -> UserError:
    text = f"the schedule cannot be read: {what}; an example: mon-fri 07:00-19:00; sat,sun 09:00-12:00"
    return UserError(text, reason="bad-schedule")
