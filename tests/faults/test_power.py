"""The power goes while a node records: what was published is there and right, whatever the disk made of the rest.

Kept true: watermarks are noted from outside before the cut; what is found after it is judged by `oracle`, not by the
product. A cut here is the image that the disk would have left at that moment: its flushed sectors, and of the others
each with a chance of its own. So one node's life gives many cuts, and the node of the last one is really started again.
"""

from __future__ import annotations

import asyncio
import io
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import pytest

from base.datadir import DataDir
from base.status import read_status
from base.units import parse_time
from clips.mp4 import ClipFile
from clips.plan import plan
from clips.store import ChunkStore
from index import Index
from index.check import check
from keyreel.node import known_volumes, prepare_index
from recorder.startup import resume
from simcam.camera import SentPicture
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.node import Node, until
from tests.faults.conftest import AT_LENGTH
from tests.faults.device import Disk, FileSystem, mounted
from tests.faults.oracle import ROUNDING_US, Verdict, judge, judge_samples

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
CONFIG = "[recorder]\nchunk_s = 10\n"  # many chunks begin and end within a node's short life
CUTS = 50 if AT_LENGTH else 10  # of each file system
RESTARTS = 10 if AT_LENGTH else 1
KEEP = (0.0, 0.5, 0.97)  # nothing unflushed survives, half of it, nearly all
LATE_US = 500_000  # a picture may have been on its way for so long on a busy machine
MakeDisk = Callable[[FileSystem], Disk]
MakeNode = Callable[[Path, str], Node]


@dataclass
class Losses:
    """How much newest video each cut cost, per stream."""

    seconds: list[float] = field(default_factory=list)

    def add(self, cut_us: int, verdict: Verdict) -> None:
        self.seconds.append(max(0, cut_us - verdict.end_us) / 1e6)

    def line(self, what: str) -> str:
        """For the documents."""
        half, most = statistics.median(self.seconds), max(self.seconds)
        return f"{what}: newest video lost of {len(self.seconds)} streams, p50 {half:.2f} s, max {most:.2f} s"


def sent_by(server: SimcamServer, stream: str) -> dict[int, SentPicture]:
    """What the camera of a stream has sent so far, by its number."""
    return {picture.sequence: picture for picture in server.camera(stream.removesuffix(".main")).sent()}


class Watch:
    """Cameras, a node that records them on a disk, and what the node has promised so far."""

    def __init__(self, node: Node, server: SimcamServer) -> None:
        self.node = node
        self.server = server
        self.names = [f"{name}.main" for name in server.cameras]

    async def watermarks(self) -> dict[str, int]:
        """What the API and the status file have published by now, µs."""
        streams = await self.node.streams()
        told = {name: parse_time(streams[name]["durable_until"]) for name in self.names}
        status = read_status(self.node.data / "run")
        assert status is not None
        for stream in status.streams:
            told[stream.name] = max(told[stream.name], stream.durable_until_us)
        return told

    def sent(self, name: str) -> dict[int, SentPicture]:
        return sent_by(self.server, name)

    async def settled(self) -> None:
        """Every stream has something durable that is newer than now."""
        now_us = time.time_ns() // 1000

        async def newer() -> bool:
            streams = await self.node.streams()
            until_us = [parse_time(streams[name]["durable_until"] or "1970-01-01T00:00:00Z") for name in self.names]
            return min(until_us) > now_us

        await until(newer, 40, f"streams become durable; {self.node.log_tail()}")


async def watch(make: MakeNode, disk: Disk, server: SimcamServer) -> Watch:
    node = make(disk.root, CONFIG)
    await node.start()
    register = node.data.parent / "cameras.csv"
    register.write_text("id,main\n" + "".join(f"{name},{server.url(name)}\n" for name in server.cameras))
    await asyncio.to_thread(node.keyreel, "camera", "import", str(register))
    one = Watch(node, server)
    await node.recording(*one.names)
    return one


def start_again(data: Path) -> None:
    """What a start does before it records; index and files then agree to the last page."""
    datadir = DataDir.open(data)
    prepare_index(datadir)
    volumes = known_volumes(datadir)
    with Index.open(datadir.index_path) as index:
        resume(index, volumes, complete=True)
        assert check(index, volumes, deep=True) == []


def served(data: Path, stream: str) -> list[bytes]:
    """The pictures of a clip over all that the index knows, as a player gets them."""
    datadir = DataDir.open(data)
    with Index.open(datadir.index_path, readonly=True) as index, index.read() as snapshot:
        row = snapshot.stream(stream)
        assert row is not None
        chunks = snapshot.chunks(row.id, 0, 1 << 60)
        store = ChunkStore(datadir.volumes)
        clip = ClipFile(plan(snapshot, store, row.id, chunks[0].start_us, snapshot.durable_until(row.id)))
    with av.open(io.BytesIO(b"".join(clip.read(0, clip.size)))) as file:
        return [bytes(packet) for packet in file.demux(video=0) if packet.size]


