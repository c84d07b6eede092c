"""`kill -9` in mid-recording: what reached the kernel is in the index after the next start, and plays."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from base.clock import wall_us
from base.units import format_time
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import parse_stamp, verify
from tests.e2e.node import Node, until

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15, audio="aac")
WHOLE = {"start": "2020-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}


@pytest.mark.needs_ffmpeg
async def test_every_fragment_handed_to_the_kernel_is_indexed_and_plays(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    async with SimcamServer([CameraSpec(f"c{i}", loop=LOOP) for i in range(4)]) as server:
        one = node()
        await one.start()
        for name in server.cameras:
            await asyncio.to_thread(one.keyreel, "camera", "add", name, server.url(name))
        names = [f"{name}.main" for name in server.cameras]
        await one.recording(*names)
        for _ in range(2):
            await asyncio.sleep(2.3)
            one.kill()
            at_kill = {n: server.camera(n.removesuffix(".main")).sequence for n in names}
            on_disk = {n: verify(one.samples(n), "h264") for n in names}
            for name, report in on_disk.items():
                assert not report.mismatches
                assert report.last is not None
                # ≤ 1 s is promised; pictures come at 15 a second.
                assert at_kill[name] - report.last <= 15, f"{name} lost {at_kill[name] - report.last} pictures"
            await one.start()
            await _goes_on(one, names)
        assert await one.stop() == 0
        check = one.keyreel("check", "--json", check=False)
        assert check.returncode == 0, check.stdout + check.stderr
        for name in names:
            one.keyreel("camera", "remove", name.removesuffix(".main"))
        await one.start()
        for name in names:
            await _plays(one, name, tmp_path)
        assert await one.stop() == 0


async def _goes_on(one: Node, names: list[str]) -> None:
    """What is durable was received after now."""
    now = format_time(wall_us())

    async def newer() -> bool:
        streams = await one.streams()
        return all((streams[name]["durable_until"] or "") > now for name in names)

    await until(newer, 30, f"{names} go on; {one.log_tail()}")


async def _plays(one: Node, name: str, folder: Path) -> None:
    """Each crash is a declared gap, and a clip over everything holds every stored picture."""
    stored = one.samples(name)
    assert not verify(stored, "h264").mismatches
    _, line = await one.get(f"/streams/{name}/timeline", **WHOLE)
    assert [gap["cause"] for gap in line["gaps"]] == ["crash", "crash"]
    start, end = line["spans"][0]["start"], line["spans"][-1]["end"]
    status, clip = await one.get(f"/streams/{name}/clip.mp4", start=start, end=end)
    assert status == 200
    path = folder / f"{name}.mp4"
    path.write_bytes(clip)
    count = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v",
        "-count_packets",
        "-show_entries",
        "stream=nb_read_packets",
    ]
    probe = await asyncio.to_thread(subprocess.run, [*count, "-of", "json", str(path)], capture_output=True, check=True)
    assert int(json.loads(probe.stdout)["streams"][0]["nb_read_packets"]) == len(stored)
    decode = await asyncio.to_thread(
        subprocess.run, ["ffmpeg", "-v", "error", "-i", str(path), "-f", "null", "-"], capture_output=True, check=True
    )
    assert decode.stderr == b""


async def test_a_torn_tail_is_kept_aside_and_the_rest_plays(node: Callable[..., Node]) -> None:
    async with SimcamServer([CameraSpec("gate", loop=LOOP)]) as server:
        one = node()
        await one.start()
        await asyncio.to_thread(one.keyreel, "camera", "add", "gate", server.url("gate"))
        await one.recording("gate.main")
        await asyncio.sleep(2)
        one.kill()
        torn = one.chunks("gate.main")[-1]
        before = one.samples("gate.main")
        with torn.open("ab") as file:
            file.write(b"\0\0\1\0moof" + b"half a fragment" * 5)
        await one.start()

        async def recovered() -> bool:
            return len(one.chunks("gate.main")) >= 2

        await until(recovered, 20, "recording goes on in a new chunk")
        assert list(torn.parent.glob(f"{torn.name}*torn*")) or list(torn.parent.glob("*torn*"))
        assert await one.stop() == 0
        after = one.samples("gate.main")
        assert after[: len(before)] == before
        stamp = parse_stamp(after[-1], "h264")
        assert stamp is not None
