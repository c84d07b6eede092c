"""A running node and disks that fail below a real file system: errors, a journal that aborts, a hang, a pulled cable,
mounts in each other's place. The other volume records on, and a mended disk is taken back.

`test_volumes.py` has the same states by a shim, which reaches what no device shows (a sync alone that fails).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from base.units import format_time, parse_time
from tests.e2e.node import Node, until
from tests.faults import measured
from tests.faults.conftest import AT_LENGTH
from tests.faults.device import Disk, FileSystem
from tests.faults.test_volumes import Rig, rig

pytestmark = [pytest.mark.needs_device, pytest.mark.timeout(300)]
FILESYSTEMS: list[FileSystem] = ["ext4", "xfs"]
HANG_S = 60.0
Make = Callable[[FileSystem], AbstractAsyncContextManager[tuple[Rig, Disk]]]


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Callable[[FileSystem, str], Disk]]:
    """Disks mounted at folders of the test's own."""
    made: list[Disk] = []

    def make(filesystem: FileSystem, name: str) -> Disk:
        made.append(Disk(tmp_path / f"{name}-disk", filesystem, root=tmp_path / name))
        made[-1].open()
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def failing(disks: Callable[[FileSystem, str], Disk], node: Callable[..., Node], tmp_path: Path) -> Make:
    """A node that records to the disk `bad` and to one of the same size that is well."""

    @asynccontextmanager
    async def make(filesystem: FileSystem) -> AsyncIterator[tuple[Rig, Disk]]:
        disk, _ = disks(filesystem, "bad"), disks(filesystem, "good")
        async with rig(node, tmp_path, cameras=2) as one:
            await spread(one, "bad", "good")
            yield one, disk

    return make


async def clip_times(one: Rig, name: str) -> float:
    """How long 100 clips of two seconds take, of a hundred all but the slowest."""
    end_us = parse_time((await one.node.streams())[name]["durable_until"])
    span = {"start": format_time(end_us - 2_000_000), "end": format_time(end_us)}
    times = []
    for _ in range(100):
        began_s = time.monotonic()
        status, _ = await one.node.get(f"/streams/{name}/clip.mp4", **span)
        assert status == 200
        times.append(time.monotonic() - began_s)
    return sorted(times)[98]


async def spread(one: Rig, *names: str) -> None:
    """Something is recorded to each of these."""

    async def reached() -> bool:
        volumes = await one.volumes()
        return all(volumes[name]["streams"] for name in names)

    await until(reached, 20, f"streams record to {names}; {one.node.log_tail()}")


@pytest.mark.at_length
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_every_write_fails(failing: Make, filesystem: FileSystem) -> None:
    """The journal too, so the kernel stops the file system; only a mount opens it again."""
    async with failing(filesystem) as (one, disk):
        disk.eio()
        await one.state("bad", "quarantined", "eio", "readonly")
        await one.grows()
        disk.well()
        disk.let_go()
        disk.mount()
        await one.state("bad", "ok")
        await one.judge(gaps={"volume"})


@pytest.mark.at_length
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_some_writes_fail(failing: Make, filesystem: FileSystem) -> None:
    """One in twenty: media or the journal, whatever it meets; the first sync that tells of it ends the chunks there."""
    async with failing(filesystem) as (one, disk):
        disk.eio_every(20)
        await one.state("bad", "quarantined", "eio", "readonly")
        await one.grows()
        disk.well()
        disk.let_go()
        disk.mount()
        await one.state("bad", "ok")
        await one.judge(gaps={"volume"})


@pytest.mark.parametrize("filesystem", FILESYSTEMS if AT_LENGTH else FILESYSTEMS[:1])
async def test_flushes_fail(failing: Make, filesystem: FileSystem) -> None:
    """ext4 turns itself read-only, XFS shuts down."""
    async with failing(filesystem) as (one, disk):
        disk.flush_eio()
        await one.state("bad", "quarantined", "eio", "readonly")
        await one.grows()
        disk.well()
        disk.let_go()
        disk.mount()
        await one.state("bad", "ok")
        await one.judge(gaps={"volume"})


@pytest.mark.at_length
async def test_media_alone_fails(failing: Make, tmp_path: Path) -> None:
    """One range of the disk, so the file system lives: the chunk is given up at its first failed sync."""
    async with failing("ext4") as (one, disk):
        newest = max((tmp_path / "bad").glob("*/*/*.mp4"), key=lambda path: path.stat().st_mtime)
        disk.eio(*disk.where(newest))
        await one.state("bad", "quarantined", "eio")
        await one.grows()
        disk.well()
        await one.state("bad", "ok")
        disk.drop_caches()
        await one.judge(gaps={"volume"})


@pytest.mark.at_length
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_disk_hangs(failing: Make, filesystem: FileSystem) -> None:
    """Its threads wait in the kernel, where no signal reaches them; nobody else does, nor who plays from the other."""
    async with failing(filesystem) as (one, disk):
        name = next(path.name for path in (one.folder / "good").iterdir() if path.name in one.names)
        before = await clip_times(one, name)
        disk.hang()
        woken_s = time.monotonic() + HANG_S
        await one.state("bad", "suspect", "hung")
        await one.grows()
        beside = await clip_times(one, name)
        while time.monotonic() < woken_s:
            await one.grows()
        measured.LINES.append(
            f"{filesystem}: a clip of the other disk, p99: {before * 1e3:.0f} ms, {beside * 1e3:.0f} ms beside a hang"
        )
        disk.wake()
        await one.state("bad", "ok")
        await one.judge(gaps={"volume"})


@pytest.mark.at_length
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
async def test_a_disk_is_pulled_out_and_plugged_in(failing: Make, filesystem: FileSystem) -> None:
    async with failing(filesystem) as (one, disk):
        disk.pull_out()
        await one.state("bad", "quarantined", "eio", "readonly", "missing")
        await one.grows()
        disk.plug_in()
        await one.state("bad", "quarantined", "missing")
        disk.mount()
        await one.state("bad", "ok")
        await one.judge(gaps={"volume"})


async def test_two_mounts_change_places(
    disks: Callable[[FileSystem, str], Disk], node: Callable[..., Node], tmp_path: Path
) -> None:
    """Not a byte goes to the wrong disk, running or at a start; the right places are taken up again."""
    bad, good = disks("ext4", "bad"), disks("ext4", "good")
    async with rig(node, tmp_path, cameras=2) as one:
        await spread(one, "bad", "good")
        _swap(bad, good)
        for name in ("bad", "good"):
            await one.state(name, "quarantined", "missing")
        before = _files(tmp_path)
        assert await one.node.stop() == 0
        await one.node.start()
        for name in ("bad", "good"):
            await one.state(name, "quarantined", "missing")
        assert _files(tmp_path) == before
        _swap(bad, good)
        await one.state("bad", "ok")
        await one.state("good", "ok")
        await one.grows()
        await one.judge(gaps={"volume", "stopped"}, elsewhere=False)


def _swap(one: Disk, other: Disk) -> None:
    for disk in (one, other):
        disk.let_go()
    one.root, other.root = other.root, one.root
    for disk in (one, other):
        disk.mount()


def _files(folder: Path) -> dict[Path, int]:
    """What lies on both disks."""
    return {
        path: path.stat().st_size for name in ("bad", "good") for path in (folder / name).rglob("*") if path.is_file()
    }
