"""Encoded media, and chunk files made of it by the real builder and writer."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np

from base.errors import VolumeError
from base.media import AudioConfig, StreamConfig, VideoConfig
from chunks.records import ChunkHead, ClockState, StoredRecord
from chunks.volume import Volume
from chunks.writer import OpenChunk, VolumeWriter
from native.fragment import Fragment, FragmentBuilder

START_US = 1_700_000_000_000_000
MONOTONIC_US = 1_000_000


@dataclass(frozen=True)
class Media:
    """Pictures in decode order as (pts in 90 kHz, length-prefixed NAL units), audio frames as (time, bytes)."""

    config: StreamConfig
    pictures: list[tuple[int, bytes]]
    frames: list[tuple[int, bytes]] = field(default_factory=list)


def split_nals(annexb: bytes) -> list[bytes]:
    nals, at = [], annexb.find(b"\0\0\1")
    while at >= 0:
        following = annexb.find(b"\0\0\1", at + 3)
        end = len(annexb) if following < 0 else following
        nals.append(annexb[at + 3 : end].rstrip(b"\0") if following >= 0 else annexb[at + 3 : end])
        at = following
    return nals


def prefixed(nals: list[bytes]) -> bytes:
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)


def encode_video(codec: str, pictures: int = 75, gop: int = 25, b_frames: int = 0, fps: int = 25) -> Media:
    context = av.CodecContext.create({"h264": "libx264", "h265": "libx265"}[codec], "w")
    context.width, context.height, context.pix_fmt = 160, 96, "yuv420p"
    context.time_base, context.framerate = Fraction(1, fps), Fraction(fps, 1)
    context.gop_size, context.max_b_frames = gop, b_frames
    common = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}:b-adapt=0"
    if codec == "h264":
        context.options = {"preset": "ultrafast", "x264-params": common + ":repeat-headers=1:annexb=1"}
    else:
        params = common + ":repeat-headers=1:open-gop=0:log-level=none:pools=none:frame-threads=1"
        context.options = {"preset": "ultrafast", "x265-params": params}
    packets = []
    for i in range(pictures):
        ramp = np.add.outer(np.arange(144), np.arange(160) + 3 * i).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(ramp, format="yuv420p")
        frame.pts = i
        packets += context.encode(frame)
    packets += context.encode(None)
    units, sets = [], {}
    for packet in packets:
        nals = split_nals(bytes(packet))
        assert packet.pts is not None
        units.append((packet.pts * 90_000 // fps, prefixed(nals)))
        for nal in nals:
            kind = nal[0] & 31 if codec == "h264" else nal[0] >> 1 & 63
            sets.setdefault(kind, nal)
    if codec == "h264":
        video = VideoConfig("h264", (), (sets[7],), (sets[8],))
    else:
        video = VideoConfig("h265", (sets[32],), (sets[33],), (sets[34],))
    return Media(StreamConfig(video), units)


def encode_audio(codec: str, rate_hz: int, seconds: int = 3) -> tuple[AudioConfig, list[tuple[int, bytes]]]:
    """A tone; G.711 and L16 in frames of 20 ms."""
    name = {"aac": "aac", "pcma": "pcm_alaw", "pcmu": "pcm_mulaw", "opus": "libopus", "l16": "pcm_s16be"}[codec]
    context = av.CodecContext.create(name, "w")
    context.sample_rate, context.layout = rate_hz, "mono"
    context.format = {"aac": "fltp", "opus": "s16"}.get(codec, "s16")
    context.time_base = Fraction(1, rate_hz)
    context.open()
    step = context.frame_size or rate_hz // 50
    tone = np.sin(np.arange(rate_hz * seconds) * 2 * np.pi * 440 / rate_hz)
    frames: list[tuple[int, bytes]] = []
    for at in range(0, len(tone) - step + 1, step):
        part = tone[None, at : at + step]
        data = part.astype(np.float32) if codec == "aac" else (part * 20000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(data, format=context.format.name, layout="mono")
        frame.sample_rate, frame.pts = rate_hz, at
        frames += [(at, bytes(packet)) for packet in context.encode(frame)]
    frames = [(i * step, data) for i, (_, data) in enumerate(frames)]
    config = bytes(context.extradata or b"") if codec == "aac" else b""
    return AudioConfig(codec, rate_hz, 1, config), frames  # type: ignore[arg-type]


def sets_of(codec: str, record: bytes) -> VideoConfig:
    """The parameter sets of an avcC or hvcC."""
    found: dict[int, list[bytes]] = {}
    at = 6 if codec == "h264" else 23
    groups = [(7, record[5] & 31), (8, -1)] if codec == "h264" else [(-1, -1)] * record[22]
    for kind, count in groups:
        if codec == "h265":
            kind, count = record[at] & 63, int.from_bytes(record[at + 1 : at + 3], "big")
            at += 3
        elif count < 0:
            count = record[at]
            at += 1
        for _ in range(count):
            size = int.from_bytes(record[at : at + 2], "big")
            found.setdefault(kind, []).append(record[at + 2 : at + 2 + size])
            at += 2 + size
    if codec == "h264":
        return VideoConfig("h264", (), tuple(found[7]), tuple(found[8]))
    return VideoConfig("h265", tuple(found[32]), tuple(found[33]), tuple(found[34]))


def build(source: Media, *, fragment_90k: int = 90_000, first_time: int = 5_000_000) -> list[Fragment]:
    """Push everything through a builder, audio and video interleaved by time."""
    fragments: list[Fragment] = []
    rate_hz = source.config.audio.rate_hz if source.config.audio else 0
    codec = source.config.video.codec
    builder = FragmentBuilder(codec, fragments.append, audio_rate_hz=rate_hz, fragment_90k=fragment_90k)
    waiting = list(source.frames)
    for i, (pts, data) in enumerate(source.pictures):
        now_us = MONOTONIC_US + i * 40_000
        builder.push_video(first_time + pts, now_us, data)
        while waiting and waiting[0][0] * 1_000_000 <= (now_us - MONOTONIC_US) * rate_hz:
            time, frame = waiting.pop(0)
            builder.push_audio(time, MONOTONIC_US + time * 1_000_000 // rate_hz, frame)
    builder.finish()
    return fragments


@dataclass
class Bench:
    """A volume, its writer and what it told."""

    volume: Volume
    writer: VolumeWriter
    records: list[StoredRecord]
    failures: list[tuple[VolumeError, list[OpenChunk]]]
    sequence: int = 0

    def head(self, *, stream: str = "gate.main", start_us: int = START_US) -> ChunkHead:
        self.sequence += 1
        return ChunkHead(
            node=bytes(range(16)), volume=self.volume.id, opening=bytes([self.sequence]) * 16, stream_id=7,
            stream_name=stream, sequence=self.sequence, epoch=1, run=2, start_us=start_us, monotonic_us=MONOTONIC_US,
            clock_state=ClockState.SYNCED, clock_error_us=1500, origin_90k=start_us * 9 // 100,
        )  # fmt: skip

    def write(self, config: StreamConfig, fragments: list[Fragment], *, seal: bool = True) -> OpenChunk:
        """One chunk of these fragments, queued."""
        head = self.head()
        chunk = self.writer.open_chunk(head, config)
        base = fragments[0].first_dts_90k
        for fragment in fragments:
            accepted = self.writer.append(
                chunk, fragment,
                start_us=head.start_us + (fragment.first_dts_90k - base) * 100 // 9,
                end_us=head.start_us + (fragment.end_dts_90k - base) * 100 // 9,
                video_base_90k=base, audio_base=0,
            )  # fmt: skip
            assert accepted
        if seal:
            self.writer.seal(chunk)
        return chunk
