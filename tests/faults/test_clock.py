"""A live node whose wall clock is stepped: all pictures stay, in order, under times that are told honestly."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from chunks.reader import ChunkFile
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import verify
from tests.e2e.node import Node, until

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
SHIM = Path(__file__).with_name("clockshim.c")
MakeNode = Callable[..., Node]
Step = Callable[..., None]
HOUR_S = 3600
YEARS_S = 10 * 365 * 86_400


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Step:
    """Set the offset of the clock, in seconds, of processes started from now on, and the kernel's word on it."""
    library, control = tmp_path / "clockshim.so", tmp_path / "clock-control"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
    control.write_bytes(bytes(4096))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCKSHIM", str(control))

    def write(offset_s: int, *, synced: bool = False) -> None:
        handle = os.open(control, os.O_WRONLY)
        os.pwrite(handle, struct.pack("<qq", offset_s * 10**9, synced), 0)
        os.close(handle)

    write(0, synced=True)
    return write


async def clock_of(node: Node) -> dict[str, Any]:
    _, body = await node.get("/streams")
    told: dict[str, Any] = body["recorder"]["clock"] or {}
    return told


async def grows(node: Node, seconds: float = 4.0) -> None:
    """The stream's watermark moves on by so much, if need be over a gap."""
    before = (await node.streams())["gate.main"]["frames"]

    async def grown() -> bool:
        return bool((await node.streams())["gate.main"]["frames"] >= before + seconds * LOOP.fps)

    await until(grown, 40, f"the stream goes on; {node.log_tail()}")


async def stepped(node: Node, times: int) -> None:
    async def told() -> bool:
        return bool((await clock_of(node)).get("steps") == times)

    await until(told, 10, f"step {times} is told; {node.log_tail()}")


async def judge(node: Node) -> tuple[list[Any], list[Any]]:
    """Stop; all that was sent is stored once and in order, index and files agree. All spans and gaps."""
    assert await node.stop() == 0
    done = node.keyreel("check", "--json", check=False)
    assert done.returncode == 0, done.stdout
    report = verify(node.samples("gate.main"), "h264")
    assert report.pictures > 0
    assert not report.mismatches
    assert not report.duplicates
    assert not report.out_of_order
    assert report.missing_pictures == 0
    line = json.loads(
        node.keyreel("timeline", "gate.main", "--start", "2020-01-01T00:00:00Z", "--end", "2099-01-01T00:00:00Z",
                     "--json").stdout
    )  # fmt: skip
    ends = 0
    for path in node.chunks("gate.main"):
        table = ChunkFile(path).table()
        for start_us, end_us in zip(table.wall_us.tolist(), table.end_us.tolist(), strict=True):
            assert ends <= start_us < end_us
            ends = end_us
    return line["spans"], line["gaps"]


def length_s(span: dict[str, str]) -> float:
    return (datetime.fromisoformat(span["end"]) - datetime.fromisoformat(span["start"])).total_seconds()


async def test_ahead_and_back_under_a_running_node(node: MakeNode, step: Step) -> None:
    async with SimcamServer([CameraSpec("gate", loop=LOOP)]) as server:
        one = node()
        await one.start()
        await asyncio.to_thread(one.keyreel, "camera", "add", "gate", server.url("gate"))
        await one.recording("gate.main")
        assert (await clock_of(one))["trusted"]
        step(HOUR_S, synced=True)
        await stepped(one, 1)
        await grows(one)
        clock = await clock_of(one)
        assert (clock["reason"], clock["last_step_s"]) == ("stepped", pytest.approx(HOUR_S, abs=0.1))
        assert abs(clock["ahead_s"]) < 0.5
        step(HOUR_S - 86_400)
        await stepped(one, 2)
        await grows(one)
        clock = await clock_of(one)
        assert (clock["trusted"], clock["reason"]) == (False, "ahead")
        assert clock["ahead_s"] == pytest.approx(86_400, abs=5)
        assert "set back" in one.keyreel("status").stdout
        status, picture = await one.get("/streams/gate.main/frame.jpg")
        assert (status, bytes(picture[:2])) == (200, b"\xff\xd8")
        step(HOUR_S)
        await stepped(one, 3)
        await grows(one)
        assert abs((await clock_of(one))["ahead_s"]) < 0.5
        spans, gaps = await judge(one)
    assert [gap["cause"] for gap in gaps] == ["clock"]
    assert length_s(gaps[0]) == pytest.approx(HOUR_S, abs=3)
    assert len(spans) == 2


async def test_ten_years_ahead_are_not_believed_over_a_crash(node: MakeNode, step: Step) -> None:
    async with SimcamServer([CameraSpec("gate", loop=LOOP)]) as server:
        one = node()
        await one.start()
        await asyncio.to_thread(one.keyreel, "camera", "add", "gate", server.url("gate"))
        await one.recording("gate.main")
        step(YEARS_S)
        await stepped(one, 1)
        await grows(one)
        one.kill()
        await one.start()
        await grows(one)
        clock = await clock_of(one)
        assert clock["reason"] == "step-not-followed"
        assert clock["ahead_s"] == pytest.approx(-YEARS_S, abs=60)
        step(0, synced=True)
        await grows(one)
        assert abs((await clock_of(one))["ahead_s"]) < 0.5
        assert await one.stop() == 0
        assert one.keyreel("check", "--json", check=False).returncode == 0
        spans = json.loads(one.keyreel("timeline", "gate.main", "--json", "--end", "2099-01-01T00:00:00Z", "--start",
                                       "2020-01-01T00:00:00Z").stdout)["spans"]  # fmt: skip
    assert sum(length_s(span) for span in spans) < 300


@pytest.mark.at_length
@pytest.mark.parametrize("offset_s", [-HOUR_S, -86_400, YEARS_S])
async def test_a_node_that_starts_under_a_wrong_clock(node: MakeNode, step: Step, offset_s: int) -> None:
    async with SimcamServer([CameraSpec("gate", loop=LOOP)]) as server:
        one = node()
        await one.start()
        await asyncio.to_thread(one.keyreel, "camera", "add", "gate", server.url("gate"))
        await one.recording("gate.main")
        assert await one.stop() == 0
        step(offset_s)
        await one.start()
        await grows(one)
        assert not (await clock_of(one))["trusted"]
        step(0, synced=True)
        await grows(one)
        assert await one.stop() == 0
        assert one.keyreel("check", "--json", check=False).returncode == 0
        ends = 0
        for path in one.chunks("gate.main"):
            table = ChunkFile(path).table()
            assert ends <= int(table.wall_us[0])
            ends = int(table.end_us[-1])


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.at_length)])
async def test_a_node_that_stood_still_goes_on(node: MakeNode, step: Step, seconds: int) -> None:
    """SIGSTOP of all its processes: what came meanwhile is filed under the time it was taken, or is a gap."""
    async with SimcamServer([CameraSpec("gate", loop=LOOP)]) as server:
        one = node()
        await one.start()
        await asyncio.to_thread(one.keyreel, "camera", "add", "gate", server.url("gate"))
        await one.recording("gate.main")
        assert one.process is not None
        os.killpg(one.process.pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        os.killpg(one.process.pid, signal.SIGCONT)
        await grows(one)
        assert (await clock_of(one))["steps"] == 0
        assert await one.stop() == 0
        assert one.keyreel("check", "--json", check=False).returncode == 0
        report = verify(one.samples("gate.main"), "h264")
        assert not report.mismatches
        assert not report.duplicates
        assert not report.out_of_order
