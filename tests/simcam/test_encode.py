from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from base.media import VideoCodec, VideoConfig
from simcam.draw import picture
from simcam.encode import LoopSpec, make_loop
from simcam.loop import Loop

SMALL: dict[str, Any] = {"width": 320, "height": 180, "fps": 15, "seconds": 2, "gop": 15}


def decoded(loop: Loop) -> list[av.VideoFrame]:
    decoder = av.CodecContext.create("h264" if loop.video.codec == "h264" else "hevc", "r")
    frames = []
    for unit in range(len(loop.video.table)):
        data = b"".join(b"\0\0\0\1" + nal for nal in loop.video.table.parts(unit))
        frames += decoder.decode(av.Packet(data))
    return [*frames, *decoder.decode(None)]


@pytest.mark.parametrize(
    "spec",
    [
        LoopSpec(**SMALL),
        LoopSpec(**SMALL, profile="baseline", audio="pcmu"),
        LoopSpec(**SMALL, profile="high", b_frames=2, audio="aac"),
        LoopSpec(**SMALL, slices=4, audio="pcma"),
        LoopSpec(**SMALL, codec="h265", audio="opus"),
        LoopSpec(**SMALL, codec="h265", b_frames=2, audio="l16"),
    ],
    ids=lambda spec: f"{spec.codec}-{spec.profile}-b{spec.b_frames}-s{spec.slices}-{spec.audio}",
)
def test_a_loop_is_what_its_spec_says(spec: LoopSpec) -> None:
    loop = make_loop(spec)
    video = loop.video
    assert len(video.table) == spec.fps * spec.seconds
    assert [n for n, key in enumerate(video.keys) if key] == [0, 15]
    assert video.duration_ticks == 90_000 * spec.seconds
    assert (video.delay_ticks > 0) == bool(spec.b_frames)
    config = video.config
    assert isinstance(config, VideoConfig)
    assert (len(config.vps), len(config.sps), len(config.pps)) == (spec.codec == "h265", 1, 1)
    for unit in (0, 15):
        assert set(config.sps) <= set(video.table.parts(unit)), "parameter sets stand before each key frame"
    if spec.slices > 1:
        assert sum(nal[0] & 0x1F in (1, 5) for nal in video.table.parts(1)) == spec.slices
    frames = decoded(loop)
    assert len(frames) == len(video.table)
    assert (frames[0].width, frames[0].height) == (320, 180)
    if spec.audio:
        assert loop.audio is not None
        assert loop.audio.codec == spec.audio
        assert abs(loop.audio.duration_ticks / loop.audio.clock_hz - spec.seconds) < 0.2


def test_intra_refresh_has_one_key_picture() -> None:
    assert sum(make_loop(LoopSpec(**SMALL, intra_refresh=True)).video.keys) == 1


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_padding_gives_the_bit_rate(codec: VideoCodec) -> None:
    loop = make_loop(LoopSpec(**SMALL, codec=codec, bitrate_bps=4_000_000, padded=True))
    assert loop.bitrate_bps == pytest.approx(4_000_000, rel=0.005)
    assert len(decoded(loop)) == len(loop.video.table)


def test_the_cache_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spec = LoopSpec(**SMALL, name="cached")
    make_loop.cache_clear()
    made = make_loop(spec)
    assert len(list(tmp_path.glob("simcam-loops-*/*.loop"))) == 1
    make_loop.cache_clear()
    read = make_loop(spec)
    assert read is not made
    assert read.video.digests == made.video.digests
    (cached,) = tmp_path.glob("simcam-loops-*/*.loop")
    cached.write_bytes(b"torn")
    make_loop.cache_clear()
    assert make_loop(spec).video.digests == made.video.digests


@pytest.mark.parametrize("wrong", [{"fps": 7}, {"seconds": 0}, {"width": 321}])
def test_impossible_specs_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"fps|must be even"):
        make_loop(LoopSpec(**{**SMALL, **wrong}))


def test_the_text_is_burned_in() -> None:
    frame = picture(320, 180, "gate", 31, 15)
    assert frame.shape == (270, 320)
    corner = frame[4:13, 4:40]
    assert {16, 235} <= set(np.unique(corner))
    assert not np.array_equal(picture(320, 180, "gate", 32, 15), frame)
    assert np.array_equal(picture(320, 180, "gate", 31, 15), frame)
