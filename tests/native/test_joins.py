"""Streams that begin anywhere, change under way or never end: no false key frame, no memory without bound."""

from __future__ import annotations

import random
import struct

import pytest

from base.media import VideoCodec
from native import slab
from native.fragment import Fragment, FragmentBuilder
from native.moof import SEAL_SIZE
from native.packetize import RtpStream
from native.rtp import Receiver
from simcam.encode import LoopSpec, make_loop
from simcam.loop import Track
from simcam.stamps import split_sample

JOINS = 1000
SHAPES = [
    LoopSpec(codec="h264", width=320, height=180, gop=8, seconds=4, bitrate_bps=2_000_000, padded=True),
    LoopSpec(codec="h264", width=320, height=180, gop=8, seconds=4, slices=4, bitrate_bps=1_000_000),
    LoopSpec(codec="h265", width=320, height=180, gop=8, seconds=4, bitrate_bps=2_000_000, padded=True),
    LoopSpec(codec="h265", width=320, height=180, gop=8, seconds=4, slices=3, b_frames=2, bitrate_bps=1_000_000),
]


def packets_of(track: Track, payload_max: int = 600) -> list[bytes]:
    stream = RtpStream(96, 7, 1, payload_max=payload_max)
    found: list[bytes] = []
    for turn in range(2):
        for i in range(len(track.table)):
            ticks = turn * track.duration_ticks + track.pts[i]
            found += stream.pack_list(track.table, i, ticks & 0xFFFFFFFF, None)
    return found


def slices(codec: VideoCodec, sample: bytes) -> tuple[bytes, ...]:
    """A picture without what may stand before its slices: joined between the two, nobody can know of the sets."""
    is_slice = (lambda nal: nal[0] & 31 in (1, 5)) if codec == "h264" else (lambda nal: nal[0] >> 1 & 63 < 32)
    return tuple(nal for nal in split_sample(sample) if is_slice(nal))


def first_samples(codec: VideoCodec, packets: list[bytes]) -> list[bytes]:
    """The first picture of every fragment that says it begins with a key frame."""
    keys: list[bytes] = []

    def take(fragment: Fragment) -> None:
        if fragment.key:
            fragment.prepare(
                number=1, stream_id=1, sequence=1, video_base_90k=fragment.first_dts_90k, audio_base=0,
                wall_us=1_000_000, end_us=2_000_000,
            )  # fmt: skip
            media = fragment.to_bytes()[-SEAL_SIZE - fragment.media_bytes : -SEAL_SIZE]
            keys.append(media[: fragment.video_table()[0][2]])

    builder = FragmentBuilder(codec, take, fragment_90k=45_000)
    receiver = Receiver(codec, builder.video, payload_type=96)
    for number, packet in enumerate(packets):
        receiver.push(packet, number * 300)
    receiver.finish()
    builder.finish()
    return keys


@pytest.mark.parametrize("spec", SHAPES, ids=lambda spec: f"{spec.codec}-{spec.slices}")
def test_a_join_in_mid_picture_never_makes_a_key_frame(spec: LoopSpec) -> None:
    """Joined at any packet, also in the middle of an IDR, with its start lost: whole key frames alone are such."""
    track = make_loop(spec).video
    true_keys = {slices(spec.codec, track.table.sample(i)) for i in range(len(track.table)) if track.keys[i]}
    packets = packets_of(track)
    per_turn = len(packets) // 2
    starts = random.Random(5).sample(range(per_turn), min(JOINS // len(SHAPES), per_turn))
    assert len(starts) > 100
    for start in starts:
        found = first_samples(spec.codec, packets[start : start + per_turn // 2 + 100])
        assert {slices(spec.codec, one) for one in found} <= true_keys, (
            f"a false key frame when joined at packet {start}"
        )
        assert found, "a true one within half a turn"


@pytest.mark.parametrize(("announced", "sent"), [(0, 2), (2, 0), (1, 3), (3, 1)])
def test_another_codec_than_announced_is_told_and_has_no_key_frame(announced: int, sent: int) -> None:
    codec = SHAPES[announced].codec
    packets = packets_of(make_loop(SHAPES[sent]).video, 1400)
    assert first_samples(codec, packets) == []
    builder = FragmentBuilder(codec, lambda _: None)
    receiver = Receiver(codec, builder.video, payload_type=96)
    for number, packet in enumerate(packets):
        receiver.push(packet, number * 300)
    assert receiver.foreign_packets > 0.9 * receiver.packets
    right = Receiver(SHAPES[sent].codec, FragmentBuilder(SHAPES[sent].codec, lambda _: None).video, payload_type=96)
    for number, packet in enumerate(packets):
        right.push(packet, number * 300)
    assert right.foreign_packets == 0


def test_an_h264_slice_is_no_key_frame_of_h265() -> None:
    """0x21 heads an H.264 slice that others refer to; in H.265 the same bits would name a broken-link picture."""
    picture = struct.pack(">BBHII", 0x80, 0xE0, 1, 0, 7) + b"\x21\x9a" + bytes(100)
    after = struct.pack(">BBHII", 0x80, 0xE0, 2, 9000, 7) + b"\x21\x9a" + bytes(100)
    assert first_samples("h265", [picture, after]) == []


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_nal_unit_of_a_gigabyte_takes_no_more_than_a_unit_may(codec: VideoCodec) -> None:
    """Fragments without an end, 64 KB each, under one timestamp and under many."""
    builder = FragmentBuilder(codec, lambda _: None, unit_bytes_max=8 << 20)
    receiver = Receiver(codec, builder.video, payload_type=96)
    before, size, most = slab.pool()[0], 65_000, 0
    for number in range((1 << 30) // size):
        start = 0x80 if number % 5000 == 0 else 0
        head = bytes([0x7C, start | 5]) if codec == "h264" else bytes([0x62, 1, start | 19])
        time = number // 5000 * 3000
        packet = struct.pack(">BBHII", 0x80, 0x60, number & 0xFFFF, time, 7) + head + bytes(size)
        receiver.push(packet, number * 1000)
        most = max(most, slab.pool()[0] - before)
    assert most <= (8 << 20) + (1 << 20)
    builder.finish()
    assert slab.pool()[0] == before
