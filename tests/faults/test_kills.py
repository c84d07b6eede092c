"""`kill -9` of a recorder, again and again: nothing before the watermark is lost, and at most a second beyond it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.node import until
from tests.faults.conftest import AT_LENGTH
from tests.faults.oracle import ROUNDING_US, judge, judge_samples
from tests.faults.test_power import Losses, due_us, sent_by, served, start_again

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
KILLS = 100 if AT_LENGTH else 10
CAMERAS = 4


class Recorder:
    """`keyreel record` on a folder."""

    def __init__(self, data: Path, config: Path) -> None:
        self._run = data / "run"
        self._started_us = time.time_ns() // 1000
        command = [sys.executable, "-m", "keyreel", "record", "--data", str(data), "--config", str(config)]
        with (data.parent / "record.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def durable(self) -> dict[str, int]:
        """Watermarks of what this process has recorded."""
        told = {one["name"]: one["durable_until_us"] for status in self._told() for one in status["streams"]}
        return {name: until_us for name, until_us in told.items() if until_us > self._started_us}

    def kill(self) -> None:
        """All its processes; a supervisor first, or it would start the others again."""
        pids = [self.process.pid, *(int(status["pid"]) for status in self._told())]
        for pid in dict.fromkeys(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        end_s = time.monotonic() + 10
        while any(Path(f"/proc/{pid}/fd/0").exists() for pid in pids):
            assert time.monotonic() < end_s, "a worker does not die"
            time.sleep(0.01)

    def _told(self) -> list[dict[str, Any]]:
        """Each worker's status of this life."""
        told = [json.loads(path.read_bytes()) for path in self._run.glob("recorder-*.json")]
        return [status for status in told if status["started_us"] > self._started_us]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.at_length)])
async def test_nothing_before_the_watermark_and_at_most_a_second(
    tmp_path: Path, figures: list[str], workers: int
) -> None:
    data, config, chance, losses = tmp_path / "data", tmp_path / "node.toml", random.Random(9), Losses()
    config.write_text(f"[recorder]\nchunk_s = 10\nworkers = {workers}\n")
    cameras = [CameraSpec(f"c{i}", loop=LOOP) for i in range(CAMERAS)]
    async with SimcamServer(cameras) as server:
        names = [f"{name}.main" for name in server.cameras]
        for turn in range(KILLS):
            recorder = Recorder(data, config)
            try:
                if turn == 0:
                    await register(data, server)
                await until(lambda one=recorder: all_durable(one, names), 40, "every stream is durable again")
                await asyncio.sleep(chance.uniform(0.0, 1.0))
                told = recorder.durable()
            finally:
                recorder.kill()
            killed_us = time.time_ns() // 1000
            await asyncio.to_thread(judge_served, data, names[turn % len(names)], server)
            for name in names:
                sent = sent_by(server, name)
                verdict = await asyncio.to_thread(judge, [data / "media"], name, sent)
                assert verdict.end_us >= told[name] - ROUNDING_US, f"{name}: promised and gone"
                lost = [sequence for sequence in sent if sequence > verdict.sequences[-1]]
                assert len(lost) <= LOOP.fps, f"{name}: more than a second is lost"
                losses.add(killed_us, verdict)
                assert due_us(sent)[verdict.sequences[-1]] <= killed_us
        await asyncio.to_thread(start_again, data)
        for name in names:
            verdict = judge([data / "media"], name, sent_by(server, name))
            assert judge_served(data, name, server) == verdict.sequences, f"{name}: stored and not served"
    figures.append(losses.line(f"{KILLS} times kill -9, {CAMERAS} streams, {workers} worker(s)"))


def judge_served(data: Path, name: str, server: SimcamServer) -> list[int]:
    """What a clip of all that the index knows holds: nothing but what was sent, in order; by number."""
    pictures = served(data, name)
    return judge_samples(pictures, name, sent_by(server, name))


async def all_durable(recorder: Recorder, names: list[str]) -> bool:
    assert recorder.process.poll() is None, "the recorder ended"
    return recorder.durable().keys() >= set(names)


async def register(data: Path, server: SimcamServer) -> None:
    """Wait until the folder is made, then add the cameras."""

    async def made() -> bool:
        return (data / "run" / "recorder-0.json").exists()

    await until(made, 30, "the recorder runs")
    table = data.with_name("cameras.csv")
    table.write_text("id,main\n" + "".join(f"{name},{server.url(name)}\n" for name in server.cameras))
    command = [sys.executable, "-m", "keyreel", "camera", "import", str(table), "--data", str(data)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
