"""Range requests (RFC 9110 §14) as values, without sockets.

Kept true: every range returned lies inside the representation; the bytes of an answer never exceed the representation
plus the heads of its parts, whatever the client asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from playback.problems import Problem

RANGES_MAX: Final = 32
_HEADER_CHARACTERS_MAX: Final = 2048
_SPEC: Final = re.compile(r"(\d{0,20})-(\d{0,20})", re.ASCII)
_ETAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\uffff]*"')


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes [start, end) of the representation, sent after `head`."""

    start: int
    end: int
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class RangePlan:
    """What a request's Range asks for: the parts in order, the content's type and its length."""

    parts: tuple[Part, ...]
    content_type: str
    content_range: str  # empty when several parts
    tail: bytes
    length: int


def parse_ranges(header: str, size: int) -> list[tuple[int, int]] | None:
    """[start, end) pairs in the order asked; None when the header must be ignored (§14.2: another unit)."""
    unit, _, specs = header.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    if len(header) > _HEADER_CHARACTERS_MAX or specs.count(",") >= 2 * RANGES_MAX:
        raise _refusal(size, f"it names too many ranges; ask for at most {RANGES_MAX} at a time")
    ranges = []
    for spec in (text.strip() for text in specs.split(",")):
        if not spec:  # empty list elements are legal (§5.6.1)
            continue
        found = _satisfy(spec, size)
        if found is not None:
            ranges.append(found)
    if not ranges:
        raise _refusal(size, f"the clip has {size} bytes, the last one is number {size - 1}")
    if len(ranges) > RANGES_MAX:
        raise _refusal(size, f"it names {len(ranges)} ranges; ask for at most {RANGES_MAX} at a time")
    if sum(end - start for start, end in ranges) > size:
        raise _refusal(size, "its ranges overlap; ask for each byte once")
    return ranges


def _satisfy(spec: str, size: int) -> tuple[int, int] | None:
    """One range-spec as [start, end), or None when it lies outside."""
    match = _SPEC.fullmatch(spec)
    if match is None or spec == "-":
        raise _refusal(size, f"{spec[:40]!r} is not a range; write bytes=FIRST-LAST, bytes=FIRST- or bytes=-COUNT")
    first, last = match.groups()
    if not first:
        count = min(int(last), size)
        return (size - count, size) if count else None
    if last and int(last) < int(first):
        raise _refusal(size, f"{spec[:40]!r} ends before it starts; write bytes=FIRST-LAST with FIRST ≤ LAST")
    end = min(int(last) + 1, size) if last else size
    return (int(first), end) if int(first) < size else None


def _refusal(size: int, why: str) -> Problem:
    headers = {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
    return Problem(416, "bad-range", f"the Range header cannot be met: {why}", headers=headers)


def plan_ranges(ranges: list[tuple[int, int]], size: int, content_type: str, boundary: str) -> RangePlan:
    """The 206 answer's shape: one range plain, several as multipart/byteranges (§14.6)."""
    if len(ranges) == 1:
        ((start, end),) = ranges
        return RangePlan((Part(start, end),), content_type, f"bytes {start}-{end - 1}/{size}", b"", end - start)
    parts = tuple(
        Part(
            start,
            end,
            f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n"
            f"Content-Range: bytes {start}-{end - 1}/{size}\r\n\r\n".encode("ascii"),
        )
        for start, end in ranges
    )
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")
    length = sum(len(part.head) + part.end - part.start for part in parts) + len(tail)
    return RangePlan(parts, f"multipart/byteranges; boundary={boundary}", "", tail, length)


def matches(header: str, etag: str, *, weak: bool) -> bool:
    """Whether an If-Match (strong) or If-None-Match (weak) list names `etag` (§8.8.3.2)."""
    if header.strip() == "*":
        return True
    for found in _ETAG.findall(header):
        if found.startswith("W/"):
            if weak and found[2:] == etag:
                return True
        elif found == etag:
            return True
    return False


def precondition(method: str, if_match: str | None, if_none_match: str | None, etag: str) -> Literal[200, 304, 412]:
    """The outcome of the conditional headers, in the order of §13.2.2."""
    if if_match is not None and not matches(if_match, etag, weak=False):
        return 412
    if if_none_match is not None and matches(if_none_match, etag, weak=True):
        return 304 if method in ("GET", "HEAD") else 412
    return 200


def range_applies(if_range: str | None, etag: str) -> bool:
    """Whether Range holds: an If-Range must be exactly our strong tag (§13.1.5); no dates are sent, so none match."""
    return if_range is None or if_range.strip() == etag
