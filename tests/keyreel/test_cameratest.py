"""`keyreel camera test`: what a simulated camera answers, told to people and to scripts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.node import Node

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)


async def test_a_camera_is_tested_by_id_and_by_address(tmp_path: Path) -> None:
    node = Node(tmp_path / "data")
    async with SimcamServer([CameraSpec("gate", loop=LOOP, user="u", password="secret-word")]) as server:
        await asyncio.to_thread(node.keyreel, "camera", "add", "gate", server.url("gate"))
        good = await asyncio.to_thread(node.keyreel, "camera", "test", "gate")
        for text in ("pictures come", "DESCRIBE 401", "PLAY 200", "320 x 180, avc1.", "key frame    after"):
            assert text in good.stdout, good.stdout
        assert "secret-word" not in good.stdout + good.stderr
        address = f"rtsp://127.0.0.1:{server.port}/gate"
        bad = await asyncio.to_thread(node.keyreel, "camera", "test", address, "--json", check=False)
        assert (bad.returncode, json.loads(bad.stdout)["reason"]) == (1, "unauthorized")
    for target, code in (("nobody", 3), ("ftp://h/", 2)):
        assert (await asyncio.to_thread(node.keyreel, "camera", "test", target, check=False)).returncode == code
