"""Every bad camera at once, beside 200 good ones: the long form of tests/e2e/test_bad_cameras.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.bad import CONFIG, run_beside
from tests.e2e.node import Node


@pytest.mark.at_length
@pytest.mark.timeout(600)
async def test_two_hundred_good_cameras_lose_nothing(node: Callable[..., Node]) -> None:
    await run_beside(node(config=CONFIG), good=200, seconds=60)
