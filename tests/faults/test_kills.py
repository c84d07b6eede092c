"""`kill -9` of a recorder, again and again: nothing before the watermark is lost, and at most a second beyond it."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.node import until
from tests.faults.conftest import AT_LENGTH
from tests.faults.oracle import ROUNDING_US, judge
from tests.faults.test_power import Losses, due_us, sent_by, start_again

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
KILLS = 100 if AT_LENGTH else 10
CAMERAS = 4


class Recorder:
    """`keyreel record` on a folder."""

    def __init__(self, data: Path, config: Path) -> None:
        self._status = data / "run" / "recorder-0.json"
        self._started_us = time.time_ns() // 1000
        command = [sys.executable, "-m", "keyreel", "record", "--data", str(data), "--config", str(config)]
        with (data.parent / "record.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def durable(self) -> dict[str, int]:
        """Watermarks of what this process has recorded."""
        if not self._status.exists():
            return {}
        status = json.loads(self._status.read_bytes())
        told = {one["name"]: one["durable_until_us"] for one in status["streams"]}
        return {name: until_us for name, until_us in told.items() if until_us > self._started_us}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.mark.timeout(900)
async def test_nothing_before_the_watermark_and_at_most_a_second(tmp_path: Path, figures: list[str]) -> None:
    data, config, chance, losses = tmp_path / "data", tmp_path / "node.toml", random.Random(9), Losses()
    config.write_text("[recorder]\nchunk_s = 10\n")
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
            judge([data / "media"], name, sent_by(server, name))
    figures.append(losses.line(f"{KILLS} times kill -9, {CAMERAS} streams"))


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
