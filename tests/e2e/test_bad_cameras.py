"""What a camera can do wrong is a state with its reason; the good stream beside it loses nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

from simcam.encode import LoopSpec
from simcam.faults import Faults
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import verify
from tests.e2e.bad import CONFIG, run_beside, tree_rss
from tests.e2e.node import Node, free_port, until

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)


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


async def test_every_bad_camera_at_once_costs_the_good_ones_nothing(node: Callable[..., Node]) -> None:
    await run_beside(node(config=CONFIG), good=10, seconds=4)


async def test_markers_that_mean_nothing_do_no_harm(node: Callable[..., Node]) -> None:
    async with SimcamServer([camera("markers", marker="always")]) as server:
        one = node()
        await one.start()
        await asyncio.to_thread(one.keyreel, "camera", "add", "markers", server.url("markers"))
        await one.recording("markers.main")
        await asyncio.sleep(2)
        assert await one.stop() == 0
        report = verify(one.samples("markers.main"), "h264")
        assert report.ok, report
