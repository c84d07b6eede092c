"""Fragments → chunks, on a real volume and a real index: runs, rotation, epochs, drops and their gaps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from base.clock import SimulatedClock, WallClockState
from base.errors import VolumeError
from chunks.records import FragmentStored, Gap, GapCause
from chunks.volume import Volume
from chunks.writer import VolumeWriter
from index import Index
from native.fragment import FragmentBuilder
from native.slab import pool
from recorder.committer import Committer
from recorder.pipeline import Pipeline, Resume, Rotation
from recorder.prerecord import Ring, RingBudget
from recorder.startup import Past, chunk_reader
from recorder.storedclock import StoredClock
from simcam.encode import LoopSpec, make_loop
from simcam.loop import Track, nal_kind
from simcam.stamps import split_sample

SPEC = LoopSpec(codec="h264", width=160, height=90, fps=10, gop=10, seconds=4)
OTHER = LoopSpec(codec="h264", width=192, height=108, fps=10, gop=10, seconds=4)
NODE = bytes(16)
TIMELINE = (0, 1 << 60)


class Bench:
    """A pipeline with everything below it real, and a camera that is only a clock."""

    def __init__(self, folder: Path, *, chunk_s: int = 3600, queue_bytes_max: int = 64 << 20) -> None:
        self.clock = SimulatedClock(wall_us=1_790_000_000_000_000)
        self.synced: bool | None = False
        self.stored = StoredClock(self.clock, kernel=lambda: WallClockState(self.synced, 0))
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
        self.ring = Ring(0, RingBudget(64 << 20))
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
            clock=self.stored,
            pick_volume=lambda _: self.writer,
            ring=self.ring,
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


async def test_ten_minutes_without_a_key_frame(tmp_path: Path) -> None:
    """Recorded as they come, in memory that stays flat; each moment is found, from the key frame at their beginning."""
    bench = Bench(tmp_path, chunk_s=60)
    bench.begin()
    key = bench.track.table.sample(0, None)
    other = next(bench.track.table.sample(i, None) for i, is_key in enumerate(bench.track.keys) if not is_key)
    other += (8000).to_bytes(4, "big") + b"\x0c" + bytes(7999)  # 48 MB in all
    before, most = pool()[0], 0
    for number in range(6000):
        await bench.clock.advance(0.1)
        bench.builder.push_video(bench.rtp + number * 9000, bench.clock.monotonic_us(), other if number else key)
        if number % 1000 == 999:
            async with asyncio.timeout(20):
                while bench.writer.queue_bytes:
                    await asyncio.sleep(0.01)
            most = max(most, pool()[0] - before)
    bench.end()
    bench.close()
    assert most <= 1 << 20
    spans, gaps = bench.timeline()
    assert len(spans) == 1
    assert not gaps
    assert spans[0][1] - spans[0][0] == pytest.approx(600_000_000, abs=200_000)
    with bench.index.read() as snapshot:
        rows = snapshot.chunks(bench.stream.id, *TIMELINE)
        found = snapshot.seek(bench.stream.id, spans[0][0] + 590_000_000)
    assert [row.samples for row in rows] == [6000], "a chunk begins with a key frame, so there is but one"
    assert found is not None
    assert found.time_us == spans[0][0], "the one key frame there is"
    bench.index.close()


def bare(sample: bytes) -> bytes:
    """A picture without its parameter sets."""
    return b"".join(
        len(nal).to_bytes(4, "big") + nal for nal in split_sample(sample) if nal_kind("h264", nal) == ""
    )  # fmt: skip


async def send(bench: Bench, count: int, change: Callable[[bytes], bytes] = bytes) -> None:
    for _ in range(count):
        await bench.clock.advance(0.1)
        i = bench.at % len(bench.track.pts)
        bench.builder.push_video(bench.rtp, bench.clock.monotonic_us(), change(bench.track.table.sample(i, None)))
        bench.at += 1
        bench.rtp += 9000


@pytest.mark.parametrize("late_by", [7, 10, 37])
async def test_pictures_before_their_parameter_sets_are_kept(bench: Bench, late_by: int) -> None:
    """The sets come `late_by` pictures late, before a key frame or between two: nothing that came before is lost."""
    bench.begin()
    await send(bench, late_by, bare)
    assert bench.pipeline.waiting_for == "undecodable"
    assert not bench.pipeline.recording
    sets = b"".join(
        len(nal).to_bytes(4, "big") + nal
        for nal in split_sample(bench.track.table.sample(0, None))
        if nal_kind("h264", nal)
    )
    await send(bench, 1, lambda sample: sets + bare(sample))
    await send(bench, 30, bare)
    assert bench.pipeline.recording
    assert bench.pipeline.undecodable == ""
    bench.end()
    bench.close()
    with bench.index.read() as snapshot:
        rows = snapshot.chunks(bench.stream.id, *TIMELINE)
        config = snapshot.config(bench.stream.id, rows[0].epoch)
    assert sum(row.samples for row in rows) == late_by + 31
    assert len(rows) == 1
    assert config is not None
    assert config.video.sps
    assert config.video.pps
    spans, gaps = bench.timeline()
    assert len(spans) == 1
    assert not gaps


async def test_pictures_without_sets_are_bounded_and_their_absence_is_told(bench: Bench) -> None:
    bench.begin()
    await send(bench, 20)
    bench.end()
    bench.begin()
    await send(bench, 1200, bare)
    assert 550 < sum(fragment.video_samples for fragment in bench.ring._held) <= 620, "a minute of them"
    bench.end()
    gap = bench.pipeline.absence(bench.clock.wall_us())
    bench.close()
    assert gap is not None
    assert gap.cause is GapCause.UNDECODABLE


async def test_a_loss_in_the_first_fragment_of_all_is_told(bench: Bench) -> None:
    """What came before the first key frame is no absence yet, and hides no loss behind it."""
    bench.begin()
    bench.at = 5
    await send(bench, 5)
    await send(bench, 2)
    i = bench.at
    bench.builder.push_video(
        bench.rtp, bench.clock.monotonic_us(), bench.track.table.sample(i, None), complete=False, lost_packets=1
    )
    bench.at, bench.rtp = i + 1, bench.rtp + 9000
    await send(bench, 10)
    bench.end()
    bench.close()
    _, gaps = bench.timeline()
    assert [(b - a, cause) for a, b, cause in gaps] == [(pytest.approx(100_000, abs=2000), GapCause.PACKET_LOSS)]


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
