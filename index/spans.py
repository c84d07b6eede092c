"""Arithmetic of time ranges: joining, subtracting and thinning spans and gaps.

Kept true: what goes in is ascending by start, what comes out is ascending and disjoint; only pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from chunks.records import Gap

JOIN_US: Final = 100_000  # a shorter hole between two chunks is rounding or one late picture, not an absence


def join_spans(starts_us: npt.NDArray[np.int64], ends_us: npt.NDArray[np.int64], hole_us: int) -> list[tuple[int, int]]:
    """Union of [start, end), with holes up to `hole_us` closed; empty ones are left out."""
    keep = ends_us > starts_us
    starts_us, ends_us = starts_us[keep], np.maximum.accumulate(ends_us[keep])
    if not len(starts_us):
        return []
    is_first = np.concatenate(([True], starts_us[1:] - ends_us[:-1] > hole_us))
    is_last = np.concatenate((is_first[1:], [True]))
    return list(zip(starts_us[is_first].tolist(), ends_us[is_last].tolist(), strict=True))


def subtract(spans: Iterable[tuple[int, int]], gaps: list[Gap]) -> list[tuple[int, int]]:
    """Spans without the gaps; the gaps are disjoint."""
    rest: list[tuple[int, int]] = []
    at = 0
    for start_us, end_us in spans:
        while at < len(gaps) and gaps[at].end_us <= start_us:
            at += 1
        next_gap = at
        while next_gap < len(gaps) and gaps[next_gap].start_us < end_us:
            gap = gaps[next_gap]
            if gap.start_us > start_us:
                rest.append((start_us, gap.start_us))
            start_us = max(start_us, gap.end_us)
            next_gap += 1
        if start_us < end_us:
            rest.append((start_us, end_us))
    return rest


def join_gaps(gaps: list[Gap], hole_us: int) -> list[Gap]:
    """Gaps with holes up to `hole_us` closed; a joined gap has the cause of its longest part and all its packets."""
    joined: list[Gap] = []
    first = 0
    for after in range(1, len(gaps) + 1):
        if after == len(gaps) or gaps[after].start_us - gaps[after - 1].end_us > hole_us:
            joined.append(_as_one(gaps[first:after]))
            first = after
    return joined


def _as_one(parts: list[Gap]) -> Gap:
    if len(parts) == 1:
        return parts[0]
    longest = max(parts, key=lambda part: part.end_us - part.start_us)
    return replace(longest, start_us=parts[0].start_us, end_us=parts[-1].end_us, packets=sum(p.packets for p in parts))
