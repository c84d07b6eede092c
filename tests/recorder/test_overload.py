"""Who gives way at a full volume: in order of priority, within it by share, whole GOPs, and back again by itself."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from base.clock import SimulatedClock
from chunks.writer import VolumeWriter
from native.moof import Fragment
from native.slab import configure, pool
from recorder.alarm import QUIET_US, Alarms
from recorder.overload import FIRST_FILL, Overload, Standing, rank_of
from recorder.purge import SCARCITY_MAX

QUEUE = 20_000_000


@dataclass
class Volume:
    id: bytes = b"v"
    root: Path = Path("/disk")


@dataclass
class Writer:
    """A volume's queue as numbers."""

    queue_bytes_max: int = QUEUE
    scarcity: float = 0.0
    volume: Volume = field(default_factory=Volume)
    held: dict[int, int] = field(default_factory=dict)

    @property
    def queue_bytes(self) -> int:
        return sum(self.held.values())

    def queue_bytes_of(self, stream_id: int) -> int:
        return self.held.get(stream_id, 0)

    def queued_streams(self) -> int:
        return sum(1 for size in self.held.values() if size)

    def drain(self, size: int) -> None:
        """The disk takes so much, of each stream its part."""
        total = self.queue_bytes
        for stream, held in self.held.items():
            self.held[stream] = held - held * min(size, total) // max(total, 1)


@dataclass
class Piece:
    memory_bytes: int
    key: bool


