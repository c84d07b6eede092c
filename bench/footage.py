"""A data folder full of recordings, made faster than life through the product's own pipeline and writer."""

from __future__ import annotations

import time
from pathlib import Path

from base.clock import SimulatedClock
from base.datadir import DataDir
from chunks.records import GapCause
from chunks.volume import Volume
from chunks.writer import VolumeWriter
from index import Camera, Index
from native.fragment import FragmentBuilder
from recorder.committer import Committer
from recorder.pipeline import Pipeline, Resume, Rotation
from recorder.storedclock import StoredClock
from simcam.encode import LoopSpec, make_loop

LOAD = LoopSpec(codec="h264", width=640, height=360, fps=25, gop=50, bitrate_bps=4_000_000, padded=True)
# As many pictures and fragments as LOAD, of few bytes: for recordings so long that only their tables count.
LEAN = LoopSpec(codec="h264", width=160, height=96, fps=25, gop=50, bitrate_bps=20_000)
FULL_HD = LoopSpec(codec="h264", width=1920, height=1080, fps=25, gop=50, bitrate_bps=2_000_000)


class HandClock(SimulatedClock):
    """A clock moved by hand, without sleepers."""

    def forward(self, by_us: int) -> None:
        self._wall_us += by_us
        self._monotonic_us += by_us


def make(
    data: Path, seconds: int, *, camera: str = "gate", start_us: int | None = None, loop: LoopSpec = LOAD
) -> tuple[DataDir, int, int]:
    """Record `seconds` of a loop, of 4 Mbit/s by default; returns (folder, first µs, last µs)."""
    folder = DataDir.create(data)
    volume = Volume.create(folder.media_path, folder.node_id)
    folder.add_volume(volume.id, volume.root)
    index = Index.open(folder.index_path, create=True, node=folder.node_id)
    committer = Committer(index)
    committer.start()
    failures: list[Exception] = []
    writer = VolumeWriter(volume, on_commit=committer.submit, on_failure=lambda error, _: failures.append(error))
    writer.start()
    with index.write() as transaction:
        transaction.put_camera(Camera(id=camera, main="rtsp://127.0.0.1:1/none", enabled=False))
        stream = transaction.ensure_stream(f"{camera}.main")
    clock = HandClock(wall_us=start_us or (time.time_ns() // 1000 - seconds * 1_000_000 - 60_000_000))
    pipeline = Pipeline(
        stream,
        Resume(),
        node=folder.node_id,
        rotation=Rotation(600_000_000, 2 << 30),
        clock=StoredClock(clock),
        pick_volume=lambda _: writer,
    )
    _play(pipeline, writer, clock, seconds, loop)
    writer.stop()
    committer.stop()
    with index.read() as snapshot:
        line = snapshot.timeline(stream.id, 0, 1 << 60)
    index.close()
    assert not failures, failures
    assert len(line.spans) == 1, line
    return folder, line.spans[0][0], line.spans[0][1]


def _play(pipeline: Pipeline, writer: VolumeWriter, clock: HandClock, seconds: int, loop: LoopSpec) -> None:
    builder = FragmentBuilder(loop.codec, pipeline.on_fragment, fragment_90k=45_000)
    track = make_loop(loop).video
    samples = [track.table.sample(i, None) for i in range(len(track.pts))]
    pipeline.begin_run(loop.codec, None, lambda: None, lambda _: 0)
    for number in range(seconds * loop.fps):
        clock.forward(1_000_000 // loop.fps)
        while writer.queue_bytes > writer.queue_bytes_max // 2:
            time.sleep(0.01)
        builder.push_video(number * 90_000 // loop.fps, clock.monotonic_us(), samples[number % len(samples)])
    builder.finish()
    pipeline.end_run(GapCause.STOPPED)
