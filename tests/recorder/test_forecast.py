"""Rates and days from the index alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from index import Index
from index.holds import Hold, place
from recorder.forecast import DAY_S, WINDOW_US, gather, outlook
from tests.index.test_transaction import BASE_US, VOLUME, chunk

S = 1_000_000


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.open(tmp_path / "index", create=True)


def test_a_rate_is_what_came_in_over_the_window_and_a_restart_forgets_nothing(index: Index) -> None:
    with index.write() as transaction:
        for i in range(60):
            transaction.apply(chunk(1, i + 1, BASE_US + i * 100 * S, 100, seal=i < 59))
        transaction.apply(chunk(2, 1, BASE_US, 100))
    with index.read() as snapshot:
        rows = snapshot.chunks(1, 0, BASE_US * 2)
        facts = gather(snapshot, BASE_US)
    stored, held, rate = facts.of_stream(1)
    assert (stored, held) == (sum(row.size for row in rows if row.sealed), 0)
    assert rate == pytest.approx(sum(row.size for row in rows) / 6000)
    assert facts.stored(VOLUME) == sum(row.size for row in rows) + facts.of_stream(2)[0]
    assert facts.rate_on(VOLUME) == pytest.approx(rate + facts.of_stream(2)[2])
    index.close()
    with Index.open(index.path) as again, again.read() as snapshot:
        assert gather(snapshot, BASE_US) == facts


def test_only_the_window_counts(index: Index) -> None:
    with index.write() as transaction:
        transaction.apply(chunk(1, 1, BASE_US, 1000))
        transaction.apply(chunk(1, 2, BASE_US + 2 * WINDOW_US, 100))
    with index.read() as snapshot:
        last = snapshot.chunks(1, 0, BASE_US * 2)[-1]
        rate = gather(snapshot, BASE_US).of_stream(1)[2]
    assert 0 < rate <= last.size / 100, "an hour's silence is part of the mean, what came before it is not"
    index.close()


def test_days_of_a_volume_and_what_holds_cost(index: Index) -> None:
    with index.write() as transaction:
        for i in range(10):
            transaction.apply(chunk(1, i + 1, BASE_US + i * 100 * S, 100))
        place(
            transaction,
            Hold(streams=("cam1.main",), start_us=BASE_US, end_us=BASE_US + S, reason="r", owner="o", created_us=1),
        )
    with index.read() as snapshot:
        facts = gather(snapshot, BASE_US)
    day = facts.rate_on(VOLUME) * DAY_S
    ahead = outlook(facts, VOLUME, free_bytes=round(3 * day), floor_bytes=round(day))
    assert ahead.days_left == pytest.approx(2, rel=1e-4)
    assert ahead.days_held == pytest.approx(facts.held_on(VOLUME) / day)
    assert ahead.days_kept == pytest.approx(2 + (facts.stored(VOLUME) - facts.held_on(VOLUME)) / day, rel=1e-4)
    assert facts.held_on(VOLUME) > 0
    assert outlook(facts, b"x" * 16, 5, 1) == (None, None, None)
    index.close()
