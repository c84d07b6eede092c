"""Sample entries, codec strings and sizes, judged by av and by footage."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import CameraError, DamageError
from base.media import AudioConfig, StreamConfig, VideoConfig
from chunks.bits import BitReader, unescape
from chunks.boxes import init_segment
from chunks.codecs import avcc, codec_string, dimensions, frame_rate, hvcc, sample_entry
from chunks.parameters import h265_vps_rate, parse_h264_sps, parse_h265_sps
from tests.chunks.media import Media, encode_audio, sets_of, split_nals


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_init_segment_opens_and_names_its_codec(media: Callable[..., Media], codec: str) -> None:
    config = media(codec).config
    data = init_segment(config)
    with av.open(io.BytesIO(data), format="mp4") as container:
        context = container.streams.video[0].codec_context
        assert (context.width, context.height) == (160, 96) == dimensions(config.video)
        assert bytes(context.extradata or b"") == (avcc if codec == "h264" else hvcc)(config.video)
    kind, in_band = ("avc1", "avc3") if codec == "h264" else ("hvc1", "hev1")
    assert sample_entry(config.video, in_band=False)[4:8] == kind.encode()
    assert sample_entry(config.video, in_band=True)[4:8] == in_band.encode()
    assert codec_string(config).startswith(kind + ".")
    assert frame_rate(config.video) in (25.0, 0.0)


@pytest.mark.parametrize(
    ("codec", "text"), [("aac", "mp4a.40.2"), ("pcma", "alaw"), ("pcmu", "ulaw"), ("opus", "opus"), ("l16", "twos")]
)
def test_audio_names(media: Callable[..., Media], codec: str, text: str) -> None:
    audio = encode_audio(codec, 48_000 if codec == "opus" else 8_000, 1)[0]
    video = media().config.video
    assert codec_string(audio) == text
    assert codec_string(StreamConfig(video, audio)) == f"{codec_string(video)},{text}"
    with av.open(io.BytesIO(init_segment(StreamConfig(video, audio))), format="mp4") as container:
        assert len(container.streams.audio) == 1


def test_known_codec_strings() -> None:
    cut = b"\x67\x64\x00\x1f"
    with pytest.raises(DamageError):
        parse_h264_sps(cut)
    hevc = bytes.fromhex("420101016000000300900000030000030078a003c08010e596566924caf0168080000003008000000f0400")
    config = VideoConfig("h265", (), (hevc,), ())
    assert codec_string(config) == "hvc1.1.6.L120.90"
    assert dimensions(config) == (1920, 1080)


def test_a_stream_without_a_readable_sps_cannot_be_stored() -> None:
    for sps in ((), (b"\x67",), (b"\x67" + bytes(20),)):
        config = VideoConfig("h264", (), sps, ())
        with pytest.raises(CameraError) as found:
            sample_entry(config, in_band=True)
        assert found.value.reason == "codec"
        assert dimensions(config) == (0, 0)
        assert frame_rate(config) == 0.0


def test_aac_without_its_config_cannot_be_stored() -> None:
    for config in (b"", b"\x12", bytes(65)):
        with pytest.raises(CameraError):
            sample_entry(AudioConfig("aac", 16_000, 1, config), in_band=True)


@pytest.mark.needs_corpus
def test_sizes_of_the_corpus(corpus: Path) -> None:
    seen = 0
    for path in sorted((corpus / "h264").iterdir()):
        if path.suffix not in (".264", ".h264"):
            continue
        nals = split_nals(path.read_bytes())
        sps = tuple(nal for nal in nals if nal[0] & 31 == 7)[:1]
        with av.open(str(path), format="h264") as container:
            context = container.streams.video[0].codec_context
            assert dimensions(VideoConfig("h264", (), sps, ())) == (context.width, context.height), path.name
        seen += 1
    assert seen >= 5


@pytest.mark.needs_corpus
def test_signed_footage_keeps_its_sets(corpus: Path) -> None:
    for path in sorted((corpus / "signed").glob("*.mp4")):
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            raw = bytes(context.extradata or b"")
            size = (context.width, context.height)
        codec = "h264" if context.name == "h264" else "h265"
        config = sets_of(codec, raw)
        made = avcc(config) if codec == "h264" else hvcc(config)
        assert dimensions(config) == size
        assert all(nal in made for kind in (config.vps, config.sps, config.pps) for nal in kind)


@given(st.binary(max_size=200))
def test_parsers_refuse_garbage_in_one_way(data: bytes) -> None:
    for parse, front in ((parse_h264_sps, b"\x67"), (parse_h265_sps, b"\x42\x01"), (h265_vps_rate, b"\x40\x01")):
        try:
            parse(front + data)
        except DamageError:
            continue


@given(st.binary(max_size=60), st.lists(st.integers(0, 20), max_size=10))
def test_bits_against_text(data: bytes, lengths: list[int]) -> None:
    text, reader, at = "".join(f"{byte:08b}" for byte in data), BitReader(data), 0
    for length in lengths:
        if at + length > len(text):
            with pytest.raises(DamageError):
                reader.u(length)
            return
        assert reader.u(length) == int(text[at : at + length] or "0", 2)
        at += length


def test_unescape() -> None:
    assert unescape(b"\1\0\0\3\1\0\0\3\0\0\3") == b"\1\0\0\1\0\0\0\0"
