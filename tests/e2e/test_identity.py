"""Another device at a camera's address is recorded, and told, until somebody accepts it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.bad import CONFIG
from tests.e2e.node import Node, until

LOOP = LoopSpec(width=160, height=90, fps=5, gop=5, bitrate_bps=50_000)


async def test_another_device_at_the_address_is_recorded_and_told(node: Callable[..., Node]) -> None:
    first = CameraSpec("gate", LOOP, user="admin", password="s3cret", realm="IP Camera(C1234)")
    other = CameraSpec("gate", LOOP, user="admin", password="s3cret", realm="IP Camera(D9999)")
    async with SimcamServer([first]) as server:
        one = node(config=CONFIG)
        await one.start()
        await asyncio.to_thread(one.keyreel, "camera", "add", "gate", server.url("gate"))
        await one.recording("gate.main")

        async def says(reason: str) -> bool:
            stream = (await one.streams())["gate.main"]
            return stream["state"] == "recording" and (stream.get("reason") or "") == reason

        await until(lambda: says(""), 20, "the first device is met without a word")
        before = len(one.chunks("gate.main"))
        server.camera("gate").end_sessions(abrupt=True)
        await server.add_camera(other)
        await until(lambda: says("identity-changed"), 20, "the other device is told")
        detail = (await one.streams())["gate.main"]["detail"]
        assert "'IP Camera(C1234)' became 'IP Camera(D9999)'" in detail
        assert "s3cret" not in detail
        assert len(one.chunks("gate.main")) > before, "its pictures begin a chunk of their own"
        await one.stop()
        await one.start()
        await until(lambda: says("identity-changed"), 20, "a restart does not forget")
        done = await asyncio.to_thread(one.keyreel, "camera", "accept", "gate")
        assert "taken for it" in done.stdout
        await until(lambda: says(""), 20, "accepted")
        assert await one.stop() == 0
