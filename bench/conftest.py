"""Benches are `bench_*` functions in `bench_*.py`; run them with `make bench`."""

from __future__ import annotations

from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Collect by the bench's own names."""
    config.addinivalue_line("python_files", "bench_*.py")
    config.addinivalue_line("python_functions", "bench_*")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Each bench's own figures, one line a bench."""
    session = getattr(config, "_benchmarksession", None)
    for bench in session.benchmarks if session is not None else []:
        figures = ", ".join(f"{name} {value}" for name, value in bench.extra_info.items() if name != "machine")
        terminalreporter.write_line(f"{bench.name}: {figures}")
