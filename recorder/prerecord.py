"""The last seconds of a stream that is not recorded now, in memory, so that a recording begins before its cause.

Kept true: what is held begins with a key frame; it is no longer than asked, to a GOP; the memory of all streams
together stays within one bound, and a stream that passes it, or its own, loses its own oldest pictures. The same ring
keeps pictures whose parameter sets have not come.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from native.moof import Fragment


@dataclass(slots=True)
class RingBudget:
    """Bytes of media that all rings may hold, and do."""

    bytes_max: int
    used_bytes: int = 0


class Ring:
    """Fragments of the last `length_us`, oldest first; 0 holds the GOP under way."""

    def __init__(self, length_us: int, budget: RingBudget) -> None:
        self.length_us = length_us
        self.bytes_max: int | None = None  # of this ring alone
        self._bytes = 0
        self._budget = budget
        self._held: deque[Fragment] = deque()
        self._keys = 0  # of the fragments held

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, fragment: Fragment) -> None:
        """Take the newest fragment; what is too old or too much goes."""
        if not self._held and not fragment.key:
            return
        self._held.append(fragment)
        self._keys += fragment.key
        self._budget.used_bytes += fragment.media_bytes
        self._bytes += fragment.media_bytes
        while self._keys > 1 and self._second_gop_us() <= fragment.first_arrival_us - self.length_us:
            self._drop_gop()
        while self._held and self._is_over():
            self._drop_gop()

    def _is_over(self) -> bool:
        own = self.bytes_max is not None and self._bytes > self.bytes_max
        return own or self._budget.used_bytes > self._budget.bytes_max

    def take(self) -> list[Fragment]:
        """All that is held, oldest first; the ring is empty afterwards."""
        held = list(self._held)
        self.clear()
        return held

    def clear(self) -> None:
        """Let everything go."""
        while self._held:
            self._drop_gop()

    def _second_gop_us(self) -> int:
        """When the second GOP began to arrive; from there on the ring would still be long enough."""
        following = (fragment for i, fragment in enumerate(self._held) if i and fragment.key)
        return next(following).first_arrival_us

    def _drop_gop(self) -> None:
        """The oldest GOP, up to the next key frame."""
        first = True
        while self._held and (first or not self._held[0].key):
            fragment = self._held.popleft()
            self._keys -= fragment.key
            self._budget.used_bytes -= fragment.media_bytes
            self._bytes -= fragment.media_bytes
            first = False
