"""A file imported beside a real recorder: seen at once, never mixed with what a camera sends, and gone on from."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import support
from support import made

from base.units import US, format_time, parse_time
from chunks.path import parse_chunk_path
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.node import Node

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
pytestmark = pytest.mark.slow


async def test_beside_a_running_recorder(tmp_path: Path) -> None:
    file = tmp_path / "card.mp4"
    made(file, "mp4", support.video("h264", 100), support.audio("aac", 4.0))
    start = format_time(int(time.time() * US) - 3600 * US)
    node = Node(tmp_path / "data")
    async with SimcamServer([CameraSpec("gate", LOOP), CameraSpec("card", LOOP)]) as cameras:
        await asyncio.to_thread(node.keyreel, "camera", "add", "gate", cameras.url("gate"))
        await node.start()
        try:
            await node.recording("gate.main")

            async def imported(stream: str) -> tuple[int, str]:
                words = ("import", str(file), "--stream", stream, "--start", start)
                done = await asyncio.to_thread(node.keyreel, *words, check=False)
                return done.returncode, done.stderr

            assert await imported("card.main") == (0, "")
            code, error = await imported("gate.main")
            assert (code, "being recorded" in error) == (2, True)
            assert (await node.streams())["card.main"]["durable_until"]
            end = format_time(parse_time(start) + 2 * US)
            status, clip = await node.get("/streams/card.main/clip.mp4", start=start, end=end)
            assert status == 200
            assert [number for _, number in support.shown(clip)] == list(range(50))
            code, error = await imported("card.main")
            assert (code, "holds footage until" in error) == (2, True)

            before = (await node.streams())["card.main"]["durable_until"]
            await asyncio.to_thread(node.keyreel, "camera", "add", "card", cameras.url("card"))

            async def goes_on() -> bool:
                return bool((await node.streams())["card.main"]["durable_until"] > before)

            from tests.e2e.node import until

            await until(goes_on, 30, f"the camera's stream goes on behind the file; {node.log_tail()}")
            code, error = await imported("card.main")
            assert (code, "being recorded" in error) == (2, True)
        finally:
            assert await node.stop() == 0
    names = [parse_chunk_path(path) for path in node.chunks("card.main")]
    assert [name.sequence for name in names if name] == list(range(1, len(names) + 1))
    checked = await asyncio.to_thread(node.keyreel, "check", "--deep", check=False)
    assert checked.returncode == 0, checked.stdout
    told = json.loads((await asyncio.to_thread(node.keyreel, "timeline", "card.main", "--json")).stdout)
    assert len(told["spans"]) == 2
    assert len(told["gaps"]) == 1
