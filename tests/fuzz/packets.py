"""Packets and what carries them: RTP to units and fragments, interleaved framing, and the packetizer's way back."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from base.errors import CameraError
from native.fragment import FragmentBuilder
from native.framing import FramingError, Interleaved
from native.moof import Fragment
from native.packetize import RtpStream, UnitTable
from native.rtp import Receiver
from native.sink import CollectSink, Sink
from native.slab import pool
from rtsp.message import Message, MessageParser
from tests.fuzz.feed import Feed, cuts
from tests.fuzz.fragments import TOTAL_BYTES_MAX, assert_given_back, check_fragments, make_builder, split_sample

_PREFIX_BYTES_MAX = 256 * 1024
_COUNTERS = (
    "packets", "bytes", "lost_packets", "reordered_packets", "duplicate_packets", "malformed_packets", "source_changes",
    "highest_sequence", "expected_packets", "received_packets", "jitter",
)  # fmt: skip


def sent(feed: Feed) -> Iterator[tuple[bytes, int]]:
    """(packet, arrival): mostly well-formed ones, so that what is inside is reached."""
    sequence, time, arrival_us, total = 0, 0, 1_000_000, 0
    while feed.more and total < TOTAL_BYTES_MAX:
        what = feed.u(1)
        sequence += (1, feed.s(1), 0, feed.s(2))[what >> 3 & 3] if what & 24 else 1
        time += (0, 3600, feed.u(4), -3600)[what >> 1 & 3] if what & 6 else 0
        arrival_us += feed.u(2) * 1000 if what & 64 else 1000
        packet = feed.blob()[:65_000]
        if not what & 32:
            head = (0x80, 0x60 | (what & 1) << 7, sequence & 0xFFFF, time & 0xFFFFFFFF, 7 + (what >> 7))
            packet = struct.pack(">BBHII", *head) + packet
        total += len(packet)
        yield packet, arrival_us


def _receive(receiver: Receiver, sequence: list[tuple[bytes, int]]) -> list[float]:
    for packet, arrival_us in sequence:
        receiver.push(packet, arrival_us)
        if len(packet) & 7 == 0:
            receiver.flush(arrival_us)
    receiver.finish()
    return [getattr(receiver, name) for name in _COUNTERS]


def video(data: bytes) -> None:
    """One track of pictures, into units and into fragments."""
    feed = Feed(data)
    before = pool()[0]
    codec = feed.one_of("h264", "h265")
    head = 1 if codec == "h264" else 2
    reorder, donl, unit_bytes_max = feed.one_of(0, 1, 4, 128), feed.u(1) & 1 == 1, feed.one_of(8 << 20, 64, 5000)
    fragments: list[Fragment] = []
    builder: FragmentBuilder | None = make_builder(feed, codec, fragments, audio=False)
    assert builder is not None
    sequence = list(sent(feed))
    sink = CollectSink()
    counted = []
    for target in (sink, builder.video):
        receiver = Receiver(
            codec, target, payload_type=0x60, reorder_packets=reorder, donl=donl, unit_bytes_max=unit_bytes_max
        )
        counted.append(_receive(receiver, sequence))
    assert counted[0] == counted[1]
    builder.finish()
    for _, _, unit, _, _ in sink.units:
        assert len(unit) <= 5 * (unit_bytes_max + _PREFIX_BYTES_MAX)
        assert split_sample(unit, head)
    stored = check_fragments(fragments, head)
    assert sum(map(len, stored)) <= sum(len(unit[2]) for unit in sink.units)
    fragments.clear()
    builder = target = receiver = None  # type: ignore[assignment]
    assert_given_back(before)


def audio(data: bytes) -> None:
    """One track of audio frames."""
    feed = Feed(data)
    before = pool()[0]
    codec = feed.one_of("aac", "pcmu", "opus", "l16", "metadata")
    clock_hz = feed.one_of(48_000, 8_000, 1, 999_999_999)
    lengths = feed.one_of((13, 3, 3), (6, 2, 2), (16, 0, 0), (32, 32, 32), (1, 0, 7))
    ticks, unit_bytes_max = feed.one_of(1024, 0, 1, (1 << 31) - 1), feed.one_of(8 << 20, 64)
    reorder = feed.one_of(0, 16)
    sequence = list(sent(feed))
    sink = CollectSink(length_prefix=False)
    fragments: list[Fragment] = []
    builder: FragmentBuilder | None = FragmentBuilder("h264", fragments.append, audio_rate_hz=clock_hz)
    assert builder is not None
    assert builder.audio is not None
    counted = []
    target: Sink
    for target in (sink, builder.audio):
        receiver = Receiver(
            codec, target, payload_type=0x60, clock_hz=clock_hz, reorder_packets=reorder, aac_lengths=lengths,
            aac_frame_ticks=ticks, unit_bytes_max=unit_bytes_max,
        )  # fmt: skip
        counted.append(_receive(receiver, sequence))
    assert counted[0] == counted[1]
    assert all(len(unit[2]) <= max(unit_bytes_max, 65_535) for unit in sink.units)
    assert sum(len(unit[2]) for unit in sink.units) <= sum(len(packet) for packet, _ in sequence)
    builder.push_video(1 << 32, 2_000_000, b"\0\0\0\2\x65\x80")
    builder.finish()
    check_fragments(fragments, 1)
    fragments.clear()
    builder = target = receiver = None  # type: ignore[assignment]
    assert_given_back(before)


def _framed(parts: list[bytes], noise_bytes_max: int) -> tuple[object, ...]:
    """All that came out of one connection, whichever way it was cut."""
    texts: list[Message] = []
    reports: list[tuple[int, bytes]] = []
    parser = MessageParser(head_bytes_max=512, body_bytes_max=512)

    def on_text(part: bytes) -> int:
        taken, message = parser.consume(part)
        if message is None:
            return -1
        texts.append(message)
        return taken

    framing = Interleaved(
        on_text, lambda channel, part: reports.append((channel, part)), noise_bytes_max=noise_bytes_max
    )
    sinks = CollectSink(), CollectSink(length_prefix=False)
    receivers = Receiver("h264", sinks[0], payload_type=96), Receiver("pcmu", sinks[1])
    framing.assign(0, 1, receivers[0])
    framing.assign(2, 0x52, receivers[1])
    error = ""
    try:
        for part in parts:
            framing.feed(part, len(part), 5)
    except (CameraError, FramingError) as raised:
        error = type(raised).__name__
    for receiver in receivers:
        receiver.finish()
    counted = [[getattr(receiver, name) for name in _COUNTERS] for receiver in receivers]
    return error, texts, reports, sinks[0].units, sinks[1].units, counted, framing.noise_bytes, framing.unknown_frames


def framing(data: bytes) -> None:
    """Arbitrary cuts give what the whole gives."""
    feed = Feed(data)
    seed, noise_bytes_max = feed.u(1), feed.one_of(1 << 20, 16, 300)
    stream = feed.rest()
    whole = _framed([stream], noise_bytes_max)
    for parts in (cuts(stream, seed), cuts(stream, 0)):
        assert _framed(parts, noise_bytes_max) == whole, "cutting changed what came out"


def round_trip(data: bytes) -> None:
    """Whatever NAL units a camera sends reach the sink as they were; so do AAC frames."""
    feed = Feed(data)
    codec = feed.one_of("h264", "h265", "aac")
    payload_max, aggregate = feed.one_of(64, 65, 200, 1400, 60_000), feed.u(1) & 1 == 1
    donl = codec == "h265" and feed.u(1) & 1 == 1
    units: list[list[bytes]] = []
    total = 0
    while feed.more and total < TOTAL_BYTES_MAX // 4:
        unit = [_nal(codec, feed, slice_first=i == 0) for i in range(1 if codec == "aac" else 1 + feed.u(1) % 4)]
        total += sum(map(len, unit))
        units.append(unit)
    if not units:
        return
    table = UnitTable(codec, units)
    stream = RtpStream(96, 7, feed.u(2), payload_max=payload_max, aggregate=aggregate, donl=donl)
    sink = CollectSink(length_prefix=codec != "aac")
    receiver = Receiver(codec, sink, payload_type=96, donl=donl)
    for i in range(len(units)):
        for packet in stream.pack_list(table, i, i * 3600):
            receiver.push(packet, 1)
    receiver.finish()
    assert receiver.malformed_packets == 0
    assert [unit[2] for unit in sink.units] == [table.sample(i) for i in range(len(units))]
    assert [unit[0] for unit in sink.units] == [i * 3600 for i in range(len(units))]
    assert all(unit[3] == 1 for unit in sink.units)


def _nal(codec: str, feed: Feed, *, slice_first: bool) -> bytes:
    """A NAL unit that stands where the standards allow it: a first slice, then slices of the same picture."""
    body = feed.blob()[:20_000]
    if codec == "aac":
        return (body or b"\0")[:8191]
    first = b"\x80" if slice_first else b"\x00"
    if codec == "h264":
        return bytes([feed.one_of(0x65, 0x41, 0x01)]) + first + body
    return bytes([feed.one_of(19, 1, 0) << 1, 1]) + first + body
