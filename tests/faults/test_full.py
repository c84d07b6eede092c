"""A node whose disk fills up: the oldest footage that may go makes room, what is held never does, recording goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
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
from tests.faults import measured
from tests.faults.conftest import AT_LENGTH
from tests.faults.device import Disk

pytestmark = pytest.mark.needs_mount
LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
FAST = '[recorder]\nchunk_s = 10\n[retention]\ngrace_s = 0.2\n[[volumes]]\npath = "{path}"\n'
GOP_S = LOOP.gop / LOOP.fps  # a stream comes back at a key frame
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
    measured.LINES.append(f"another program fills the disk: {lost_us / 1e6:.2f} s of pictures are lost")
    assert lost_us <= (1_000_000 if AT_LENGTH else 10_000_000)  # at length on a machine that has nothing else to do
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


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.at_length), 2])
async def test_with_everything_held_streams_give_way_by_priority_and_nothing_held_goes(
    node: MakeNode, mount: Callable[..., Path], workers: int
) -> None:
    """Of two workers the second one records the stream that gives way, and the first one knows that room is scarce."""
    disk = mount("disk", "size=32m")
    (disk / "lost+found").mkdir()
    one = node(config=f"[recorder]\nworkers = {workers}\n".join(FAST.format(path=disk).split("[recorder]\n")))
    async with SimcamServer([CameraSpec(name, loop=LOOP) for name in ("low", "high")]) as server:
        await one.start()
        for name in ("high", "low"):  # their ids are in this order
            one.keyreel("camera", "add", name, server.url(name), "--priority", name)
        await one.recording("low.main", "high.main")
        one.keyreel(
            "hold", "add", "low.main", "high.main", "--start", "2020-01-01T00:00:00Z", "--end", "2099-01-01T00:00:00Z",
            "--reason", "everything", "--owner", "Lan",
        )  # fmt: skip
        await older(one, disk, "high.main", 3)
        held = {name: sequences(one, disk, f"{name}.main") for name in ("low", "high")}
        fill(disk / "lost+found" / "other", leave_bytes=1_000_000)

        async def low_gives_way() -> bool:
            streams = await one.streams()
            return bool((await volume(one))["short_bytes"] and streams["low.main"]["reason"] == "overload")

        await until(low_gives_way, 20, f"low gives way; {await volume(one)} {one.log_tail()}")
        assert (await one.streams())["high.main"]["state"] == "recording"
        (disk / "lost+found" / "other").unlink()
        room_us = time.time_ns() // 1000
        for name in ("low.main", "high.main"):
            before = (await one.streams())[name]["durable_until"]

            async def again(name: str = name, before: str = before) -> bool:
                return bool((await one.streams())[name]["durable_until"] > before)

            await until(again, 60, f"{name} records again; {await volume(one)} {one.log_tail()}")
        for name, before_numbers in held.items():
            assert set(before_numbers) <= set(sequences(one, disk, f"{name}.main")), "held, and gone"
        assert (await volume(one))["deleted_chunks"] == 0
        assert await one.stop() == 0
    done = one.keyreel("check", "--json", check=False)
    assert done.returncode == 0, done.stdout
    lasting = [gap for gap in (await timeline(one, "low.main"))["gaps"] if parse_time(gap["end"]) > room_us]
    late_s = max((parse_time(gap["end"]) - room_us for gap in lasting), default=0) / 1e6
    measured.LINES.append(f"{workers} workers: recorded again {late_s:.2f} s after there was room")
    assert late_s <= (2.0 + GOP_S if AT_LENGTH else 20.0)


async def test_a_quota_is_a_full_disk(node: MakeNode, mount: Callable[..., Path], disk: Callable[[str], None]) -> None:
    """The file system has room, the quota has none: the oldest goes all the same, and recording goes on beneath it."""
    volume_path = mount("bad", "size=128m")
    one = node(config=FAST.format(path=volume_path))
    async with SimcamServer([CameraSpec("c0", loop=LOOP)]) as server:
        await one.start()
        one.keyreel("camera", "add", "c0", server.url("c0"))
        await older(one, volume_path, "c0.main", 2)
        first = sequences(one, volume_path, "c0.main")[0]
        used = sum(path.stat().st_blocks * 512 for path in volume_path.rglob("*") if path.is_file())
        disk(f"quota {used}")

        async def relieved() -> bool:
            done = await volume(one)
            return bool(done["deleted_chunks"]) and done["state"] == "ok"

        await until(relieved, 40, f"room below the quota; {await volume(one)} {one.log_tail()}")
        before = (await one.streams())["c0.main"]["durable_until"]

        async def again() -> bool:
            return bool((await one.streams())["c0.main"]["durable_until"] > before)

        await until(again, 40, f"it records; {await volume(one)} {one.log_tail()}")
        assert '"reason": "enospc"' in one.log_path.read_text()
        assert first not in sequences(one, volume_path, "c0.main"), "the oldest went"
        assert await one.stop() == 0
    done = one.keyreel("check", "--json", check=False)
    assert done.returncode == 0, done.stdout
    assert {gap["cause"] for gap in (await timeline(one, "c0.main"))["gaps"]} <= {"expired", "volume"}


@pytest.mark.at_length
@pytest.mark.needs_device
async def test_a_disk_without_inodes(node: MakeNode, tmp_path: Path) -> None:
    """A real file system tells its own way that no more names fit."""
    with Disk(tmp_path / "device", "ext4", root=tmp_path / "disk", size_bytes=48 << 20, make=("-N", "64")) as disk:
        await run_out(node(config=FAST.format(path=disk.root)), disk.root, "inodes")


@pytest.mark.parametrize("lacking", ["inodes", "file-size", "files"])
async def test_what_runs_out_like_a_disk(node: MakeNode, mount: Callable[..., Path], lacking: str) -> None:
    """Inodes, the length of a file, open files: no crash, a reason, and it goes on when there is some again."""
    disk = mount("disk", "size=64m,nr_inodes=40" if lacking == "inodes" else "size=64m")
    (disk / "lost+found").mkdir()
    await run_out(node(config=FAST.format(path=disk)), disk, lacking)


async def run_out(one: Node, disk: Path, lacking: str) -> None:
    async with SimcamServer([CameraSpec("c0", loop=LOOP)]) as server:
        await one.start()
        one.keyreel("camera", "add", "c0", server.url("c0"))
        await one.recording("c0.main")
        recorder = await recorder_pid(one)
        if lacking == "inodes":
            await older(one, disk, "c0.main", 2)
            with contextlib.suppress(OSError):
                for i in range(1000):
                    (disk / "lost+found" / str(i)).touch()
        else:
            kind, low = {"file-size": (resource.RLIMIT_FSIZE, 100_000), "files": (resource.RLIMIT_NOFILE, 3)}[lacking]
            before_limit = resource.prlimit(recorder, kind)
            resource.prlimit(recorder, kind, (low, before_limit[1]))

        async def told() -> bool:  # without a file to write it to, the state is in the log alone
            if lacking == "inodes":
                return bool((await volume(one)).get("deleted_chunks"))
            return '"reason": "limit"' in one.log_path.read_text()

        await until(told, 40, f"it is told; {await volume(one)} {one.log_tail()}")
        if lacking == "inodes":
            for path in (disk / "lost+found").iterdir():
                path.unlink()
        else:
            resource.prlimit(recorder, kind, before_limit)
        before = (await one.streams())["c0.main"]["durable_until"]

        async def again() -> bool:
            return bool(
                (await one.streams())["c0.main"]["durable_until"] > before and (await volume(one))["state"] == "ok"
            )

        await until(again, 40, f"it records again; {await volume(one)} {one.log_tail()}")
        assert await recorder_pid(one) == recorder, "the same process"
        assert await one.stop() == 0
    done = one.keyreel("check", "--json", check=False)
    assert done.returncode == 0, done.stdout


async def recorder_pid(node: Node) -> int:
    status = json.loads(node.keyreel("status", "--json").stdout)
    return int(status["recorder"]["pid"])
