"""Judging a stream that its camera signs: CPU seconds per GB, beside the bare hash of as many bytes.

Four slices a picture at 4 Mbit/s and 25 pictures a second are 5 kB a NAL unit; one slice at 8 Mbit/s is 40 kB.
"""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from typing import Any

import pytest

from bench.machine import describe
from bench.sizes import scaled
from evidence.mediasigning import Trust, Verdict, verify_stream
from tests.evidence.signer import T0, Authority, make_camera, sample

GOP = 50
TURNS = scaled(full=40, smoke=1)  # the same minute over and over, as a camera that starts anew
GOPS = scaled(full=30, smoke=4)


def _units(unit_bytes: int, slices: int) -> list[list[bytes]]:
    body = bytes(range(1, 256)) * (unit_bytes // 255 + 1)
    units = []
    for number in range(GOPS * GOP):
        key = number % GOP == 0
        heads = [bytes((0x65 if key else 0x41, 0x88 if not i else 0x40 + i)) for i in range(slices)]
        units.append([head + number.to_bytes(4, "big") + body[: unit_bytes - 6] for head in heads])
    return units


@pytest.mark.parametrize(("unit_bytes", "slices"), [(5_000, 4), (40_000, 1)], ids=["5kB", "40kB"])
def bench_camera_signature(benchmark: Any, unit_bytes: int, slices: int) -> None:
    """Budget: ≤ 1.5 × the bare hash for 40 kB units; memory for the GOPs that wait, whatever the length."""
    authority = Authority()
    samples = [sample(unit) for unit in make_camera(authority).sign(_units(unit_bytes, slices), closing=True)]
    size = sum(map(len, samples)) * TURNS
    trust = Trust([authority.certificate])

    def judge() -> None:
        timed = (
            (T0 + i * 40_000, data) for turn in range(TURNS) for i, data in enumerate(samples, turn * len(samples))
        )
        report = verify_stream(timed, "h264", trust)
        assert report.counts == {Verdict.AUTHENTIC: GOPS * TURNS}

    begin_s = time.process_time()
    benchmark.pedantic(judge, rounds=1)
    judged_s = time.process_time() - begin_s
    begin_s = time.process_time()
    for _ in range(TURNS):
        for data in samples:
            hashlib.sha256(data).digest()
    hashed_s = time.process_time() - begin_s
    tracemalloc.start()
    judge()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    benchmark.extra_info |= {
        "machine": describe(),
        "footage": f"{size / 1e9:.2f} GB in NAL units of {unit_bytes} bytes",
        "CPU-s per GB": round(judged_s / size * 1e9, 3),
        "CPU-s per GB of SHA-256 alone": round(hashed_s / size * 1e9, 3),
        "most memory": f"{peak / 1e6:.1f} MB",
    }
    print(benchmark.extra_info)
