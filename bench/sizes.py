"""Sizes of benches: full by default, small when KEYREEL_BENCH=smoke."""

from __future__ import annotations

import os

SMOKE = os.environ.get("KEYREEL_BENCH", "") == "smoke"


def scaled(*, full: int, smoke: int) -> int:
    """The size for this run."""
    return smoke if SMOKE else full