def judge_cut(one: Watch, data: Path, told: dict[str, int], cut_us: int, losses: Losses) -> None:
    """A data folder after a power cut: all that was promised, unbroken to its end, and nothing wrong is served."""
    start_again(data)
    for name in one.names:
        sent = one.sent(name)
        verdict = judge([data / "media"], name, sent)
        first, last = verdict.sequences[0], verdict.sequences[-1]
        assert verdict.sequences == list(range(first, last + 1)), f"{name}: a hole"
        assert verdict.end_us >= told[name] - ROUNDING_US, f"{name}: {told[name] - verdict.end_us} µs were promised"
        assert judge_samples(served(data, name), name, sent) == verdict.sequences
        losses.add(cut_us, verdict)


async def cut_and_restart(one: Watch, disk: Disk, seed: int) -> tuple[int, dict[str, int]]:
    """The power really goes, and the node is started when it is back; when it went, and what was promised before."""
    told = await one.watermarks()
    cut_us = time.time_ns() // 1000
    await asyncio.to_thread(disk.power_cut, seed, KEEP[seed % len(KEEP)], one.node.kill)
    await one.node.start()
    await one.settled()
    return cut_us, told


Gaps = list[tuple[int, int, str]]


async def gaps_of(one: Watch, name: str) -> Gaps:
    """The gaps that the API declares."""
    whole = {"start": "2020-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}
    _, line = await one.node.get(f"/streams/{name}/timeline", **whole)
    return [(parse_time(gap["start"]), parse_time(gap["end"]), gap["cause"]) for gap in line["gaps"]]


def due_us(sent: dict[int, SentPicture]) -> dict[int, int]:
    """When each picture was taken by the camera's media clock; it may have been sent later by a busy machine."""
    begin_us = min(picture.sent_us - picture.pts_90k * 100 // 9 for picture in sent.values())
    return {sequence: begin_us + picture.pts_90k * 100 // 9 for sequence, picture in sent.items()}


def judge_restarts(one: Watch, cuts: list[tuple[int, dict[str, int]]], declared: dict[str, Gaps]) -> None:
    """Whatever was sent is there, or lies in a declared gap that begins at a cut and after what was promised."""
    for name in one.names:
        sent = one.sent(name)
        verdict = judge([one.node.data / "media"], name, sent)
        gaps = declared[name]
        assert [cause for _, _, cause in gaps] == ["crash"] * len(cuts), f"{name}: {gaps}"
        for (start_us, end_us, _), (cut_us, told) in zip(gaps, cuts, strict=True):
            assert told[name] - ROUNDING_US <= start_us <= cut_us + LATE_US < end_us + LATE_US, (
                f"{name}: {gaps}, {cuts}"
            )
        taken_us = due_us(sent)
        for sequence in (sent.keys() & range(verdict.sequences[0], verdict.sequences[-1])) - set(verdict.sequences):
            at_us = taken_us[sequence]
            in_gap = any(start_us - LATE_US <= at_us <= end_us + LATE_US for start_us, end_us, _ in gaps)
            assert in_gap, f"{name}: picture {sequence} of {at_us} is missing; {gaps}"


@pytest.mark.needs_device
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("filesystem", "cameras"), [("ext4", 4), ("xfs", 12)])  # synced file by file, and by syncfs
async def test_what_was_published_survives(
    disk_of: MakeDisk, node_at: MakeNode, tmp_path: Path, figures: list[str], filesystem: FileSystem, cameras: int
) -> None:
    chance = random.Random(cameras)
    disk, losses = disk_of(filesystem), Losses()
    async with SimcamServer([CameraSpec(f"c{i}", loop=LOOP) for i in range(cameras)]) as server:
        one = await watch(node_at, disk, server)
        for seed in range(CUTS):
            await asyncio.sleep(chance.uniform(0.1, 0.9))
            told = await one.watermarks()
            await asyncio.to_thread(disk.copy, tmp_path / "cut", seed, KEEP[seed % len(KEEP)])
            cut_us = time.time_ns() // 1000
            with mounted(tmp_path / "cut", filesystem, tmp_path / "after") as data:
                await asyncio.to_thread(judge_cut, one, data, told, cut_us, losses)
        cuts = [await cut_and_restart(one, disk, seed) for seed in range(RESTARTS)]
        declared = {name: await gaps_of(one, name) for name in one.names}
        assert await one.node.stop() == 0
        check = one.node.keyreel("check", "--deep", "--json", check=False)
        assert check.returncode == 0, check.stdout
        judge_restarts(one, cuts, declared)
    assert max(losses.seconds) <= (2.0 if AT_LENGTH else 10.0)  # on a machine that has nothing else to do
    figures.append(losses.line(f"{CUTS} power cuts, {filesystem}, {cameras} streams"))
