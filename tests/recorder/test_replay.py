"""A volume fails under a running pipeline: what it had not made durable is on the other one, once, and in order."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from base.clock import SimulatedClock
from base.errors import VolumeError
from chunks.records import GapCause
from chunks.volume import Volume
from chunks.writer import VolumeWriter
from index import Index
from index.check import check
from native.fragment import FragmentBuilder
from recorder.committer import Committer
from recorder.pipeline import Pipeline, Resume, Rotation
from recorder.startup import Past
from recorder.storedclock import StoredClock
from simcam.encode import LoopSpec, make_loop

SPEC = LoopSpec(codec="h264", width=160, height=90, fps=10, gop=10, seconds=4)
NODE = bytes(16)
TIMELINE = (0, 1 << 60)


class Two:
    """Two volumes and one stream; the first volume's writer can be told to fail or to hang."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = SimulatedClock()
        self.volumes = [Volume.create(folder / name, NODE) for name in ("one", "two")]
        self.index = Index.open(folder / "index", create=True)
        self.committer = Committer(self.index)
        self.committer.start()
        self.failed = threading.Event()
        self.told: dict[Path, int] = {}
        self.writers = [self._writer(volume) for volume in self.volumes]
        stream = self.committer.call(lambda t: t.ensure_stream("gate.main")).result()
        self.taking: list[VolumeWriter] = list(self.writers)
        self.pipeline = Pipeline(
            stream, Resume(), node=NODE, rotation=Rotation(3_600_000_000, 1 << 30), clock=StoredClock(self.clock),
            pick_volume=self._pick,
        )  # fmt: skip
        self.stream = stream
        self.builder = FragmentBuilder("h264", self.pipeline.on_fragment, fragment_90k=45_000)
        self.track = make_loop(SPEC).video
        self.rtp, self.at = 1000, 0
        self.disk: Callable[[], None] = lambda: None
        sync = os.fdatasync

        def fdatasync(handle: int) -> None:
            if os.readlink(f"/proc/self/fd/{handle}").startswith(str(folder / "one")):
                self.disk()
            sync(handle)

        monkeypatch.setattr(os, "fdatasync", fdatasync)
        self.pipeline.begin_run("h264", None, lambda: None, lambda _: 0)

    def _writer(self, volume: Volume) -> VolumeWriter:
        def failed(_error: object, chunks: list[object]) -> None:
            self.told.update({chunk.path: chunk.durable_size for chunk in chunks})  # type: ignore[attr-defined]
            self.failed.set()

        writer = VolumeWriter(volume, on_commit=self.committer.submit, on_failure=failed, sync_interval_s=0.2)
        writer.start()
        return writer

    def _pick(self, current: VolumeWriter | None) -> VolumeWriter | None:
        if current is not None and (current in self.taking or (not current.given and current.error is not None)):
            return current
        return self.taking[0] if self.taking else None

    async def play(self, pictures: int) -> None:
        for _ in range(pictures):
            await self.clock.advance(0.1)
            data = self.track.table.sample(self.at % len(self.track.pts), None)
            self.builder.push_video(self.rtp, self.clock.monotonic_us(), data)
            self.at += 1
            self.rtp += 9000

    def synced(self) -> None:
        """Wait until all that was handed over is durable and told."""
        deadline = time.monotonic() + 20
        while any(writer.error is None and writer.queue_bytes for writer in self.writers):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def move(self) -> None:
        """What the recorder does when told of the failure."""
        one = self.writers[0]
        if one in self.taking:
            self.taking.remove(one)
        gap = self.pipeline.volume_failed(one, one.unsynced())
        assert gap is None

    def end(self) -> tuple[int, list[GapCause]]:
        """(pictures that the index knows, causes of gaps) when all is stopped; and index and files agree."""
        self.builder.finish()
        self.pipeline.end_run(GapCause.STOPPED)
        for writer in self.writers:
            writer.stop()
        past = Past(self.index, self.committer)
        past.settle(self.volumes[0], self.told)
        deadline = time.monotonic() + 20
        while check(self.index, self.volumes, deep=True) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.committer.stop()
        assert check(self.index, self.volumes, deep=True) == []
        with self.index.read() as snapshot:
            rows = snapshot.chunks(self.stream.id, *TIMELINE)
            gaps = snapshot.gaps(self.stream.id, *TIMELINE)
        self.index.close()
        assert [a.sequence for a in rows] == sorted(a.sequence for a in rows)
        assert all(a.end_us <= b.start_us for a, b in pairwise(rows))
        return sum(row.samples for row in rows), [gap.cause for gap in gaps]


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Two:
    return Two(tmp_path, monkeypatch)


def broken() -> None:
    raise OSError(5, "Input/output error")


async def test_a_failed_sync_costs_nothing_when_its_key_frame_is_in_memory(two: Two) -> None:
    await two.play(10)
    two.disk = broken
    await two.play(15)
    assert two.failed.wait(20)
    await two.play(7)  # told in the failure's own thread, not yet to the pipeline
    two.move()
    await two.play(18)
    assert two.end() == (50, [])


async def test_without_its_key_frame_the_rest_of_a_gop_is_a_declared_gap(two: Two) -> None:
    await two.play(26)  # the sixth fragment begins with the third GOP's seventh picture
    two.synced()
    two.disk = broken
    await two.play(10)
    assert two.failed.wait(20)
    two.move()
    await two.play(14)
    pictures, causes = two.end()
    assert causes == [GapCause.VOLUME]
    assert 40 <= pictures < 50


async def test_no_volume_for_a_while_keeps_what_memory_holds(two: Two) -> None:
    two.disk = broken
    two.taking = two.taking[:1]
    await two.play(25)
    assert two.failed.wait(20)
    two.move()
    await two.play(20)
    assert not two.pipeline.recording
    two.taking = [two.writers[1]]
    await two.play(15)
    pictures, causes = two.end()
    assert causes == [GapCause.VOLUME]
    assert pictures in range(34, 41)


async def test_a_hung_disk_is_given_up_and_tells_nothing_later(two: Two) -> None:
    hangs, go = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        assert go.wait(20)

    two.disk = hang
    await two.play(25)
    assert hangs.wait(20)
    assert two.writers[0].abandon(VolumeError("it hangs", reason="hung"))
    two.move()
    await two.play(25)
    go.set()
    deadline = time.monotonic() + 20
    while two.writers[0].alive:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert two.end() == (50, [])
