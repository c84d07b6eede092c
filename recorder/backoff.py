"""How long a stream waits before it calls its camera again.

Kept true: delays step up by powers of two from `minimum_s` to `maximum_s`, each with ±25 % jitter and spread further
by how many wait beside it, so that a thousand cameras that vanished together are not called together; a run that
recorded resets the ladder.
"""

from __future__ import annotations

import random


class Backoff:
    """Stepped back-off; `rng` is injectable so that tests are exact."""

    def __init__(self, minimum_s: float, maximum_s: float, rng: random.Random | None = None) -> None:
        self._minimum_s = minimum_s
        self._maximum_s = maximum_s
        self._rng = rng or random.Random()
        self._failures = 0

    @property
    def failures(self) -> int:
        """Consecutive failures since the last success."""
        return self._failures

    def reset(self) -> None:
        """The camera delivered: the next failure starts at the bottom of the ladder."""
        self._failures = 0

    def next_delay_s(self, spread_s: float = 0.0) -> float:
        """Delay before the next attempt, in seconds, up to `spread_s` more; each call is one more failure."""
        step_s = min(self._minimum_s * 2.0 ** min(self._failures, 32), self._maximum_s)
        self._failures += 1
        return step_s * self._rng.uniform(0.75, 1.25) + self._rng.uniform(0, spread_s)
