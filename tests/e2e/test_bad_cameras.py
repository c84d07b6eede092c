"""What a camera can do wrong is a state with its reason; the good stream beside it loses nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

from bench.machine import rss_bytes
from simcam.encode import LoopSpec
from simcam.faults import Faults
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import verify
from tests.e2e.node import Node, free_port, until

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
CONFIG = """
[recorder]
backoff_min_s = 0.2
backoff_max_s = 0.5
[rtsp]
connect_timeout_s = 2
response_timeout_s = 2
media_timeout_s = 2
"""


def camera(name: str, **faults: object) -> CameraSpec:
    return CameraSpec(name, loop=LOOP, faults=dataclasses.replace(Faults(), **faults))  # type: ignore[arg-type]


async def test_each_bad_camera_has_its_state_and_reason(node: Callable[..., Node]) -> None:
    specs = [
        camera("good"),
        dataclasses.replace(camera("locked"), user="admin", password="right"),
        camera("forbidden", describe_status=403),
        camera("codec", sdp_codec="JPEG"),
        camera("other", not_rtsp=True),
        camera("huge", sdp_bytes=10_000_000),
        camera("slow", answer_bytes_per_s=1),
        camera("silent", stall=True),
    ]
    async with SimcamServer(specs) as server:
        base = f"rtsp://127.0.0.1:{server.port}"
        urls = {name: server.url(name) for name in server.cameras}
        urls["locked"] = f"rtsp://admin:wrong-password@127.0.0.1:{server.port}/locked"
        urls["missing"] = f"{base}/no-such-path"
        urls["nohost"] = "rtsp://no-such-host.invalid/live"
        urls["closed"] = f"rtsp://127.0.0.1:{free_port()}/live"
        one = node(config=CONFIG)
        await one.start()
        for name, url in urls.items():
            await asyncio.to_thread(one.keyreel, "camera", "add", name, url)
        wanted = {
            "locked": "unauthorized",
            "forbidden": "forbidden",
            "codec": "codec",
            "other": "not-rtsp",
            "huge": "too-large",
            "slow": "timeout",
            "silent": "stalled",
            "missing": "not-found",
            "nohost": "unreachable",
            "closed": "unreachable",
        }

        async def told() -> bool:
            streams = await one.streams()
            return all(streams.get(f"{name}.main", {}).get("reason") == reason for name, reason in wanted.items())

        try:
            await until(told, 30, "every reason")
        except AssertionError:
            found = {k: (v["state"], v.get("reason"), v.get("detail")) for k, v in (await one.streams()).items()}
            raise AssertionError(found) from None
        streams = await one.streams()
        assert "wrong-password" not in str(streams) + one.log_tail()
        assert one.process is not None
        await asyncio.sleep(1)
        before = tree_rss(one.process.pid)
        await asyncio.sleep(6)
        assert tree_rss(one.process.pid) < before + 8_000_000, "memory stays flat while cameras fail again and again"
        assert await one.stop() == 0
        assert verify(one.samples("good.main"), "h264").ok


def tree_rss(pid: int) -> int:
    """Resident memory of a process and its children."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = [int(child) for child in file.read().split()]
    return rss_bytes(pid) + sum(tree_rss(child) for child in children)


async def test_garbage_and_cut_joins_never_reach_the_recording(node: Callable[..., Node]) -> None:
    async with SimcamServer([camera("dirty", garbage=0.2, join="cut"), camera("markers", marker="always")]) as server:
        one = node()
        await one.start()
        for name in server.cameras:
            await asyncio.to_thread(one.keyreel, "camera", "add", name, server.url(name))
        await one.recording("dirty.main", "markers.main")
        await asyncio.sleep(4)
        assert await one.stop() == 0
        for name in ("dirty.main", "markers.main"):
            report = verify(one.samples(name), "h264")
            assert report.ok, (name, report)