class Camera:
    """A stream of `rate` bytes a second in two fragments, a key frame each `gop` fragments."""

    def __init__(self, number: int, priority: Any = "normal", quality: str = "main", rate: int = 100_000, gop: int = 4):
        self.standing = Standing(number, rank_of(priority, f"c{number}.{quality}"))
        self.rate = rate
        self.gop = gop
        self.at = number  # key frames do not fall together
        self.absent = True
        self.told = ""  # per fragment: + stored, - not

    def send(self, overload: Overload, writer: Writer) -> None:
        piece = Piece(self.rate // 2, self.at % self.gop == 0)
        self.at += 1
        stored = (piece.key or not self.absent) and overload.admits(
            cast(VolumeWriter, writer), self.standing, cast(Fragment, piece)
        )
        if stored:
            writer.held[self.standing.stream_id] = writer.held.get(self.standing.stream_id, 0) + piece.memory_bytes
        elif self.told.endswith("+") or piece.key:
            overload.dropped(self.standing)
        self.absent = not stored
        self.told += "+" if stored else "-"


class Rig:
    def __init__(self, *cameras: Camera) -> None:
        self.clock = SimulatedClock()
        self.alarms = Alarms(self.clock)
        self.overload = Overload(self.clock, self.alarms)
        self.writer = Writer()
        self.cameras = cameras
        self.peak = 0

    async def run(self, seconds: int, disk: int) -> None:
        """So long with a disk of so many bytes a second."""
        for camera in self.cameras:
            camera.told = ""
        for _ in range(seconds * 2):
            for camera in random.Random(7).sample(self.cameras, len(self.cameras)):
                camera.send(self.overload, self.writer)
                self.peak = max(self.peak, self.writer.queue_bytes)
            self.writer.drain(disk // 2)
            await self.clock.advance(0.5)
            self.overload.tick()

    def stored(self, camera: Camera) -> float:
        return camera.told.count("+") / max(len(camera.told), 1)


async def test_low_goes_first_and_high_loses_nothing() -> None:
    low, normal, high = ([Camera(3 * i + n, p) for i in range(1, 4)] for n, p in enumerate(("low", "normal", "high")))
    rig = Rig(*low, *normal, *high)
    await rig.run(60, disk=1_000_000)
    assert all(set(camera.told[4:]) == {"+"} for camera in rig.cameras)
    assert rig.alarms.count == 0
    await rig.run(300, disk=650_000)  # for six of the nine, and a half
    assert all(rig.stored(camera) == 1 for camera in (*high, *normal))
    assert all(0.05 < rig.stored(camera) < 0.9 for camera in low)
    await rig.run(300, disk=330_000)
    assert all(rig.stored(camera) == 1 for camera in high)
    assert all(rig.stored(camera) < 0.2 for camera in low)
    assert rig.peak <= QUEUE
    (episode,) = rig.alarms.told()
    assert (episode.cause, episode.path, episode.until_us, episode.streams) == ("disk", "/disk", 0, 6)


async def test_a_sub_stream_goes_before_its_main_stream() -> None:
    main, sub, other = Camera(1), Camera(2, quality="sub"), Camera(3, "low")
    rig = Rig(main, sub, other)
    await rig.run(10, disk=1_000_000)
    await rig.run(300, disk=150_000)
    assert rig.stored(main) == 1
    assert 0 < rig.stored(sub) < 1
    assert rig.stored(other) < rig.stored(sub)


async def test_who_takes_more_than_its_share_goes_before_its_equals() -> None:
    hog, others = Camera(1, rate=2_000_000), [Camera(n) for n in range(2, 12)]
    rig = Rig(hog, *others)
    await rig.run(300, disk=1_500_000)
    assert all(set(camera.told[4:]) == {"+"} for camera in others), "twenty times the usual costs itself alone"
    assert 0.05 < rig.stored(hog) < 0.5
    low = [Camera(n, "low") for n in range(20, 25)]
    hog, others = Camera(1, rate=2_000_000), [Camera(n) for n in range(2, 12)]
    rig = Rig(hog, *others, *low)
    await rig.run(300, disk=1_200_000)
    assert all(set(camera.told[4:]) == {"+"} for camera in others)
    assert all(rig.stored(camera) < 1 for camera in low), "a lower priority goes before it"


async def test_all_is_taken_back_at_key_frames_and_few_at_first() -> None:
    cameras = [Camera(n) for n in range(1, 41)]
    rig = Rig(*cameras)
    await rig.run(10, disk=8_000_000)
    await rig.run(60, disk=0)
    assert all(camera.told.endswith("-") for camera in cameras)
    assert rig.writer.queue_bytes > QUEUE * 0.6
    rig.writer.drain(QUEUE)
    back = []
    for _ in range(12):
        await rig.run(1, disk=8_000_000)
        back.append(sum(camera.told.endswith("+") for camera in cameras))
    assert back == sorted(back)
    assert back[0] < 8, "nobody knows yet how many are too many"
    assert back[-1] == len(cameras)
    assert rig.alarms.told()[0].until_us == 0
    await rig.run(QUIET_US // 1_000_000 + 1, disk=8_000_000)
    (episode,) = rig.alarms.told()
    assert episode.until_us > episode.since_us
    assert (episode.streams, episode.waiting) == (40, 0)
    assert episode.dropped_gops > 40


async def test_it_does_not_flap() -> None:
    """A disk that is a little too slow costs some cameras many GOPs in a row, not each camera every other one."""
    cameras = [Camera(n, "low" if n <= 5 else "high") for n in range(1, 11)]
    rig = Rig(*cameras)
    await rig.run(10, disk=8_000_000)
    await rig.run(600, disk=800_000)
    runs = [len(run) for camera in cameras for run in camera.told.replace("+", " ").split()]
    assert sum(runs) / len(runs) > 4 * cameras[0].gop, "each absence is several GOPs"
    assert len(runs) < 600 / 8
    assert rig.alarms.count == 1, "and one alarm"


async def test_a_gop_under_way_is_cut_only_when_the_next_level_is_near() -> None:
    camera, other = Camera(1, "low"), Camera(2, "high")
    rig = Rig(camera, other)
    camera.at = 0
    camera.send(rig.overload, rig.writer)
    level = camera.standing.rank * 2 + 1
    limit = FIRST_FILL + level * (1 - FIRST_FILL) / 11
    rig.writer.held[9] = int(QUEUE * (limit + 0.005))
    camera.send(rig.overload, rig.writer)
    assert camera.told == "++", "begun before, so it may go on a little"
    rig.writer.held[9] = int(QUEUE * (limit + 0.03))
    camera.send(rig.overload, rig.writer)
    assert camera.told == "++-"
    rig.writer.held.clear()
    camera.send(rig.overload, rig.writer)
    assert camera.told == "++--", "the rest of a GOP is of no use without its middle"


async def test_a_stream_that_ended_waits_no_more() -> None:
    camera = Camera(1, "low")
    rig = Rig(camera)
    camera.at = 0
    rig.writer.held[9] = int(QUEUE * 0.9)
    camera.send(rig.overload, rig.writer)
    assert rig.alarms.told()[0].waiting == 1
    rig.overload.leave(camera.standing)
    assert rig.alarms.told()[0].waiting == 0


@pytest.fixture
def small_pool() -> Any:
    yield
    configure(1 << 30)


async def test_the_memory_of_all_media_counts_too(small_pool: None) -> None:
    """Many hung disks may each be within their bound: the last tenth of the pool is given by priority as well."""
    from native.fragment import FragmentBuilder

    builder = FragmentBuilder("h264", lambda _: None)
    builder.push_video(0, 0, b"\0\x2f\0\1\x65" + bytes(0x2F0000))
    configure(pool()[0] * 20 // 19)
    low, high = Camera(4, "low"), Camera(8, "high")
    rig = Rig(low, high)
    low.send(rig.overload, rig.writer)
    high.send(rig.overload, rig.writer)
    assert (low.told, high.told) == ("-", "+")
    builder.finish()


def test_where_nothing_may_be_deleted_the_last_room_goes_by_rank() -> None:
    """From the floor down: low first, high until the volume is full; all come back with the room."""
    overload, writer = Overload(SimulatedClock()), Writer()
    cameras = {name: Camera(i, name, gop=1) for i, name in enumerate(("low", "normal", "high"), 1)}

    def storing(scarcity: float) -> set[str]:
        writer.scarcity = scarcity
        for camera in cameras.values():
            camera.send(overload, writer)
        writer.held.clear()
        return {name for name, camera in cameras.items() if camera.told.endswith("+")}

    assert storing(0.0) == {"low", "normal", "high"}
    assert storing(FIRST_FILL) == {"low", "normal", "high"}
    assert storing(0.8) == {"normal", "high"}
    assert storing(SCARCITY_MAX) == {"high"}
