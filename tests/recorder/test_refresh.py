"""Gradual decoder refresh: a camera that was joined after its only key frame is stored, and not called one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from base.errors import NotFound
from clips import hls
from clips.mp4 import ClipFile
from clips.plan import plan
from clips.store import ChunkStore
from recorder.run import REFUSED_90K_MAX, WITHOUT_KEY_90K_MAX
from simcam.encode import LoopSpec, make_loop
from tests.recorder.test_pipeline import TIMELINE, Bench

REFRESH = LoopSpec(width=160, height=96, fps=10, gop=20, seconds=80, intra_refresh=True)
JOINED = 25  # pictures after the only key frame
S = 1_000_000


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(tmp_path, chunk_s=30)
    one.begin(REFRESH)
    one.at = JOINED
    yield one
    one.index.close()


def shown(data: bytes) -> list[np.ndarray]:
    """The pictures that a player shows."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def sent() -> list[np.ndarray]:
    """All pictures of the camera, decoded from its key frame on."""
    track = make_loop(REFRESH).video
    decoder = av.CodecContext.create("h264", "r")
    units = (b"".join(b"\0\0\0\1" + bytes(nal) for nal in track.table.parts(i)) for i in range(len(track.pts)))
    packets = [*map(av.Packet, units), None]
    return [frame.to_ndarray() for packet in packets for frame in decoder.decode(packet)]


def test_the_loop_has_one_key_frame() -> None:
    track = make_loop(REFRESH).video
    assert [i for i, is_key in enumerate(track.keys) if is_key] == [0]


async def test_it_is_stored_and_played_though_no_key_frame_comes(bench: Bench) -> None:
    await bench.play(REFUSED_90K_MAX / 90_000 - 1)
    assert not bench.pipeline.recording
    assert bench.pipeline.counters.fragments == 0
    await bench.play(40)
    bench.end()
    bench.close()
    spans, gaps = bench.timeline()
    assert len(spans) == 1
    assert not gaps
    with bench.index.read() as snapshot:
        rows = snapshot.chunks(bench.stream.id, *TIMELINE)
        assert not len(snapshot.key_frames(bench.stream.id, *TIMELINE))
        start_us = spans[0][0] + 20 * S
        store = ChunkStore({bench.volume.id: bench.volume.root})
        clip = ClipFile(plan(snapshot, store, bench.stream.id, start_us, start_us + 5 * S))
        assert snapshot.seek(bench.stream.id, start_us) is None
        with pytest.raises(NotFound, match="gate"):
            hls.vod_playlist(snapshot, bench.stream.id, *spans[0])
    assert len(rows) == 1
    assert clip.start_us == pytest.approx(start_us, abs=100_000)
    pictures = shown(b"".join(bytes(block) for block in clip.read(0, clip.size)))
    assert len(pictures) == 50
    known = sent()
    first = next(i for i, picture in enumerate(known) if np.array_equal(picture, pictures[0]))
    assert all(np.array_equal(*pair) for pair in zip(pictures, known[first:], strict=False))


async def test_its_chunks_end_all_the_same(bench: Bench) -> None:
    """A chunk of 30 s, which no key frame ends, ends after 20 minutes."""
    track = bench.track
    samples = [track.table.sample(i, None) for i in range(JOINED, JOINED + 500)]
    for number in range(WITHOUT_KEY_90K_MAX // 9000 + 1200):
        await bench.clock.advance(0.1)
        bench.builder.push_video(bench.rtp + number * 9000, bench.clock.monotonic_us(), samples[number % 500])
    bench.end()
    bench.close()
    spans, gaps = bench.timeline()
    assert len(spans) == 1
    assert not gaps
    with bench.index.read() as snapshot:
        lengths_s = [(row.end_us - row.start_us) / S for row in snapshot.chunks(bench.stream.id, *TIMELINE)]
    assert len(lengths_s) >= 2
    assert max(lengths_s) <= WITHOUT_KEY_90K_MAX / 90_000 + 31


async def test_a_gop_of_20_s_that_was_joined_late_is_waited_out(bench: Bench) -> None:
    """What no key frame precedes is a gap as long as one can be expected."""
    track = bench.track
    key, others = track.table.sample(0, None), [track.table.sample(i, None) for i in range(JOINED, JOINED + 190)]
    for number, sample in enumerate([*others, key, *others]):
        await bench.clock.advance(0.1)
        bench.builder.push_video(bench.rtp + number * 9000, bench.clock.monotonic_us(), sample)
    bench.end()
    bench.close()
    with bench.index.read() as snapshot:
        [row] = snapshot.chunks(bench.stream.id, *TIMELINE)
        [first] = snapshot.key_frames(bench.stream.id, *TIMELINE)
    assert row.samples == 1 + len(others)
    assert first["time_us"] == row.start_us
