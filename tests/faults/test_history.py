"""A node tells how it was: figures, comings and goings, alarms, over a camera's absence and a crash."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.node import Node, until

pytestmark = pytest.mark.at_length
LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)


async def test_what_happened_is_told_afterwards(tmp_path: Path) -> None:
    node = Node(tmp_path / "data", "[recorder]\nworkers = 2\n")
    async with (
        SimcamServer([CameraSpec("gate", loop=LOOP)]) as server,
        SimcamServer([CameraSpec("yard", loop=LOOP)]) as good,
    ):
        await node.start()
        for name, one in (("gate", server), ("yard", good)):
            await asyncio.to_thread(node.keyreel, "camera", "add", name, one.url(name))
        await node.recording("gate.main", "yard.main")

        async def conditions() -> list[str]:
            _, body = await node.get("/streams/gate.main/states")
            return [f"{one['state']} {one['reason']}".strip() for one in body["streams"][0]["states"]]

        async def figures() -> Any:
            _, body = await node.get("/history")
            is_told = 2 in body["streams"] and any(body["ingest_bytes_s"])
            return is_told and any(body["volumes"][0]["write_bytes_s"]) and body

        body = await until(figures, 30, "a reading of both workers")
        assert max(filter(None, body["volumes"][0]["free_bytes"])) > 0
        try:
            await server.go_down()

            async def alarmed() -> bool:
                _, told = await node.get("/alarms")
                return any("gate.main" in one["subject"] for one in told["alarms"] if one["kind"] == "streams")

            await until(alarmed, 40, "an alarm for the camera that is away")
            told = await conditions()
            assert told[0] == "recording"
            assert told[-1] == "offline unreachable"
            node.kill()
            await node.start()
            await server.come_up()

            async def is_back() -> bool:
                return (await conditions())[-1] == "recording"

            await until(is_back, 60, "the camera is back")
            after = await conditions()
            assert after[: len(told)] == told
            assert "down crash" in after
            _, reports = await node.get("/reports")
            assert sum(one["torn"] for one in reports["recoveries"]) >= 1
            await node.stop()
            await node.start()
            await until(is_back, 60, "the camera is back after an orderly end")
            assert (await conditions())[-2] == "down stopped"
        finally:
            if node.process is not None:
                node.kill()
