"""Cameras that vanish together and return together, beside some that stay: see bench/storm.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.storm import storm
from simcam.server import Outage

VANISH, STAY = 60, 5
BACK_S_MAX = 60.0  # what is promised of a thousand; these take some seconds


@pytest.mark.parametrize(("how", "outage_s"), [("freeze", 10.0)])
async def test_all_come_back_and_those_that_stayed_lose_nothing(tmp_path: Path, how: Outage, outage_s: float) -> None:
    result = await storm(tmp_path / "data", vanish=VANISH, stay=STAY, how=how, outage_s=outage_s)
    print(result.figures())
    assert result.missing == 0, result.figures()
    assert result.back_s <= BACK_S_MAX, result.figures()
    assert result.pictures > STAY * 10
    assert 0 < result.handshakes_at_once <= 64
    assert sum(result.calls) >= VANISH
