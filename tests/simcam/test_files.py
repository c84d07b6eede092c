from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from base.errors import ConfigError
from base.media import AudioConfig
from simcam.encode import LoopSpec, make_loop
from simcam.files import load_loop
from simcam.loop import Loop, split_annexb

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
needs_corpus = [pytest.mark.needs_corpus, pytest.mark.skipif(not CORPUS.is_dir(), reason="../shared/corpus is absent")]


def nals_of(loop: Loop) -> list[bytes]:
    return [nal for unit in range(len(loop.video.table)) for nal in loop.video.table.parts(unit)]


def write_annexb(path: Path, loop: Loop) -> None:
    path.write_bytes(b"".join(b"\0\0\0\1" + nal for nal in nals_of(loop)))


@pytest.mark.parametrize(("codec", "suffix"), [("h264", "264"), ("h265", "h265")])
def test_an_elementary_stream_is_served_as_it_lies(tmp_path: Path, codec: str, suffix: str) -> None:
    made = make_loop(LoopSpec(codec=codec, width=320, height=180, seconds=2, b_frames=2))  # type: ignore[arg-type]
    path = tmp_path / f"stream.{suffix}"
    write_annexb(path, made)
    loop = load_loop(path, 15.0)
    assert nals_of(loop) == split_annexb(path.read_bytes())
    assert len(loop.video.table) == 30
    late = made.video.pts[0] - loop.video.pts[0]
    assert [time + late for time in loop.video.pts] == list(made.video.pts), "display order is found again"
    assert loop.video.keys == made.video.keys


@pytest.mark.parametrize(("suffix", "audio"), [("mp4", "aac"), ("mov", "pcm_alaw"), ("mkv", "libopus")])
def test_a_container_is_served_as_it_lies(tmp_path: Path, suffix: str, audio: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    made = make_loop(LoopSpec(width=320, height=180, seconds=2))
    with av.open(str(path), "w") as out:
        video = out.add_mux_stream("h264", 15, width=320, height=180)
        sound: Any = out.add_stream(audio, rate=48_000 if audio == "libopus" else 8_000, layout="mono")
        for unit in range(len(made.video.table)):
            packet = av.Packet(b"".join(b"\0\0\0\1" + nal for nal in made.video.table.parts(unit)))
            packet.stream, packet.time_base, packet.duration = video, Fraction(1, 90_000), 6000
            packet.pts = packet.dts = unit * 6000
            out.mux(packet)
        frame = av.AudioFrame(format="s16", layout="mono", samples=8_000)
        frame.sample_rate = 8_000
        resampler = av.AudioResampler(sound.codec_context.format, "mono", sound.codec_context.sample_rate)
        for fitted in resampler.resample(frame):
            out.mux(sound.encode(fitted))
        out.mux(sound.encode(None))
    loop = load_loop(path)
    assert nals_of(loop) == nals_of(made)
    assert [round(time / 6000) for time in loop.video.pts] == list(range(30))
    assert loop.audio is not None
    assert isinstance(loop.audio.config, AudioConfig)
    with av.open(str(path)) as container:
        packets = b"".join(bytes(packet) for packet in container.demux(audio=0))
    assert b"".join(loop.audio.table.sample(n) for n in range(len(loop.audio.table))) == packets


def test_what_cannot_be_served_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a film")
    empty = tmp_path / "empty.264"
    empty.write_bytes(b"")
    for path in (text, empty, tmp_path / "absent.mp4"):
        with pytest.raises(ConfigError, match="cannot be served"):
            load_loop(path)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.name, marks=needs_corpus)
        for path in sorted(CORPUS.glob("h264/*")) or [CORPUS / "h264" / "absent"]
    ],
)
def test_corpus_streams_are_served_byte_for_byte(path: Path) -> None:
    assert nals_of(load_loop(path)) == split_annexb(path.read_bytes())


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.name, marks=needs_corpus)
        for path in [*sorted(CORPUS.glob("*/*.mp4"))] or [CORPUS / "footage" / "absent.mp4"]
    ],
)
def test_corpus_films_are_served_byte_for_byte(path: Path) -> None:
    loop = load_loop(path)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    assert [loop.video.table.sample(n) for n in range(len(loop.video.table))] == packets
