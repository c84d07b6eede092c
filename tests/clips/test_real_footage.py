"""Other people's encoders, through chunks into clips: the same bytes, the same pictures."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import av
import pytest
from support import T0, Recording, Video

from base.media import VideoConfig
from base.units import US
from clips.mp4 import ClipFile
from clips.plan import plan

pytestmark = pytest.mark.needs_corpus


def parameter_sets(extradata: bytes, codec: str) -> VideoConfig:
    """From avcC or hvcC."""
    found: dict[int, list[bytes]] = {}
    if codec == "h264":
        at = 5
        for mask, kind in ((31, 7), (255, 8)):
            count, at = extradata[at] & mask, at + 1
            for _ in range(count):
                size = int.from_bytes(extradata[at : at + 2], "big")
                found.setdefault(kind, []).append(extradata[at + 2 : at + 2 + size])
                at += 2 + size
        return VideoConfig("h264", (), tuple(found[7]), tuple(found[8]))
    at = 23
    for _ in range(extradata[22]):
        kind, count, at = extradata[at] & 63, int.from_bytes(extradata[at + 1 : at + 3], "big"), at + 3
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            found.setdefault(kind, []).append(extradata[at + 2 : at + 2 + size])
            at += 2 + size
    return VideoConfig("h265", tuple(found[32]), tuple(found[33]), tuple(found[34]))


def loaded(path: Path, *, fps: int = 0) -> Video:
    """A file's pictures; at even distances when `fps` is given."""
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        codec = {"h264": "h264", "hevc": "h265"}[stream.codec_context.name]
        config = parameter_sets(bytes(stream.codec_context.extradata), codec)
        pictures = []
        for i, packet in enumerate(packet for packet in container.demux(stream) if packet.size):
            pts = i * 90_000 // fps if fps else round(packet.pts * stream.time_base * 90_000)
            pictures.append((pts, bytes(packet), packet.is_keyframe))
    return Video(config, fps or 10, pictures)


def pictures_shown(source: Any) -> list[str]:
    with av.open(source) as container:
        return [hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest() for frame in container.decode(video=0)]


def clip_of(recording: Recording, pictures: Video) -> bytes:
    recording.add(pictures, chunk_s=10)
    recording.flush()
    with recording.index.read() as snapshot:
        made = ClipFile(plan(snapshot, recording.store, recording.stream_id, T0, T0 + 3600 * US))
    return b"".join(map(bytes, made.read(0, made.size)))


@pytest.mark.parametrize("name", ["car-detection.mp4", "one-by-one-person-detection.mp4"])
def test_decoded_pictures_equal_the_sources(recording: Recording, corpus: Path, name: str) -> None:
    path = corpus / "footage" / name
    assert pictures_shown(io.BytesIO(clip_of(recording, loaded(path)))) == pictures_shown(str(path))


@pytest.mark.parametrize("name", ["test_signed_h264.mp4", "test_signed_h265.mp4"])
def test_a_cameras_signature_stays_whole(recording: Recording, corpus: Path, name: str) -> None:
    """NAL units, SEI with signatures included, are in the clip as they came."""
    pictures = loaded(corpus / "signed" / name, fps=25)
    data = clip_of(recording, pictures)
    with av.open(io.BytesIO(data), options={"ignore_editlist": "1"}) as container:
        stored = b"".join(bytes(packet) for packet in container.demux(video=0))
    assert stored == b"".join(sample for _, sample, _ in pictures.pictures)
