"""A storm: cameras that vanish and return at once, beside cameras that stay; shared by the bench and its small test.

Kept true: the recorder is a process of its own with the product's defaults; what is lost is judged by the stamps in
the pictures of its chunk files, when all are back by its status, handshakes at a time by the cameras.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from base.status import RecorderStatus, read_status
from bench.harness import judged, recorder
from bench.machine import cpu_s
from simcam.encode import LoopSpec
from simcam.server import Outage, SimcamServer
from simcam.spec import CameraSpec

LOOP = LoopSpec(width=160, height=90, fps=5, gop=5, seconds=4, bitrate_bps=50_000)
START_DEADLINE_S = 120.0
BACK_DEADLINE_S = 120.0
POLL_S = 0.1


@dataclass
class Storm:
    """What happened, second by second, from the moment the cameras vanished."""

    vanished: int
    stayed: int
    gone_s: float = 0.0  # until no vanished camera was taken for recording any more
    back_s: float = 0.0  # from the first moment they answer until all record
    handshakes_at_once: int = 0  # by the recorder, its start included
    unplayed_at_once: int = 0  # by the cameras: connections made that have not come to PLAY
    lags_ms: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)  # in each second
    cpu_s: float = 0.0
    wall_s: float = 0.0
    pictures: int = 0  # of those that stayed
    missing: int = 0

    def figures(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "vanished": self.vanished,
            "stayed": self.stayed,
            "noticed_s": round(self.gone_s, 1),
            "all_back_s": round(self.back_s, 1),
            "handshakes_at_once": self.handshakes_at_once,
            "connections_not_playing_at_once": self.unplayed_at_once,
            "calls_per_s_max": max(self.calls),
            "loop_lag_ms_p99": round(float(np.percentile(self.lags_ms, 99)), 2),
            "cpu_s": round(self.cpu_s, 2),
            "cpu_cores": round(self.cpu_s / self.wall_s, 3),
            "pictures_of_those_that_stayed": self.pictures,
            "pictures_missing_or_wrong": self.missing,
        }


class _Watch:
    """The recorder's status files, each seen once."""

    def __init__(self, data: Path) -> None:
        self._run_path = data / "run"
        self._updated_us = 0

    async def next(self) -> RecorderStatus:
        end = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < end:
            status = read_status(self._run_path)
            if status is not None and status.updated_us != self._updated_us:
                self._updated_us = status.updated_us
                return status
            await asyncio.sleep(POLL_S)
        raise AssertionError("the recorder writes no status any more")


def _recording(status: RecorderStatus, names: set[str]) -> int:
    return sum(one.state == "recording" and one.name in names for one in status.streams)


async def storm(data: Path, *, vanish: int, stay: int, how: Outage, outage_s: float) -> Storm:
    """One storm, start to end."""
    result = Storm(vanish, stay)
    leaving = SimcamServer([CameraSpec(f"v{n}", LOOP, log=False) for n in range(vanish)])
    staying = SimcamServer([CameraSpec(f"s{n}", LOOP, log=False) for n in range(stay)])
    async with leaving, staying:
        urls = [staying.url(f"s{n}") for n in range(stay)] + [leaving.url(f"v{n}") for n in range(vanish)]
        gone = {f"cam{n}.main" for n in range(stay, stay + vanish)}
        process = await asyncio.to_thread(recorder, data, urls)
        try:
            watch = _Watch(data)
            await _until_all(watch, {f"cam{n}.main" for n in range(stay + vanish)})
            await _blow(result, watch, leaving, process.pid, gone, how, outage_s)
            process.send_signal(signal.SIGINT)
            await asyncio.to_thread(process.wait, 120)
        finally:
            if process.poll() is None:
                process.kill()
                await asyncio.to_thread(process.wait)
    result.pictures, result.missing = await asyncio.to_thread(judged, data, range(stay))
    return result


async def _until_all(watch: _Watch, names: set[str]) -> None:
    end = time.monotonic() + START_DEADLINE_S
    while _recording(await watch.next(), names) < len(names):
        assert time.monotonic() < end, f"not all of {len(names)} cameras record"


async def _blow(
    result: Storm, watch: _Watch, leaving: SimcamServer, pid: int, gone: set[str], how: Outage, outage_s: float
) -> None:
    before = await watch.next()
    calls = sum(one.reconnects for one in before.streams)
    cpu, start_s = cpu_s(pid), time.monotonic()
    leaving.handshakes_max = 0
    await leaving.go_down(how)
    up_s = 0.0
    while True:
        status = await watch.next()
        now_s = time.monotonic()
        result.lags_ms.append(status.loop_lag_ms)
        result.calls.append(sum(one.reconnects for one in status.streams) - calls)
        calls += result.calls[-1]
        recording = _recording(status, gone)
        if not up_s:
            if recording:
                result.gone_s = now_s - start_s
            if now_s - start_s >= outage_s:
                await leaving.come_up()
                up_s = time.monotonic()
        elif recording == len(gone):
            result.back_s = now_s - up_s
            break
        assert not up_s or now_s - up_s < BACK_DEADLINE_S, f"{len(gone) - recording} of {len(gone)} never came back"
    result.cpu_s, result.wall_s = cpu_s(pid) - cpu, time.monotonic() - start_s
    result.handshakes_at_once, result.unplayed_at_once = status.handshakes_peak, leaving.handshakes_max
