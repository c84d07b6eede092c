"""A whole node as its operator meets it: served, crashed, refused, stopped, asked afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from base.datadir import DataDir
from base.units import parse_time
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec

KEYREEL = [sys.executable, "-m", "keyreel"]
LOOP = LoopSpec(width=160, height=120, fps=10, gop=10, seconds=2, bitrate_bps=100_000)
DEADLINE_S = 60.0

pytestmark = pytest.mark.slow


async def keyreel(*words: str | Path, data: Path) -> tuple[int, str, str]:
    pipe = asyncio.subprocess.PIPE
    command = [*KEYREEL, *map(str, words), "--data", str(data)]
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    return process.returncode or 0, out.decode(), err.decode()


async def answer(*words: str | Path, data: Path) -> Any:
    code, out, err = await keyreel(*words, "--json", data=data)
    assert code == 0, err
    return json.loads(out)


async def until(check: Callable[[Any], object], data: Path) -> Any:
    """The node's status, as soon as it is as it should be."""
    end = time.monotonic() + DEADLINE_S
    while True:
        status = await answer("status", data=data)
        if check(status):
            return status
        assert time.monotonic() < end, f"status stayed {status}"
        await asyncio.sleep(0.1)


def recording(status: Any) -> bool:
    return status["recorder"] is not None and all(stream["state"] == "recording" for stream in status["streams"])


