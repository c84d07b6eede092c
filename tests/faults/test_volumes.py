"""A node whose volumes are missing, full, failing or hung: the others record on, and a mended one comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from base.units import parse_time
from chunks.path import parse_chunk_path
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import verify
from tests.e2e.node import Node, chunk_samples, until
from tests.faults import measured
from tests.faults.conftest import AT_LENGTH

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
MakeNode = Callable[..., Node]
GAP_S_MAX = 5.0 if AT_LENGTH else 15.0  # at length on a machine that has nothing else to do


class Rig:
    """A node with volumes `bad` and `good`, and cameras."""

    def __init__(self, node: Node, folder: Path, names: list[str]) -> None:
        self.node = node
        self.folder = folder
        self.names = names

    async def volumes(self) -> dict[str, dict[str, Any]]:
        _, body = await self.node.get("/volumes")
        return {Path(volume["path"]).name: volume for volume in body["volumes"]}

    async def state(self, name: str, state: str, *reasons: str) -> None:
        async def reached() -> bool:
            volume = (await self.volumes()).get(name, {})
            return volume.get("state") == state and (not reasons or volume["reason"] in reasons)

        await until(reached, 20, f"{name} is {state}; {self.node.log_tail()}")

    async def grows(self, *names: str) -> None:
        """Every stream's watermark moves on."""
        before = await self.node.streams()

        async def grown() -> bool:
            now = await self.node.streams()
            return all(
                (now[n]["durable_until"] or "") > (before[n]["durable_until"] or "") for n in names or self.names
            )

        await until(grown, 20, f"streams go on; {self.node.log_tail()}")

    def samples(self, name: str) -> list[bytes]:
        paths = [path for volume in ("bad", "good", "third") for path in (self.folder / volume / name).glob("*/*.mp4")]
        found: list[bytes] = []
        for path in sorted(paths, key=lambda one: parse_chunk_path(one).sequence):
            found += chunk_samples(path)
        return found

    async def judge(self, *, gaps: set[str], elsewhere: bool = True) -> None:
        """At the end: no picture twice, out of order or spoilt; what is missing has a cause; index and files agree.

        With another volume to go on with (`elsewhere`) a stream misses GAP_S_MAX at most, by its recorded times.
        """
        assert await self.node.stop() == 0
        done = self.node.keyreel("check", "--json", check=False)
        assert done.returncode == 0, done.stdout
        longest_s = 0.0
        for name in self.names:
            report = verify(self.samples(name), "h264")
            assert not report.mismatches
            assert not report.duplicates
            assert not report.out_of_order
            line = json.loads(self.node.keyreel("timeline", name, "--json").stdout)
            assert {gap["cause"] for gap in line["gaps"]} <= gaps
            longest_s = max([longest_s, *(_length_s(gap) for gap in line["gaps"] if gap["cause"] == "volume")])
        if "volume" in gaps and elsewhere:
            test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].partition(" ")[0]
            measured.LINES.append(f"{test}: the longest gap of a stream that goes on elsewhere is {longest_s:.2f} s")
            assert longest_s <= GAP_S_MAX, "a stream went on elsewhere too late"


def _length_s(gap: dict[str, str]) -> float:
    return (parse_time(gap["end"]) - parse_time(gap["start"])) / 1e6


@asynccontextmanager
async def rig(make: MakeNode, folder: Path, cameras: int = 4, more: str = "") -> AsyncIterator[Rig]:
    for name in ("bad", "good"):
        (folder / name).mkdir(exist_ok=True)
    text = more + "".join(f'[[volumes]]\npath = "{folder / name}"\n' for name in ("bad", "good"))
    async with SimcamServer([CameraSpec(f"c{i}", loop=LOOP) for i in range(cameras)]) as server:
        one = make(config=text)
        await one.start()
        for name in server.cameras:
            await asyncio.to_thread(one.keyreel, "camera", "add", name, server.url(name))
        names = [f"{name}.main" for name in server.cameras]
        await one.recording(*names)
        yield Rig(one, folder, names)


@pytest.mark.at_length
async def test_streams_are_spread_over_the_volumes(node: MakeNode, tmp_path: Path) -> None:
    async with rig(node, tmp_path) as one:

        async def spread() -> bool:
            return {name: volume["streams"] for name, volume in (await one.volumes()).items()} == {"bad": 2, "good": 2}

        await until(spread, 20, "two streams on each volume")
        await one.judge(gaps=set())


async def test_a_volume_is_added_and_drained_under_a_running_node(node: MakeNode, tmp_path: Path) -> None:
    """Chunks go where they may from their next beginning on; nothing is missing between the two volumes."""
    async with rig(node, tmp_path, cameras=1, more="[recorder]\nchunk_s = 10\n") as one:
        (tmp_path / "third").mkdir()
        one.node.keyreel("volume", "add", str(tmp_path / "third"))
        await one.state("third", "ok")
        for name in ("bad", "good"):
            one.node.keyreel("volume", "drain", str(tmp_path / name), "--config", str(tmp_path / "data.toml"))
            await one.state(name, "draining")

        async def moved() -> bool:
            return bool((await one.volumes())["third"]["streams"])

        await until(moved, 40, "the stream's next chunk goes to the new volume")
        await one.grows()
        await one.judge(gaps=set())
        assert list((tmp_path / "third").glob("*/*/*.mp4"))


