"""The ladder of waits between attempts."""

from __future__ import annotations

import itertools
import random

from recorder.backoff import Backoff


def test_steps_double_up_to_the_maximum_and_reset() -> None:
    backoff = Backoff(1.0, 60.0, random.Random(1))
    bounds = [1, 2, 4, 8, 16, 32, 60, 60]
    for bound in bounds:
        assert 0.75 * bound <= backoff.next_delay_s() <= 1.25 * bound
    assert backoff.failures == len(bounds)
    backoff.reset()
    assert backoff.next_delay_s() <= 1.25


def test_a_thousand_streams_do_not_return_together() -> None:
    ladders = [Backoff(1.0, 60.0, random.Random(seed)) for seed in range(1000)]
    delays = sorted(ladder.next_delay_s() for ladder in ladders)
    assert delays[0] < 0.78
    assert delays[-1] > 1.22
    assert all(later - earlier < 0.05 for earlier, later in itertools.pairwise(delays))


def test_the_ladder_never_overflows() -> None:
    backoff = Backoff(1.0, 60.0)
    assert max(backoff.next_delay_s() for _ in range(2000)) <= 75
