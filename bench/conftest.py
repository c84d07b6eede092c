"""Benches are `bench_*` functions in `bench_*.py`; run them with `make bench`."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Collect by the bench's own names."""
    config.addinivalue_line("python_files", "bench_*.py")
    config.addinivalue_line("python_functions", "bench_*")