def children(parent: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


class Served:
    """`keyreel serve` as a process."""

    def __init__(self, data: Path) -> None:
        self.data = data
        command = [*KEYREEL, "serve", "--data", str(data), "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def address(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(f"Keyreel serves {self.data} at http://127.0.0.1:"), self.process.communicate()[1]
        return line.rsplit(" ", 1)[1].strip()

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        _, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, err


@pytest.fixture
async def camera() -> AsyncIterator[str]:
    async with SimcamServer([CameraSpec("gate", LOOP)]) as server:
        yield server.url("gate")


@pytest.fixture
async def node(tmp_path: Path, camera: str) -> AsyncIterator[Served]:
    """A node that records one camera."""
    data = tmp_path / "data"
    assert (await keyreel("camera", "add", "gate", camera, data=data))[0] == 0
    served = Served(data)
    try:
        await asyncio.to_thread(served.address)
        yield served
    finally:
        served.process.kill()
        served.process.communicate()


async def test_a_day_in_the_life(node: Served, tmp_path: Path) -> None:
    data = node.data
    status = await until(lambda s: recording(s) and s["streams"][0]["span_s"] > 3, data)
    assert status["streams"][0]["codec"].startswith("avc1")

    second = await keyreel("serve", data=data)
    assert (second[0], f"already served by process {node.process.pid}" in second[2]) == (4, True)

    code, err = await asyncio.to_thread(node.stop)
    assert (code, "stopped in order" in err, "Traceback" in err) == (0, True, False)
    assert not DataDir.open(data).locked()

    found = await answer("timeline", "gate.main", data=data)
    assert len(found["spans"]) == 1
    assert found["durable_until"] == found["spans"][0]["end"]
    span = found["spans"][0]
    clip = await answer(
        "clip", "gate.main", "--start", span["start"], "--end", span["end"], "-o", tmp_path / "a.mp4", data=data
    )
    assert (clip["start"], clip["end"]) == (span["start"], span["end"])
    assert clip["bytes"] == (tmp_path / "a.mp4").stat().st_size > 10_000
    assert (await answer("check", "--deep", data=data))["findings"] == []
    assert not list(tmp_path.glob("*.part"))


async def test_clips_that_cannot_be_made(node: Served, tmp_path: Path) -> None:
    await until(lambda s: recording(s) and s["streams"][0]["durable_until"], node.data)
    for stream, start, end, code in (
        ("gate.main", "2020-01-01T00:00:00Z", "2020-01-01T00:01:00Z", 3),
        ("gate.sub", "2020-01-01T00:00:00Z", "2020-01-01T00:01:00Z", 3),
        ("gate.main", "2020-01-01T00:01:00Z", "2020-01-01T00:00:00Z", 2),
        ("gate.main", "2020-01-01T00:00:00", "2020-01-01T00:01:00Z", 2),
    ):
        words = ("clip", stream, "--start", start, "--end", end, "-o", tmp_path / "no.mp4")
        done = await keyreel(*words, data=node.data)
        assert (done[0], done[2].count("\n")) == (code, 1), done
    assert not list(tmp_path.glob("no.mp4*"))


async def test_a_killed_program_comes_back_and_the_other_never_noticed(node: Served) -> None:
    first = await until(recording, node.data)
    recorder = first["recorder"]["pid"]
    (playback,) = set(children(node.process.pid)) - {recorder}
    os.kill(recorder, signal.SIGKILL)
    await until(lambda s: recording(s) and s["recorder"]["pid"] != recorder, node.data)
    assert playback in children(node.process.pid)
    code, err = await asyncio.to_thread(node.stop)
    assert (code, "ended on its own" in err) == (0, True)
    found = await answer("timeline", "gate.main", data=node.data)
    assert "crash" in {gap["cause"] for gap in found["gaps"]}


async def test_a_killed_supervisor_leaves_nobody_and_is_followed_at_once(node: Served) -> None:
    before = await until(lambda s: recording(s) and s["streams"][0]["durable_until"], node.data)
    node.process.kill()
    follower = Served(node.data)  # at once, while the old recorder may still be ending
    try:
        await asyncio.to_thread(follower.address)
        after = await until(lambda s: recording(s) and s["recorder"]["pid"] != before["recorder"]["pid"], node.data)
        assert parse_time(after["streams"][0]["durable_until"]) >= parse_time(before["streams"][0]["durable_until"])
        assert (await asyncio.to_thread(follower.stop))[0] == 0
    finally:
        follower.process.kill()
        follower.process.communicate()


async def test_a_lost_index_is_made_again_at_the_start(node: Served) -> None:
    await until(lambda s: recording(s) and s["streams"][0]["durable_until"], node.data)
    await asyncio.to_thread(node.stop)
    before = await answer("timeline", "gate.main", "--start", "2020-01-01T00:00:00Z", data=node.data)
    shutil.rmtree(node.data / "index")
    again = Served(node.data)
    try:
        await asyncio.to_thread(again.address)
        await until(recording, node.data)
        assert (await asyncio.to_thread(again.stop))[0] == 0
    finally:
        again.process.kill()
        again.process.communicate()
    after = await answer("timeline", "gate.main", "--start", "2020-01-01T00:00:00Z", data=node.data)
    assert after["spans"][0] == before["spans"][0]
    assert (await answer("check", data=node.data))["findings"] == []


async def test_rebuild_makes_the_same_index(node: Served) -> None:
    await until(lambda s: recording(s) and s["streams"][0]["durable_until"], node.data)
    pid = (await answer("status", data=node.data))["recorder"]["pid"]
    beside = await answer("rebuild", data=node.data)
    assert (beside["whole"], beside["findings"], beside["renewals"], beside["why"]) == (True, 0, 1, "keyreel rebuild")
    await until(lambda s: recording(s) and s["streams"][0]["durable_until"], node.data)
    assert (await answer("status", data=node.data))["recorder"]["pid"] == pid
    await asyncio.to_thread(node.stop)
    assert (await answer("check", "--deep", data=node.data))["findings"] == []
    before = await answer(
        "timeline", "gate.main", "--start", "2020-01-01T00:00:00Z", "--end", "2100-01-01T00:00:00Z", data=node.data
    )
    report = await answer("rebuild", data=node.data)
    assert (report["streams"], report["cameras"], report["findings"]) == (1, 1, [])
    after = await answer(
        "timeline", "gate.main", "--start", "2020-01-01T00:00:00Z", "--end", "2100-01-01T00:00:00Z", data=node.data
    )
    assert after == before
