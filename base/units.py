"""Time and size units, and the only place where times are parsed or printed.

Kept true: wall time inside the product is an int of UTC microseconds since 1970 (`*_us`); media time is an
int of 1/90000 s (`*_90k`); a time read from outside always carries an offset (RFC 3339).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from base.errors import UserError

US: Final = 1_000_000
MEDIA_HZ: Final = 90_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH: Final = datetime(1970, 1, 1)
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_time(text: str) -> int:
    """RFC 3339 time with an offset → UTC microseconds; `UserError` says what is missing."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise UserError(
            f"time {text[:64]!r} is not RFC 3339 with an offset; write it like 2026-03-01T08:30:00+07:00 or …Z",
            reason="bad-time",
        )
    fraction = match.group(1)
    plain = text.upper().replace(" ", "T")
    if fraction:
        plain = plain.replace(fraction, fraction[:7])
    try:
        moment = datetime.fromisoformat(plain)
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise UserError(f"time {text[:64]!r} does not exist: {error}", reason="bad-time") from None


def format_time(time_us: int) -> str:
    """UTC microseconds → RFC 3339 in UTC with microseconds and `Z`."""
    moment = _NAIVE_EPOCH + timedelta(microseconds=time_us)
    return moment.isoformat(timespec="microseconds") + "Z"  # a quarter of what strftime costs; answers hold thousands


def utc(time_us: int) -> datetime:
    """UTC microseconds → aware datetime."""
    return _EPOCH + timedelta(microseconds=time_us)


def us_to_90k(duration_us: int) -> int:
    """Microseconds → 90 kHz ticks, floor."""
    return duration_us * 9 // 100


def ticks_to_us(duration_90k: int) -> int:
    """90 kHz ticks → microseconds, floor."""
    return duration_90k * 100 // 9
