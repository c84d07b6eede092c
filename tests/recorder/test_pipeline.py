"""Fragments → chunks, on a real volume and a real index: runs, rotation, epochs, drops and their gaps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from base.clock import SimulatedClock
from base.errors import VolumeError
from chunks.records import FragmentStored, Gap, GapCause
from chunks.volume import Volume
from chunks.writer import VolumeWriter
from index import Index
from native.fragment import FragmentBuilder
from recorder.committer import Committer
from recorder.pipeline import Pipeline, Resume, Rotation
from recorder.startup import Past, chunk_reader
from simcam.encode import LoopSpec, make_loop
from simcam.loop import Track

SPEC = LoopSpec(codec="h264", width=160, height=90, fps=10, gop=10, seconds=4)
OTHER = LoopSpec(codec="h264", width=192, height=108, fps=10, gop=10, seconds=4)
NODE = bytes(16)
TIMELINE = (0, 1 << 60)


class Bench:
    """A pipeline with everything below it real, and a camera that is only a clock."""

    def __init__(self, folder: Path, *, chunk_s: int = 3600, queue_bytes_max: int = 64 << 20) -> None:
        self.clock = SimulatedClock()
        self.folder = folder
        self.volume = Volume.create(folder / "media", NODE)
        self.index = Index.open(folder / "index", create=True)
        self.committer = Committer(self.index, chunk_reader(self.index, lambda: {self.volume.id: self.volume.root}))
        self.committer.start()
        self.writer = VolumeWriter(
            self.volume, on_commit=self.committer.submit, on_failure=lambda *_: None, queue_bytes_max=queue_bytes_max
        )
        self.writer.start()
        self.stream = self.committer.call(lambda t: t.ensure_stream("gate.main")).result()
        self.pipeline = self.make(Resume(), chunk_s)
        self.rtp = 1000

    def another(self) -> VolumeWriter:
        volume = Volume.create(self.folder / "other", NODE)
        writer = VolumeWriter(volume, on_commit=self.committer.submit, on_failure=lambda *_: None)
        writer.start()
        return writer

    def make(self, past: Resume, chunk_s: int = 3600) -> Pipeline:
        return Pipeline(
            self.stream,
            past,
            node=NODE,
            rotation=Rotation(chunk_s * 1_000_000, 1 << 30),
            clock=self.clock,
            pick_volume=lambda _: self.writer,
        )

    def begin(self, spec: LoopSpec = SPEC) -> FragmentBuilder:
        self.builder = FragmentBuilder("h264", self.pipeline.on_fragment, fragment_90k=45_000)
        self.track: Track = make_loop(spec).video
        self.at = 0
        self.pipeline.begin_run("h264", None, lambda: None, lambda _: 0)
        return self.builder

    async def play(self, seconds: float) -> None:
        """The camera sends for so long."""
        for _ in range(int(seconds * 10)):
            await self.clock.advance(0.1)
            i = self.at % len(self.track.pts)
            self.builder.push_video(self.rtp, self.clock.monotonic_us(), self.track.table.sample(i, None))
            self.at += 1
            self.rtp += 9000

    def end(self, cause: GapCause = GapCause.OFFLINE) -> None:
        self.builder.finish()
        self.pipeline.end_run(cause)

    def close(self) -> None:
        self.writer.stop()
        self.committer.stop()

    def timeline(self) -> tuple[list[tuple[int, int]], list[tuple[int, int, GapCause]]]:
        with self.index.read() as snapshot:
            line = snapshot.timeline(self.stream.id, *TIMELINE)
        return line.spans, [(g.start_us, g.end_us, g.cause) for g in line.gaps]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(tmp_path)
    yield one
    one.index.close()


async def test_one_run_is_one_span_over_several_chunks(tmp_path: Path) -> None:
    bench = Bench(tmp_path, chunk_s=10)
    bench.begin()
    await bench.play(35)
    bench.end()
    bench.close()
    spans, gaps = bench.timeline()
    assert len(spans) == 1
    assert not gaps
    assert spans[0][1] - spans[0][0] == pytest.approx(35_000_000, abs=1000)
    with bench.index.read() as snapshot:
        rows = snapshot.chunks(bench.stream.id, *TIMELINE)
    assert len(rows) in (4, 5)
    assert all(row.sealed for row in rows)
    assert sum(row.samples for row in rows) == 350
    assert len({row.epoch for row in rows}) == 1
    assert [a.end_us for a in rows[:-1]] == [b.start_us for b in rows[1:]]
    bench.index.close()


async def test_an_absence_is_a_gap_with_its_cause(bench: Bench) -> None:
    bench.begin()
    await bench.play(5)
    bench.end()
    await bench.clock.advance(30)
    bench.pipeline.set_absence(GapCause.NO_MEDIA)
    open_gap = bench.pipeline.absence(bench.clock.wall_us())
    assert open_gap is not None
    assert open_gap.cause is GapCause.NO_MEDIA
    bench.begin()
    await bench.play(5)
    bench.end()
    bench.close()
    spans, gaps = bench.timeline()
    assert len(spans) == 2
    assert gaps == [(spans[0][1], spans[1][0], GapCause.NO_MEDIA)]
    assert gaps[0][1] - gaps[0][0] == pytest.approx(30_000_000, abs=200_000)


async def test_other_parameter_sets_are_another_epoch(bench: Bench) -> None:
    bench.begin()
    await bench.play(4)
    bench.track = make_loop(OTHER).video
    bench.at = 0
    await bench.play(4)
    bench.end()
    bench.close()
    with bench.index.read() as snapshot:
        rows = snapshot.chunks(bench.stream.id, *TIMELINE)
        configs = [snapshot.config(bench.stream.id, row.epoch) for row in rows]
    assert [row.epoch for row in rows] == [1, 2]
    assert configs[0] != configs[1]
    spans, gaps = bench.timeline()
    assert len(spans) == 1
    assert not gaps


async def test_joined_in_mid_gop_nothing_is_stored_before_the_key_frame(bench: Bench) -> None:
    bench.begin()
    bench.at = 5
    await bench.play(4.5)
    bench.end()
    bench.close()
    with bench.index.read() as snapshot:
        rows = snapshot.chunks(bench.stream.id, *TIMELINE)
    assert sum(row.samples for row in rows) == 40


async def test_a_full_queue_drops_whole_gops_and_says_so(tmp_path: Path) -> None:
    size = sum(len(make_loop(SPEC).video.table.sample(i, None)) for i in range(10))
    bench = Bench(tmp_path, queue_bytes_max=size * 3)
    bench.begin()
    await bench.play(60)  # in no real time: the volume cannot sync as fast as this
    assert bench.pipeline.counters.dropped_gops >= 1
    while bench.writer.queue_bytes:
        await asyncio.sleep(0.01)
    await bench.play(3)
    bench.end()
    bench.close()
    _, gaps = bench.timeline()
    assert {cause for _, _, cause in gaps} == {GapCause.OVERLOAD}
    bench.index.close()


async def test_the_past_is_found_again(bench: Bench) -> None:
    bench.begin()
    await bench.play(4)
    bench.end(GapCause.STOPPED)
    bench.close()
    store = Past(bench.index, bench.committer)
    store.settle(bench.volume, {})
    assert store.resume(complete=False)[bench.stream.id].next_sequence > 1000, "files of an absent volume have numbers"
    past = store.resume(complete=True)[bench.stream.id]
    assert past.next_sequence == 2
    assert past.epoch == 1
    assert past.gap_cause is GapCause.STOPPED
    assert past.end_us == bench.timeline()[0][0][1]


async def test_a_clock_that_went_back_never_overwrites(bench: Bench) -> None:
    bench.begin()
    await bench.play(4)
    bench.end()
    end_us = bench.timeline()[0]
    bench.clock.step_wall(-3_600_000_000)
    bench.begin()
    await bench.play(4)
    bench.end()
    bench.close()
    spans, _ = bench.timeline()
    with bench.index.read() as snapshot:
        rows = snapshot.chunks(bench.stream.id, *TIMELINE)
    assert sum(row.samples for row in rows) == 80
    assert rows[1].start_us >= rows[0].end_us
    assert spans
    assert end_us is not None


async def test_a_refused_key_frame_takes_its_gop_with_it(tmp_path: Path) -> None:
    """No chunk ever starts in mid-GOP, also when the very first fragment found the queue full."""
    bench = Bench(tmp_path)
    bench.begin()
    bench.writer.queue_bytes_max = 0
    await bench.play(1.5)
    bench.writer.queue_bytes_max = 64 << 20
    await bench.play(4)
    bench.end()
    bench.close()
    with bench.index.read() as snapshot:
        rows = snapshot.chunks(bench.stream.id, *TIMELINE)
        first = snapshot.seek_next(bench.stream.id, 0)
    spans, _ = bench.timeline()
    assert sum(row.samples for row in rows) == 45  # from the second key frame on
    assert first is not None
    assert first.time_us == spans[0][0]
    bench.index.close()


async def test_a_jump_before_anything_is_stored_is_anchored_anew(bench: Bench) -> None:
    bench.begin()
    bench.at = 5  # joins in mid-GOP: nothing is stored yet
    await bench.play(0.4)
    bench.rtp += 3600 * 90_000
    bench.at = 10
    await bench.play(4)
    bench.end()
    bench.close()
    spans, _ = bench.timeline()
    assert abs(spans[-1][1] - bench.clock.wall_us()) < 1_000_000


async def test_what_a_failed_volume_did_not_sync_is_declared(bench: Bench) -> None:
    bench.begin()
    await bench.play(4)
    while bench.writer.queue_bytes:
        await asyncio.sleep(0.01)
    end_us = bench.pipeline.end_us
    bench.writer.refuse(VolumeError("another disk is mounted there", reason="missing"))
    while bench.writer.error is None:
        await asyncio.sleep(0.01)
    failed, bench.writer = bench.writer, bench.another()
    assert bench.pipeline.volume_failed(failed, failed.unsynced()) is None
    await bench.play(2.5)
    bench.end()
    bench.close()
    spans, gaps = bench.timeline()
    assert gaps == [(end_us, spans[1][0], GapCause.VOLUME)]


def test_one_bad_record_costs_one_stream(bench: Bench) -> None:
    bad = FragmentStored(99, 1, 1, 0, 10, 1, 2, key=True, samples=1, media_bytes=1)
    good = Gap(bench.stream.id, 1, 2, GapCause.OFFLINE)
    bench.committer.submit([bad, good])
    bench.close()
    assert bench.timeline()[1] == [(1, 2, GapCause.OFFLINE)]
