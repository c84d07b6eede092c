"""Every chunk file is an ordinary MP4: ffprobe and ffmpeg judge sealed, growing and torn ones."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from base.media import StreamConfig
from chunks.reader import ChunkFile
from tests.chunks.media import Bench, Media, build, encode_audio, sets_of

pytestmark = pytest.mark.needs_ffmpeg


def probe(path: Path) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_packets", "-show_data_hash", "sha256", "-of", "json"]
    done = subprocess.run([*command, str(path)], capture_output=True, check=True, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def packets(path: Path, kind: str = "video") -> list[tuple[int, int, str]]:
    return [(p["pts"], p["dts"], p["data_hash"]) for p in probe(path)["packets"] if p["codec_type"] == kind]


def decoded(path: Path) -> list[str]:
    """A hash per picture; edit lists apart, as footage from elsewhere hides pictures by them."""
    read = ["ffmpeg", "-v", "error", "-ignore_editlist", "1", "-i", str(path)]
    command = [*read, "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split(",")[-1].strip() for line in done.stdout.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("b_frames", [0, 3])
def test_pictures_and_times_are_the_cameras(
    bench: Bench, media: Callable[..., Media], codec: str, b_frames: int
) -> None:
    source = media(codec, b_frames)
    fragments = build(source)
    base = fragments[0].first_dts_90k
    chunk = bench.write(source.config, fragments)
    bench.writer.stop()
    found = probe(chunk.path)
    [stream] = found["streams"]
    assert stream["codec_name"] == {"h264": "h264", "h265": "hevc"}[codec]
    assert stream["codec_tag_string"] == {"h264": "avc3", "h265": "hev1"}[codec]
    assert (stream["width"], stream["height"]) == (160, 96)
    times = [int(p["pts"]) + base - 5_000_000 for p in found["packets"]]
    assert times == [pts for pts, _ in source.pictures]
    dts = [int(p["dts"]) for p in found["packets"]]
    assert dts == sorted(set(dts))
    assert [i for i, p in enumerate(found["packets"]) if "K" in p["flags"]] == [0, 25, 50]
    assert len(decoded(chunk.path)) == 75


@pytest.mark.parametrize("codec", ["aac", "pcma", "pcmu", "opus", "l16"])
def test_audio_beside_video(bench: Bench, media: Callable[..., Media], codec: str) -> None:
    rate_hz = {"aac": 16_000, "pcma": 8_000, "pcmu": 8_000, "opus": 48_000, "l16": 44_100}[codec]
    audio, frames = encode_audio(codec, rate_hz)
    source = media("h264")
    both = Media(StreamConfig(source.config.video, audio), source.pictures, frames)
    chunk = bench.write(both.config, build(both))
    bench.writer.stop()
    found = probe(chunk.path)
    video, sound = found["streams"]
    assert (video["codec_type"], sound["codec_type"]) == ("video", "audio")
    names = {"aac": "aac", "pcma": "pcm_alaw", "pcmu": "pcm_mulaw", "opus": "opus", "l16": "pcm_s16be"}
    assert (sound["codec_name"], int(sound["sample_rate"]), sound["channels"]) == (names[codec], rate_hz, 1)
    with av.open(str(chunk.path)) as container:
        stored = b"".join(bytes(packet) for packet in container.demux(audio=0) if packet.size)
    want = b"".join(data for _, data in frames)
    assert stored == want[: len(stored)]
    assert len(stored) >= len(want) - 2 * max(len(data) for _, data in frames)
    with av.open(str(chunk.path)) as container:
        heard = [(frame.pts, frame.samples) for frame in container.decode(audio=0)]
    assert sum(samples for _, samples in heard) >= rate_hz * 2.8
    assert all(b[0] - a[0] == a[1] for a, b in itertools.pairwise(heard))


def test_growing_and_torn_files_give_the_same_packets(bench: Bench, media: Callable[..., Media]) -> None:
    source = media("h264", 3)
    fragments = build(source, fragment_90k=45_000)
    chunk = bench.write(source.config, fragments)
    bench.writer.stop()
    whole = packets(chunk.path)
    table = ChunkFile(chunk.path).table()
    data = chunk.path.read_bytes()
    torn = chunk.path.with_name("torn.mp4")
    ends = (table.offset + table.length).tolist()
    cuts = {ends[0], ends[1] + 17, ends[1] + 45, ends[2] - 1, ends[3] - 130, ends[-1], ends[-1] + 60, len(data) - 3}
    cuts |= set(range(ends[2] + 1, ends[3], max(1, (ends[3] - ends[2]) // 9)))
    for cut in sorted(cuts):
        torn.write_bytes(data[:cut])
        sound = int(table.video_count[table.offset + table.length <= cut].sum())
        found = packets(torn)
        assert found[:sound] == whole[:sound], f"cut at {cut}"
        torn.write_bytes(data[:cut] + bytes(5000))
        assert packets(torn)[:sound] == whole[:sound], f"zeroes from {cut}"


@pytest.mark.needs_corpus
@pytest.mark.parametrize(
    "name", ["footage/car-detection.mp4", "signed/test_signed_h264.mp4", "signed/test_signed_h265.mp4"]
)
def test_footage_decodes_to_the_same_pictures(bench: Bench, corpus: Path, name: str) -> None:
    with av.open(str(corpus / name)) as container:
        stream = container.streams.video[0]
        codec = "h264" if stream.codec_context.name == "h264" else "h265"
        video = sets_of(codec, bytes(stream.codec_context.extradata or b""))
        units = [(int(p.pts * p.time_base * 90_000), bytes(p)) for p in container.demux(stream) if p.size]
    source = Media(StreamConfig(video), units)
    chunk = bench.write(source.config, build(source))
    bench.writer.stop()
    file = ChunkFile(chunk.path)
    table = file.table()
    stored = b"".join(file.read_fragment(i, table)[int(table.head_length[i]) : -124] for i in range(len(table)))
    assert stored == b"".join(data for _, data in units)
    assert decoded(chunk.path) == decoded(corpus / name)


def test_time_far_from_zero_keeps_64_bits(bench: Bench, media: Callable[..., Media]) -> None:
    source = media("h264")
    fragments = build(source, first_time=1 << 45)
    head = replace(bench.head(), origin_90k=0)
    chunk = bench.writer.open_chunk(head, source.config)
    for fragment in fragments:
        bench.writer.append(
            chunk, fragment, start_us=head.start_us, end_us=head.start_us + 1, video_base_90k=0, audio_base=0
        )
    bench.writer.stop()
    assert packets(chunk.path)[0][0] == 1 << 45
    assert os.path.getsize(chunk.path) == chunk.size
