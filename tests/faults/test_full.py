"""A node whose disk fills up: the oldest footage that may go makes room, what is held never does, recording goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base.units import parse_time
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import verify
from tests.e2e.node import Node, until

pytestmark = pytest.mark.needs_mount
LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
FAST = '[recorder]\nchunk_s = 10\n[retention]\ngrace_s = 0.2\n[[volumes]]\npath = "{path}"\n'
MakeNode = Callable[..., Node]


async def volume(node: Node) -> dict[str, Any]:
    _, body = await node.get("/volumes")
    return body["volumes"][0] if body["volumes"] else {}


def sequences(node: Node, folder: Path, name: str) -> list[int]:
    return sorted(int(path.stem.rpartition("-")[2]) for path in (folder / name).glob("*/*.mp4"))


def fill(path: Path, leave_bytes: int = 0) -> None:
    """Another program takes the rest of the disk."""
    stats = os.statvfs(path.parent)
    size = max(stats.f_bavail * stats.f_frsize - leave_bytes, 0)
    with path.open("ab", buffering=0) as other, contextlib.suppress(OSError):
        while size > 0:
            size -= other.write(bytes(min(size, 1 << 16)))


async def older(node: Node, folder: Path, name: str, count: int) -> None:
    """Wait until a stream has so many chunks."""

    async def there() -> bool:
        return len(sequences(node, folder, name)) >= count

    await until(there, 90, f"{count} chunks of {name}; {node.log_tail()}")


async def timeline(node: Node, name: str) -> dict[str, Any]:
    return dict(json.loads(node.keyreel("timeline", name, "--json").stdout))


async def test_another_program_fills_the_disk(node: MakeNode, tmp_path: Path, mount: Callable[..., Path]) -> None:
    """The oldest goes, recording goes on within a second of pictures, and the index, the files and the API agree."""
    disk = mount("disk", "size=32m")
    (disk / "lost+found").mkdir()
    one = node(config=FAST.format(path=disk))
    async with SimcamServer([CameraSpec("c0", loop=LOOP)]) as server:
        await one.start()
        one.keyreel("camera", "add", "c0", server.url("c0"))
        await older(one, disk, "c0.main", 4)
        first = sequences(one, disk, "c0.main")[:2]
        before = await one.streams()
        fill(disk / "lost+found" / "other")
        began = time.monotonic()

        async def recording_again() -> bool:
            now = await one.streams()
            done = await volume(one)
            goes_on = now["c0.main"]["durable_until"] > before["c0.main"]["durable_until"]
            return bool(done.get("deleted_chunks") and goes_on and done["state"] == "ok")

        await until(recording_again, 30, f"recording again; {await volume(one)} {one.log_tail()}")
        print(f"recording again after {time.monotonic() - began:.1f} s")
        left = sequences(one, disk, "c0.main")
        assert not set(first[:1]) & set(left), "the oldest went"
        (disk / "lost+found" / "other").unlink()
        await asyncio.sleep(3)
        assert await one.stop() == 0
    done = one.keyreel("check", "--json", check=False)
    assert done.returncode == 0, done.stdout
    line = await timeline(one, "c0.main")
    print(line["gaps"])
    assert {gap["cause"] for gap in line["gaps"]} <= {"expired", "volume"}
    lost_us = sum(parse_time(g["end"]) - parse_time(g["start"]) for g in line["gaps"] if g["cause"] == "volume")
    print(f"lost {lost_us / 1e6:.2f} s")
    report = verify(
        [
            s
            for path in sorted((disk / "c0.main").glob("*/*.mp4"), key=lambda p: int(p.stem.rpartition("-")[2]))
            for s in _samples(path)
        ],
        "h264",
    )
    assert not report.mismatches
    assert not report.duplicates
    assert not report.out_of_order


def _samples(path: Path) -> list[bytes]:
    from tests.e2e.node import chunk_samples

    return chunk_samples(path)
