"""The disk below the data folder hangs, with index, register and status, while media goes to a volume that is well: no
picture is lost, what can be told is told, and when the disk is back everything is in the index."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from base.status import RecorderStatus, read_status
from recorder.aside import HUNG_S
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.node import Node, until
from tests.e2e.test_share import add, causes, check, goes_on
from tests.faults.conftest import AT_LENGTH
from tests.faults.device import Disk, FileSystem
from tests.faults.oracle import judge
from tests.faults.test_power import sent_by, served

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
CONFIG = '[recorder]\nworkers = {}\nchunk_s = 10\n[[volumes]]\npath = "{}"\n'
HANG_S = 60.0 if AT_LENGTH else 11.0
CAMERAS = 4


class Rig:
    """A node with its media elsewhere than its data folder."""

    def __init__(self, node: Node, media: Path, server: SimcamServer) -> None:
        self.node = node
        self.media = media
        self.server = server
        self.names = [f"{name}.main" for name in server.cameras]

    def told(self) -> RecorderStatus:
        status = read_status(self.node.data / "run")
        assert status is not None
        return status

    async def records(self, seconds: float) -> None:
        """Pictures that are taken from now on, for so long, are on the volume: by its files, and nothing else."""
        until_us = time.time_ns() // 1000 + round(seconds * 1e6)

        async def there() -> bool:
            ends = [judge([self.media], name, sent_by(self.server, name)).end_us for name in self.names]
            return min(ends) >= until_us

        await until(there, seconds + 20, f"pictures are written meanwhile; {self.node.log_tail()}")

    async def judge(self) -> None:
        """At the end: every picture that was sent is stored, indexed and served, and no gap is declared."""
        await goes_on(self.node, self.names)

        async def caught_up() -> bool:
            return not self.told().index_behind_chunks

        await until(caught_up, 30, f"the index has all; {self.node.log_tail()}")
        assert self.told().index_hung_s < HUNG_S
        assert await self.node.stop() == 0
        check(self.node)
        for name in self.names:
            sent = sent_by(self.server, name)
            sequences = judge([self.media], name, sent).sequences
            assert sequences == list(range(sequences[0], sequences[-1] + 1)), f"{name}: pictures are missing"
            assert len(served(self.node.data, name)) == len(sequences)
            assert causes(self.node, name) == []


@asynccontextmanager
async def rig(node: Node, media: Path) -> AsyncIterator[Rig]:
    async with SimcamServer([CameraSpec(f"c{i}", loop=LOOP) for i in range(CAMERAS)]) as server:
        await node.start()
        await add(node, server, *server.cameras)
        one = Rig(node, media, server)
        await node.recording(*one.names)
        yield one


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.at_length), 2])
async def test_every_call_hangs(
    node: Callable[..., Node], tmp_path: Path, shim: Callable[[str], Callable[[str], None]], workers: int
) -> None:
    """First below the index alone, so that the status can tell; then below all of the folder."""
    say, media = shim(f"{tmp_path / 'data'}/"), tmp_path / "media"
    media.mkdir()
    async with rig(node(config=CONFIG.format(workers, media)), media) as one:
        say("freeze /index/")

        async def tells() -> bool:
            status = one.told()
            return status.index_hung_s >= HUNG_S and status.index_backlog_records > 0

        await until(tells, 20, f"the status tells of the index; {one.node.log_tail()}")
        assert {stream.state for stream in one.told().streams} == {"recording"}
        await one.records(2)
        say("ok")
        await goes_on(one.node, one.names)
        say("freeze")
        before = one.told().updated_us
        await one.records(HANG_S)
        assert one.told().updated_us - before < 2_000_000, "the disk did hang"
        assert "the data folder does not answer" in one.node.log_path.read_text()
        say("ok")

        async def tells_again() -> bool:
            return one.told().updated_us - before > HANG_S * 1e6 and one.told().reports_dropped >= HANG_S * workers // 2

        await until(tells_again, 20, f"the status says that it was late; {one.node.log_tail()}")
        await one.judge()


@pytest.mark.at_length
@pytest.mark.needs_device
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("filesystem", "workers"), [("ext4", 1), ("xfs", 2)])
async def test_the_disk_hangs(
    disk_of: Callable[[FileSystem], Disk],
    node_at: Callable[[Path, str], Node],
    tmp_path: Path,
    filesystem: FileSystem,
    workers: int,
) -> None:
    """A real one, and nothing of it is in memory: threads wait in the kernel, in writes and in reads of the index."""
    disk, media = disk_of(filesystem), tmp_path / "media"
    media.mkdir()
    node = node_at(disk.root, CONFIG.format(workers, media))
    async with rig(node, media) as one:
        disk.sync()
        disk.hang()
        disk.drop_caches()
        try:
            await one.records(HANG_S)
        finally:
            disk.wake()
        await one.judge()