async def test_a_volume_that_is_away_at_the_start_is_reported_and_comes_back(node: MakeNode, tmp_path: Path) -> None:
    async with rig(node, tmp_path) as one:
        assert await one.node.stop() == 0
        (tmp_path / "bad").rename(tmp_path / "away")
        (tmp_path / "bad").mkdir()
        await one.node.start()
        await one.state("bad", "quarantined", "missing")
        await one.grows()
        assert list((tmp_path / "bad").iterdir()) == [], "nothing is recorded beneath a mount point"
        (tmp_path / "bad").rmdir()
        (tmp_path / "away").rename(tmp_path / "bad")
        await one.state("bad", "ok")
        await one.judge(gaps={"stopped"})


async def test_no_volume_at_all_waits_and_begins_by_itself(node: MakeNode, tmp_path: Path) -> None:
    async with rig(node, tmp_path, cameras=1) as one:
        assert await one.node.stop() == 0
        for name in ("bad", "good"):
            (tmp_path / name).rename(tmp_path / f"{name}-away")
        await one.node.start()
        await one.state("good", "quarantined", "missing")

        async def waits() -> bool:
            stream = (await one.node.streams())["c0.main"]
            return (stream["state"], stream["reason"]) == ("waiting", "no-volume")

        await until(waits, 20, f"the stream says that it waits; {one.node.log_tail()}")
        for name in ("bad", "good"):
            (tmp_path / f"{name}-away").rename(tmp_path / name)
        await one.grows()
        await one.judge(gaps={"stopped", "volume"}, elsewhere=False)


@pytest.mark.at_length
async def test_a_volume_that_vanishes_and_returns(node: MakeNode, tmp_path: Path) -> None:
    async with rig(node, tmp_path) as one:
        (tmp_path / "bad").rename(tmp_path / "away")
        await one.state("bad", "quarantined", "missing")
        await one.grows()
        (tmp_path / "away").rename(tmp_path / "bad")
        await one.state("bad", "ok")
        await one.grows()
        await one.judge(gaps={"volume"})


@pytest.mark.parametrize(
    ("fault", "workers"),
    [
        ("sync-eio", 2),
        *(pytest.param(*case, marks=pytest.mark.at_length) for case in (("sync-eio", 1), ("eio", 1), ("eio", 2))),
    ],
)
async def test_a_failing_disk(
    node: MakeNode, tmp_path: Path, disk: Callable[[str], None], fault: str, workers: int
) -> None:
    """Each worker that has streams on it finds out for itself, and takes it back for itself."""
    async with rig(node, tmp_path, more=f"[recorder]\nworkers = {workers}\n") as one:
        disk(fault)
        await one.state("bad", "quarantined", "eio")
        await one.grows()
        disk("ok")
        await one.state("bad", "ok")
        await one.judge(gaps={"volume"})


async def test_a_hung_disk(node: MakeNode, tmp_path: Path, disk: Callable[[str], None]) -> None:
    async with rig(node, tmp_path) as one:
        disk("hang")
        await one.state("bad", "suspect", "hung")
        await one.grows()
        disk("ok")
        await one.state("bad", "ok")
        await one.judge(gaps={"volume"})


@pytest.mark.at_length
@pytest.mark.needs_mount
async def test_a_full_volume(node: MakeNode, tmp_path: Path, mount: Callable[..., Path]) -> None:
    bad = mount("bad", "size=4m")  # too small for what a chunk is given ahead, so it is full at once
    mount("good", "size=9m")
    (bad / "lost+found").mkdir()
    with (bad / "lost+found" / "other").open("wb", buffering=0) as other:
        async with rig(node, tmp_path) as one:
            await _until_full(one, other)
            other.truncate(0)
            await one.state("bad", "ok")
            await one.judge(gaps={"volume"})


async def _until_full(one: Rig, other: FileIO) -> None:
    """Another program takes the rest of the disk."""
    with contextlib.suppress(OSError):
        while other.write(bytes(1 << 12)):
            pass
    await one.state("bad", "quarantined", "enospc")
    await one.grows()


@pytest.mark.needs_mount
async def test_an_unmounted_volume(node: MakeNode, tmp_path: Path, mount: Callable[..., Path]) -> None:
    """Unmounted under the recorder: nothing goes to the directory below, and the disk is taken back when it is back."""
    mount("bad", "size=64m")
    async with rig(node, tmp_path) as one:
        keep = tmp_path / "keep"
        keep.mkdir()
        subprocess.run(["mount", "--bind", tmp_path / "bad", keep], check=True)
        subprocess.run(["umount", "-l", tmp_path / "bad"], check=True)
        await one.state("bad", "quarantined", "missing")
        await one.grows()
        assert list((tmp_path / "bad").iterdir()) == []
        subprocess.run(["mount", "--bind", keep, tmp_path / "bad"], check=True)
        subprocess.run(["umount", keep], check=True)
        await one.state("bad", "ok")
        await one.judge(gaps={"volume"})
