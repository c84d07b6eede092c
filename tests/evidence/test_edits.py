"""Streams that a camera signed, edited in any way: nothing that was not signed so is ever called authentic."""

from __future__ import annotations

import os
import random
from functools import cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import pytest

from evidence.mediasigning import Part, Verdict, Verifier
from tests.evidence.signer import Authority, make_camera, pictures
from tests.fuzz.feed import Feed

WAYS: Final[tuple[dict[str, Any], ...]] = (
    {}, {"late": 0}, {"late": 4}, {"hash_list": False}, {"split": 2}, {"every": 2}, {"every": 3, "late": 0},
    {"certificate_sei": True}, {"repeat": 2}, {"every": 2, "hash_list": False, "escape_first": True},
    {"split": 2, "hash_list": False},
)  # fmt: skip
_EDITS_MAX: Final = 24


class _Unit(NamedTuple):
    place: int  # among the stream's slices; -1 of what is none, or not the camera's
    nal: bytes


@cache
def _stream(way: int) -> tuple[str, tuple[_Unit, ...]]:
    codec = ("h264", "h265")[way % 2]
    camera = make_camera(Authority(), codec=codec, **WAYS[way])
    units = camera.sign(pictures(codec, 6, 4, slices=1 + way % 2), closing=True)
    place, made = 0, []
    for nal in (nal for unit in units for nal in unit):
        is_slice = bool(camera._kind(nal))
        made.append(_Unit(place if is_slice else -1, nal))
        place += is_slice
    return codec, tuple(made)


def _edit(feed: Feed, units: list[_Unit], gaps: set[int]) -> None:
    """What a forger, a network or a disk does."""
    at, other = feed.u(1) % len(units), feed.u(1) % len(units)
    unit = units[at]
    match feed.u(1) % 7:
        case 0:
            del units[at]
        case 1:
            units.insert(other, unit)
        case 2:
            units[at], units[other] = units[other], unit
        case 3:
            nal = bytearray(unit.nal)
            nal[feed.u(2) % len(nal)] ^= feed.u(1) or 1
            units[at] = _Unit(-1, bytes(nal))
        case 4:
            units.insert(at, _Unit(-1, feed.blob() or b"\6\5"))
        case 5:
            del units[at : at + feed.u(1) % 12]
        case 6:
            gaps.add(at)
    if not units:
        units.append(unit)


def _check(way: int, data: bytes) -> None:
    """Slices of an authentic part are as the camera sent them and follow one another; so do authentic parts."""
    feed = Feed(data)
    codec, stream = _stream(way)
    units, gaps = list(stream), set[int]()
    for _ in range(_EDITS_MAX):
        if not feed.more:
            break
        _edit(feed, units, gaps)
    verifier = Verifier(codec)  # type: ignore[arg-type]
    parts: list[Part] = []
    for time_us, unit in enumerate(units):
        if time_us in gaps:
            verifier.interrupt()
        parts += verifier.feed(unit.nal, time_us)
    parts += verifier.finish()
    _judge(codec, units, parts)
    if not gaps and units == list(stream):
        assert {part.verdict for part in parts} == {Verdict.AUTHENTIC}


def _judge(codec: str, units: list[_Unit], parts: list[Part]) -> None:
    previous: list[int] = []
    for part in parts:
        between = [unit for unit in units[part.start_us : part.end_us + 1] if _is_slice(codec, unit.nal)]
        places = [unit.place for unit in between]
        if part.verdict is Verdict.AUTHENTIC:
            assert -1 not in places, (part, places)
            assert all(b == a + 1 for a, b in pairwise([*previous[-1:], *places])), (part, places, previous)
        elif part.verdict is Verdict.MISSING_UNITS and part.units:
            assert -1 not in places, (part, places)
            assert all(b > a for a, b in pairwise(places)), (part, places)
        previous = places if part.verdict is Verdict.AUTHENTIC else []


def _is_slice(codec: str, nal: bytes) -> bool:
    return 1 <= nal[0] & 0x1F <= 5 and len(nal) > 1 if codec == "h264" else nal[0] >> 1 & 0x3F < 32 and len(nal) > 2


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_an_edit_is_never_authentic(way: int) -> None:
    rng = random.Random(way)
    _check(way, b"")
    for _ in range(5_000 if os.environ.get("KEYREEL_FAULTS") == "long" else 60):
        data = rng.randbytes(rng.choice((3, 4, 8, 12, 30)))
        try:
            _check(way, data)
        except AssertionError as error:
            raise AssertionError(f"edits {data.hex()}: {error}") from None
