"""Which of the units that wait for a signature an SEI describes.

Kept true: what is found is contiguous; a whole part is found by its one hash alone, so the list of hashes is looked at
only where something is wrong; the work is bounded by the units that wait, whatever an SEI says.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, NamedTuple

from evidence.mediasigning.parts import Draft
from evidence.mediasigning.sei import General, Sei

_COMPARED_MAX: Final = 1 << 18  # pairs of hashes that are weighed for the best alignment; else the first fit is taken
_HASHED_MAX: Final = 1 << 18  # hashes of units that one SEI may have hashed again in search of its part


@dataclass(slots=True)
class Unit:
    """A hashed NAL unit that waits for its signature. `digests` are by hash algorithm until the camera's is known."""

    digests: tuple[bytes, ...]
    time_us: int
    starts: bool = False  # a GOP
    is_sei: bool = False
    ends: bool = False  # what follows is not what the camera sent next
    describes: Draft | None = None  # of an SEI without a signature: the part it speaks of


class Found(NamedTuple):
    """Units [start, end) are the SEI's part; `matched` are the places, in all units, of those that are as signed."""

    start: int
    end: int
    matched: Sequence[int]
    missing: int = 0
    altered: int = 0
    added: int = 0


def find(units: list[Unit], sei: Sei, general: General, hash_name: str, follows: bool) -> Found | None:
    """The part that `sei` describes; None when no unit is of it. `follows`: it is the next after the last one found."""
    return _whole(units, sei, general, hash_name) or _listed(units, sei, general, follows)


def gop_starts(units: list[Unit]) -> list[int]:
    """Where GOPs begin, with the SEIs that stand before a key picture."""
    found: list[int] = []
    for i, unit in enumerate(units):
        if unit.starts:
            while i > (found[-1] + 1 if found else 0) and units[i - 1].is_sei:
                i -= 1
            found.append(i)
    return found


def _whole(units: list[Unit], sei: Sei, general: General, hash_name: str) -> Found | None:
    """By the hash over all hashes: at the front, or where a GOP begins."""
    swapped = int.from_bytes(general.units.to_bytes(2, "little"), "big")
    counts = {general.units, len(sei.hashes) or swapped}
    starts = {0, *gop_starts(units), *(i for i, unit in enumerate(units) if unit.starts)}
    for count in counts:
        for start in sorted(starts)[: _HASHED_MAX // max(count, 1)]:
            if count and start + count <= len(units):
                joined = b"".join(unit.digests[0] for unit in units[start : start + count])
                if hashlib.new(hash_name, joined).digest() == general.gop_hash:
                    return Found(start, start + count, range(start, start + count))
    return None


def _listed(units: list[Unit], sei: Sei, general: General, follows: bool) -> Found | None:
    """By the list of hashes: the stretch that has some of them, between key pictures."""
    wanted = set(sei.hashes)
    first = next((i for i, unit in enumerate(units) if unit.digests[0] in wanted), None)
    if first is None:
        return None
    starts = gop_starts(units)
    low = max((start for start in starts if start <= first), default=0)
    high = min((start for start in starts if start > max(low, first)), default=len(units))
    if not follows:
        low = max(low, first - sei.hashes.index(units[first].digests[0]))
    pairs = _aligned([unit.digests[0] for unit in units[low:high]], sei.hashes)
    if not pairs:
        return None
    last_unit, last_hash = pairs[-1]
    tail = min(len(sei.hashes) - 1 - last_hash, high - low - 1 - last_unit)
    ended = not general.partial and high < len(units)  # by a key picture: all before it is of this part
    end = high if ended else low + last_unit + 1 + tail
    altered = missing = added = 0
    for (unit, place), (next_unit, next_place) in zip(
        [(-1, -1), *pairs], [*pairs, (end - low, len(sei.hashes))], strict=True
    ):
        extra, absent = next_unit - unit - 1, next_place - place - 1
        altered += min(extra, absent)
        added += max(0, extra - absent)
        missing += max(0, absent - extra)
    return Found(low, end, [low + unit for unit, _ in pairs], missing, altered, added)


def _aligned(there: Sequence[bytes], signed: Sequence[bytes]) -> list[tuple[int, int]]:
    """Pairs of places at which both have the same hash, ascending in both."""
    size = min(len(there), len(signed))
    front = _same(zip(there, signed, strict=False))
    back = min(_same(zip(reversed(there), reversed(signed), strict=False)), size - front)
    pairs = [(i, i) for i in range(front)]
    middle_there, middle_signed = there[front : len(there) - back], signed[front : len(signed) - back]
    if len(middle_there) * len(middle_signed) <= _COMPARED_MAX:
        blocks = SequenceMatcher(None, middle_there, middle_signed, autojunk=False).get_matching_blocks()
        pairs += [(front + b.a + i, front + b.b + i) for b in blocks for i in range(b.size)]
    else:
        pairs += [(front + i, front + j) for i, j in _first_fits(middle_there, middle_signed)]
    return pairs + [(len(there) - back + i, len(signed) - back + i) for i in range(back)]


def _first_fits(there: Sequence[bytes], signed: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """The same in one pass: right unless units repeat."""
    places: dict[bytes, list[int]] = {}
    for place, one in enumerate(signed):
        places.setdefault(one, []).append(place)
    after = 0
    for i, one in enumerate(there):
        known = places.get(one, [])
        at = bisect_left(known, after)
        if at < len(known):
            yield i, known[at]
            after = known[at] + 1


def _same(pairs: Iterable[tuple[bytes, bytes]]) -> int:
    count = 0
    for one, other in pairs:
        if one != other:
            break
        count += 1
    return count
