"""An hour of 4 Mbit/s exported as evidence and signed, and that package verified, by the commands as one types them.

Wall and CPU time of a whole process each, start of Python included; CPU time per GB of video is what to compare.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from base.clock import wall_us
from base.units import format_time
from bench.footage import make
from bench.machine import describe
from bench.sizes import scaled
from evidence.keys import Keys

SECONDS = scaled(full=3600, smoke=60)
ROUNDS = scaled(full=3, smoke=1)


def run(*words: str | Path) -> tuple[float, float]:
    """(wall, CPU) seconds of a command, children's threads included."""
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began_s, used_s


@pytest.mark.parametrize("form", ["directory", "zip"])
def bench_export(benchmark: Any, tmp_path: Path, form: str) -> None:
    """Budget: an hour exported and signed in ≤ 5 s; verified at ≥ 500 MB/s."""
    folder, first_us, last_us = make(tmp_path / "data", SECONDS)
    Keys.ensure(folder.keys_path, None, wall_us())
    target = tmp_path / ("out.zip" if form == "zip" else "out")
    keyreel = (sys.executable, "-m", "keyreel")
    asked = ("--start", format_time(first_us), "--end", format_time(last_us), "--case", "1", "--reason", "bench")
    taken: list[tuple[float, float]] = []

    def export() -> None:
        command = (*keyreel, "export", "create", "--data", folder.path, "--stream", "gate.main", *asked, "--to", target)
        taken.append(run(*command))

    def again() -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.unlink(missing_ok=True)

    benchmark.pedantic(export, setup=again, rounds=ROUNDS)
    verified = [run(*keyreel, "verify", target) for _ in range(ROUNDS)]
    size = sum(path.stat().st_size for path in [target, *target.rglob("*")] if path.is_file())
    wall_s, used_s = min(taken)
    figures = {
        "form": form,
        "package_mb": round(size / 1e6, 1),
        "export_s": round(wall_s, 2),
        "export_cpu_s_per_gb": round(used_s / (size / 1e9), 2),
        "verify_mb_s": round(size / 1e6 / min(verified)[0]),
        "verify_cpu_s_per_gb": round(min(one[1] for one in verified) / (size / 1e9), 2),
    }
    benchmark.extra_info.update(figures, recorded_s=SECONDS, machine=describe())
    print(json.dumps(figures))
