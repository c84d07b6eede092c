"""How many measured times are told in few words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spread_ms(taken_s: Sequence[float]) -> str:
    """Median and 99th percentile of seconds, in ms."""
    p50, p99 = np.percentile(np.array(taken_s) * 1e3, [50, 99])
    return f"{p50:.2f} / {p99:.2f} ms"
