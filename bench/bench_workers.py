"""Two recorder workers: the streams they take against those of one, and what a crash of one costs.

Cameras, machine and recorder share the same few cores here, so no worker can be loaded until it loses pictures. CPU
time is compared instead.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from base.status import RecorderStatus, read_status
from bench.bench_scale import SETTLE_S, end, judged, recorded, simulated
from bench.harness import Load, recorder, status_when_recording
from bench.machine import describe
from bench.sizes import SMOKE, scaled
from index import Index, StreamRow
from recorder.share import Share

BITRATE_BPS = 4_000_000
ROUNDS = scaled(full=3, smoke=1)
AGAIN_DEADLINE_S = 60
ALL_TIME_US = (0, 1 << 60)


def two_workers(folder: Path, streams: int, bitrate_bps: int) -> dict[str, Any]:
    """`streams` in one process, twice as many in two, and those in one, in turns on the same cameras; medians.

    What a process can take ends where its CPU time fills a core. So what is compared are the streams that a core's time
    is enough for: of two workers those at which the one that has more to do would be full.
    """
    cases = {"one": (streams, 1), "two": (2 * streams, 2), "one_with_all": (2 * streams, 1)}
    loads: dict[str, list[Load]] = {name: [] for name in cases}
    pictures = wrong = 0
    with simulated(2 * streams, bitrate_bps) as urls:
        for name, (count, workers) in list(cases.items()) * ROUNDS:
            loads[name].append(recorded(folder / name, urls[:count], workers=workers))
            found = judged(folder / name, range(count))
            pictures, wrong = pictures + found[0], wrong + found[1]
            shutil.rmtree(folder / name)
    result: dict[str, Any] = {"streams_of_one": streams, "streams_of_two": 2 * streams, "rounds": ROUNDS}
    per_core = {}
    for name, (count, _) in cases.items():
        some = loads[name]
        per_core[name] = median(count * load.wall_s / max(load.cpus_s) for load in some)
        result[f"{name}_cpu_s_per_gb"] = round(median(load.per_gb for load in some), 3)
        result[f"{name}_sync_ms"] = round(median(at for load in some for at in load.syncs_ms), 1)
    return result | {
        "streams_two_take_by_one_takes": round(per_core["two"] / per_core["one"], 2),
        "streams_two_take_by_one_with_all": round(per_core["two"] / per_core["one_with_all"], 2),
        "dropped_gops": sum(load.dropped for some in loads.values() for load in some),
        "pictures": pictures,
        "pictures_missing_or_wrong": wrong,
        "smoke": SMOKE,
    }


@pytest.mark.slow
@pytest.mark.timeout(3600)
def bench_workers(benchmark: Any, tmp_path: Path) -> None:
    """Budget: two workers take ≥ 1.8 × the streams of one; nothing missing in any recording."""
    arguments = (tmp_path, scaled(full=200, smoke=8), BITRATE_BPS)
    result = benchmark.pedantic(two_workers, args=arguments, rounds=1, iterations=1)
    benchmark.extra_info.update(result, machine=describe())
    assert result["pictures_missing_or_wrong"] == 0
    assert result["dropped_gops"] == 0


def crash(data: Path, streams: int) -> dict[str, Any]:
    """One of two workers is killed while all record; the gaps it left, and the pictures of the other one's streams."""
    with simulated(streams, BITRATE_BPS) as urls:
        process = recorder(data, urls, workers=2)
        try:
            killed = status_when_recording(data, streams).running[1].pid
            time.sleep(SETTLE_S)
            os.kill(killed, signal.SIGKILL)
            _again(data, killed)
            status_when_recording(data, streams)
            time.sleep(SETTLE_S)
        finally:
            end(process)
    gaps_s, others = [], []
    with Index.open(data / "index", readonly=True) as index, index.read() as snapshot:
        for row in snapshot.streams():
            gaps = snapshot.gaps(row.id, *ALL_TIME_US)
            if Share(1, 2).owns(row.id):
                gaps_s += [(gap.end_us - gap.start_us) / 1e6 for gap in gaps]
            else:
                others.append(_number(row))
                assert not gaps, row
    pictures, wrong = judged(data, others)
    return {
        "streams_of_the_killed": streams - len(others),
        "gap_s_median": round(median(gaps_s), 2),
        "gap_s_max": round(max(gaps_s), 2),
        "streams_of_the_other": len(others),
        "pictures_of_the_other": pictures,
        "pictures_missing_or_wrong": wrong,
        "smoke": SMOKE,
    }


def _number(row: StreamRow) -> int:
    return int(row.name.removeprefix("cam").removesuffix(".main"))


def _again(data: Path, killed: int) -> RecorderStatus:
    """The status once the worker runs again."""
    deadline_s = time.monotonic() + AGAIN_DEADLINE_S
    while time.monotonic() < deadline_s:
        status = read_status(data / "run")
        if status is not None and len(status.running) == 2 and killed not in [one.pid for one in status.running]:
            return status
        time.sleep(0.05)
    raise AssertionError("the killed worker is not started again")


@pytest.mark.slow
@pytest.mark.timeout(600)
def bench_worker_crash(benchmark: Any, tmp_path: Path) -> None:
    """Budget: its streams record again within 5 s; the other worker's lose nothing."""
    arguments = (tmp_path / "data", scaled(full=200, smoke=8))
    result = benchmark.pedantic(crash, args=arguments, rounds=1, iterations=1)
    shutil.rmtree(tmp_path / "data")
    benchmark.extra_info.update(result, machine=describe())
    assert result["pictures_missing_or_wrong"] == 0
