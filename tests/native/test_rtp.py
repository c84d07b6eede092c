"""The depacketizer against its promises, against a plain-Python twin, and against damaged input."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.framing import FramingError, Interleaved
from native.rtp import Receiver
from native.sink import CollectSink, Sink

COMPLETE, LOSS_BEFORE = 1, 2
SSRC = 0x11223344
Unit = tuple[int, bytes, int, int]  # time, data, flags, lost packets


def rtp(sequence: int, time: int, payload: bytes, marker: bool = False, *, pt: int = 96, ssrc: int = SSRC) -> bytes:
    head = struct.pack(">BBHII", 0x80, pt | (0x80 if marker else 0), sequence & 0xFFFF, time & 0xFFFFFFFF, ssrc)
    return head + payload


def nals(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(data[4 : 4 + size])
        assert len(found[-1]) == size
        data = data[4 + size :]
    return found


def sample(units: list[bytes]) -> bytes:
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in units)


def received(codec: str, packets: list[bytes], finish: bool = True, **options: Any) -> tuple[list[Unit], Receiver]:
    sink = CollectSink(length_prefix=codec in ("h264", "h265"))
    receiver = Receiver(codec, sink, payload_type=96, **options)
    for packet in packets:
        receiver.push(packet, 1)
    if finish:
        receiver.finish()
    return [(time, data, flags, lost) for time, _, data, flags, lost in sink.units], receiver


# --- pictures and their packets -----------------------------------------------------------------------------------


class Codec:
    """What differs between H.264 and H.265, as a test writes it."""

    def __init__(self, name: str, donl: bool = False) -> None:
        self.name = name
        self.h265 = name == "h265"
        self.donl = donl
        self.head_bytes = 2 if self.h265 else 1
        self.options: dict[str, Any] = {"donl": donl}

    def nal(self, what: str, body: bytes, first: bool = True) -> bytes:
        kinds = {"aud": 9, "sps": 7, "pps": 8, "sei": 6, "key": 5, "slice": 1, "filler": 12}
        if self.h265:
            kinds = {"aud": 35, "sps": 33, "pps": 34, "sei": 39, "key": 19, "slice": 1, "filler": 38}
        kind = kinds[what]
        head = bytes([kind << 1, 1]) if self.h265 else bytes([0x60 | kind])
        if what in ("key", "slice"):
            body = bytes([(body[0] & 0x7F) | (0x80 if first else 0)]) + body[1:]
        return head + body

    def single(self, nal: bytes) -> bytes:
        return nal[:2] + b"\0\7" + nal[2:] if self.donl else nal

    def aggregate(self, group: list[bytes]) -> bytes:
        parts = []
        for i, nal in enumerate(group):
            number = (b"\0\7" if i == 0 else b"\1") if self.donl else b""
            parts.append(number + len(nal).to_bytes(2, "big") + nal)
        return (bytes([48 << 1, 1]) if self.h265 else b"\x78") + b"".join(parts)

    def fragments(self, nal: bytes, size: int) -> list[bytes]:
        body = nal[self.head_bytes :]
        pieces = [body[i : i + size] for i in range(0, len(body), size)]
        found = []
        for i, piece in enumerate(pieces):
            bits = (0x80 if i == 0 else 0) | (0x40 if i == len(pieces) - 1 else 0)
            if self.h265:
                number = b"\0\7" if self.donl and i == 0 else b""
                found.append(bytes([49 << 1 | nal[0] & 0x81, nal[1], bits | nal[0] >> 1 & 0x3F]) + number + piece)
            else:
                found.append(bytes([nal[0] & 0xE0 | 28, bits | nal[0] & 0x1F]) + piece)
        return found


CODECS = {"h264": Codec("h264"), "h265": Codec("h265"), "h265-donl": Codec("h265", donl=True)}
codecs = st.sampled_from(sorted(CODECS)).map(CODECS.__getitem__)


def pictures(codec: Codec, seed: int, count: int) -> list[list[bytes]]:
    rng = random.Random(seed)
    made = []
    for i in range(count):
        units = []
        for what, chance in (("aud", 0.3), ("sps", 0.2), ("pps", 0.2), ("sei", 0.5)):
            if rng.random() < chance:
                units.append(codec.nal(what, rng.randbytes(rng.randint(2, 60))))
        for j in range(rng.choice([1, 1, 2, 4])):
            units.append(codec.nal("key" if i % 5 == 0 else "slice", rng.randbytes(rng.randint(2, 400)), first=j == 0))
        if rng.random() < 0.1:
            units.append(codec.nal("filler", b"\xff\xff\x80"))
        made.append(units)
    return made


def packed(codec: Codec, units: list[bytes], seed: int, payload_max: int = 100) -> list[bytes]:
    """Payloads of one picture: single, aggregated and fragmented as chance has it."""
    rng = random.Random(seed)
    payloads: list[bytes] = []
    group: list[bytes] = []
    for nal in [*units, b""]:
        fits = nal and len(nal) + sum(len(n) + 4 for n in group) + 4 < payload_max
        if group and (not fits or rng.random() < 0.3):
            payloads.append(codec.single(group[0]) if len(group) == 1 else codec.aggregate(group))
            group = []
        if fits:
            group.append(nal)
        elif nal:
            payloads += codec.fragments(nal, rng.randint(payload_max // 2, payload_max))
    return payloads


@dataclass
class Sent:
    codec: Codec
    pictures: list[list[bytes]]
    packets: list[bytes] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)  # picture of each packet

    def time(self, picture: int) -> int:
        return 0xFFFFF000 + 3000 * picture  # runs over 32 bits


def sent(codec: Codec, seed: int, count: int = 12, *, markers: bool = True) -> Sent:
    stream = Sent(codec, pictures(codec, seed, count))
    for i, units in enumerate(stream.pictures):
        payloads = packed(codec, units, seed + i)
        for j, payload in enumerate(payloads):
            marker = markers and j == len(payloads) - 1
            stream.packets.append(rtp(0xFFF0 + len(stream.packets), stream.time(i), payload, marker))
            stream.owner.append(i)
    return stream


# --- promises -----------------------------------------------------------------------------------------------------


@given(codecs, st.integers(0, 1 << 30), st.booleans())
def test_every_picture_arrives_byte_for_byte(codec: Codec, seed: int, markers: bool) -> None:
    stream = sent(codec, seed, markers=markers)
    got, receiver = received(codec.name, stream.packets, **codec.options)
    wanted = [(stream.time(i), sample(units), COMPLETE, 0) for i, units in enumerate(stream.pictures)]
    if not markers:  # nothing tells that the last picture is over
        wanted.pop()
    assert got == wanted
    assert (receiver.packets, receiver.lost_packets, receiver.malformed_packets) == (len(stream.packets), 0, 0)


@given(codecs, st.integers(0, 1 << 30), st.floats(0.01, 0.5), st.booleans())
def test_after_loss_complete_means_complete(codec: Codec, seed: int, rate: float, udp: bool) -> None:
    stream = sent(codec, seed, 30)
    rng = random.Random(seed)
    kept = [i == 0 or rng.random() > rate for i in range(len(stream.packets))]
    got, receiver = received(
        codec.name, [p for p, keep in zip(stream.packets, kept, strict=True) if keep],
        reorder_packets=64 if udp else 0, **codec.options,
    )  # fmt: skip
    last = max(i for i, keep in enumerate(kept) if keep)
    assert receiver.lost_packets == kept[:last].count(False)
    whole = {
        stream.time(i): sample(units)
        for i, units in enumerate(stream.pictures)
        if all(keep for keep, owner in zip(kept, stream.owner, strict=True) if owner == i)
    }
    times = [time for time, *_ in got]
    assert times == sorted(set(times))
    for time, data, flags, _ in got:
        if flags & COMPLETE:
            assert whole[time] == data
        assert set(nals(data)) <= set(stream.pictures[(time - stream.time(0)) // 3000])
    assert sum(lost for *_, lost in got) <= receiver.lost_packets
    for time in times[1:]:  # a picture before it is missing: it says so
        if time - 3000 not in times:
            flags = next(flags for t, _, flags, _ in got if t == time)
            assert flags & LOSS_BEFORE


@given(codecs, st.integers(0, 1 << 30))
def test_udp_packets_out_of_order_and_double_are_put_right(codec: Codec, seed: int) -> None:
    stream = sent(codec, seed, 20)
    rng = random.Random(seed)
    first, rest = stream.packets[:1], stream.packets[1:]
    order = sorted(range(len(rest)), key=lambda i: i + rng.uniform(0, 12))
    packets = first + [rest[i] for i in order for _ in range(1 + (rng.random() < 0.1))]
    got, receiver = received(codec.name, packets, reorder_packets=32, **codec.options)
    assert got == [(stream.time(i), sample(units), COMPLETE, 0) for i, units in enumerate(stream.pictures)]
    assert receiver.lost_packets == 0
    assert receiver.duplicate_packets == len(packets) - len(stream.packets)
    if order != sorted(order):
        assert receiver.reordered_packets > 0


# --- the twin -----------------------------------------------------------------------------------------------------


@dataclass
class Twin:
    """The rules of native.pictures, written for reading."""

    codec: Codec
    units: list[Unit] = field(default_factory=list)
    waiting: list[bytes] = field(default_factory=list)
    open: list[bytes] | None = None
    time: int | None = None
    sequence: int = -1
    marker: bool = False
    whole: bool = True
    loss: bool = False
    lost: int = 0
    head: str = "start"
    part: bytearray | None = None
    part_kind: int = -1
    malformed: int = 0

    def packet(self, sequence: int, time: int, marker: bool, payload: bytes) -> None:
        lost = sequence - self.sequence - 1 if self.sequence >= 0 else 0
        self.sequence = sequence
        if time != self.time:
            self.turn(lost, self.time is None)
        elif lost:
            self.damage()
            self.head = "doubt" if self.marker else self.head
            self.lost += lost
            self.loss = True
        self.time = time
        self.payload(payload)
        self.marker = self.marker or (marker and self.open is not None)

    def turn(self, lost: int, very_first: bool) -> None:
        if self.part is not None:
            self.damage()
        tail = lost if self.open is not None and not self.marker else 0
        if self.open is not None:
            self.whole = self.whole and not tail
            self.loss = self.loss or tail > 0
            self.lost += tail
            self.end()
        if self.waiting and (lost or self.head == "doubt"):
            self.waiting, self.loss = [], True
        if lost:
            self.head, self.loss = "doubt", True
            self.lost += lost - tail
        elif not very_first and not self.waiting:
            self.head = "certain"

    def payload(self, data: bytes) -> None:
        h265, head_bytes = self.codec.h265, self.codec.head_bytes
        if len(data) <= head_bytes:
            return self.bad() if data else None
        kind = data[0] >> 1 & 63 if h265 else data[0] & 31
        donl = 2 if self.codec.donl else 0
        if kind == (48 if h265 else 24):
            return self.aggregate(data[head_bytes:], donl)
        if kind == (49 if h265 else 28):
            if len(data) < head_bytes + 1:
                return self.bad()
            flags = data[head_bytes]
            skip = donl if flags & 0x80 else 0
            if len(data) < head_bytes + 1 + skip:
                return self.bad()
            kind = flags & (63 if h265 else 31)
            head = bytes([data[0] & 0x81 | kind << 1, data[1]] if h265 else [data[0] & 0xE0 | kind])
            return self.fragment(flags, kind, head, data[head_bytes + 1 + skip :])
        if kind >= (48 if h265 else 24) or (not h265 and kind == 0):
            return self.bad()
        if h265 and len(data) <= 2 + donl:
            return self.bad()
        return self.nal(data[:head_bytes] + data[head_bytes + donl :])

    def aggregate(self, data: bytes, donl: int) -> None:
        skip = donl
        while data:
            if len(data) < skip + 2:
                return self.bad()
            size = int.from_bytes(data[skip : skip + 2], "big")
            data, skip = data[skip + 2 :], donl // 2
            nal, data = data[:size], data[size:]
            if len(nal) < size:
                return self.bad()
            if size > self.codec.head_bytes:
                if (nal[0] >> 1 & 63) >= 48 if self.codec.h265 else (nal[0] & 31) >= 24:
                    return self.bad()
                self.nal(nal)
            elif size:
                self.bad()
        return None

    def fragment(self, flags: int, kind: int, head: bytes, data: bytes) -> None:
        if flags & 0x80:
            if kind >= (48 if self.codec.h265 else 24):
                return self.bad()
            self.begin(head + data)
            self.part, self.part_kind = bytearray(head + data), kind
        elif self.part is None:
            return self.damage()
        elif kind != self.part_kind:
            return self.bad()
        else:
            self.part += data
        if flags & 0x40 and self.part is not None:
            self.put(bytes(self.part))
            self.part = None
        return None

    def nal(self, nal: bytes) -> None:
        self.begin(nal)
        self.put(nal)

    def begin(self, nal: bytes) -> None:
        if self.part is not None:
            self.damage()
        kind = nal[0] >> 1 & 63 if self.codec.h265 else nal[0] & 31
        if self.codec.h265:
            is_slice = kind < 32
            leads = kind in (32, 33, 34, 35, 39, *range(41, 45), *range(48, 56))
        else:
            is_slice = kind in (1, 2, 3, 4, 5, 19, 20, 21)
            leads = kind in (6, 7, 8, 9, *range(14, 19))
        body = nal[self.codec.head_bytes :]
        first = bool(body and body[0] & 0x80)
        if self.open is not None and self.marker and (leads or is_slice):
            if leads or first:
                self.end()
            else:
                self.marker = False
        if self.open is None and is_slice:
            self.whole = self.head == "certain" or (self.head == "start" and (first or bool(self.waiting)))
            self.head = "certain"
            self.open, self.waiting = self.waiting, []
        elif self.open is None and not self.waiting and kind == (35 if self.codec.h265 else 9) and self.head == "doubt":
            self.head = "certain"

    def put(self, nal: bytes) -> None:
        (self.waiting if self.open is None else self.open).append(nal)

    def bad(self) -> None:
        self.malformed += 1
        self.damage()

    def damage(self) -> None:
        self.part = None
        if self.open is not None:
            self.whole = False
        else:
            self.head = "doubt"

    def end(self) -> None:
        assert self.open is not None
        flags = (COMPLETE if self.whole else 0) | (LOSS_BEFORE if self.loss else 0)
        if self.open:
            self.units.append((self.time or 0, sample(self.open), flags, self.lost))
        self.open, self.marker, self.loss, self.lost = None, False, not self.open, 0


@settings(max_examples=300)
@given(codecs, st.integers(0, 1 << 30))
def test_twin_agrees_on_damaged_streams(codec: Codec, seed: int) -> None:
    stream = sent(codec, seed, 15)
    rng = random.Random(seed)
    twin = Twin(codec)
    packets = []
    for i, packet in enumerate(stream.packets):
        payload, marker = bytearray(packet[12:]), bool(packet[1] & 0x80)
        time = stream.time(stream.owner[i])
        fate = rng.random()
        if fate < 0.05:
            continue
        if fate < 0.10:
            del payload[rng.randint(0, len(payload)) :]
        elif fate < 0.15:
            payload[rng.randrange(min(4, len(payload)))] = rng.randrange(256)
        elif fate < 0.20:
            marker = not marker
        elif fate < 0.25:
            payload = bytearray(rng.randbytes(rng.randint(0, 40)))
        packets.append(rtp(0xFFF0 + i, time, bytes(payload), marker))
        twin.packet(0xFFF0 + i, time, marker, bytes(payload))
    got, receiver = received(codec.name, packets, finish=False, **codec.options)
    assert got == twin.units
    assert receiver.malformed_packets == twin.malformed


@given(st.lists(st.binary(max_size=80), max_size=30), st.sampled_from(["h264", "h265", "aac", "pcmu", "metadata"]))
def test_no_packets_crash_a_receiver(packets: list[bytes], codec: str) -> None:
    for window in (0, 16):
        receiver = Receiver(codec, CollectSink(), payload_type=96, reorder_packets=window)
        for i, packet in enumerate(packets):
            receiver.push(packet, i)
            receiver.push(rtp(i, i, packet), i)
            receiver.push(b"\xbf\x60" + packet, i)
        receiver.flush(1 << 40)
        receiver.finish()


# --- rules one by one ---------------------------------------------------------------------------------------------

H264 = CODECS["h264"]


def slices(*first: bool) -> list[bytes]:
    return [H264.nal("slice", bytes([1, i]), first=f) for i, f in enumerate(first)]


def test_a_marker_within_a_picture_does_not_split_it() -> None:
    one, two, three = slices(True, False, True)
    packets = [rtp(1, 0, one, True), rtp(2, 0, two, True), rtp(3, 9, three, True)]
    got, _ = received("h264", packets, finish=False)
    assert got == [(0, sample([one, two]), COMPLETE, 0)]


def test_pictures_with_one_timestamp_are_told_apart_by_the_marker() -> None:
    one, two = slices(True, True)
    got, _ = received("h264", [rtp(1, 0, one, True), rtp(2, 0, two, True)])
    assert [nals(data) for _, data, _, _ in got] == [[one], [two]]


def test_parameter_sets_with_markers_and_an_old_timestamp_go_into_the_picture_they_lead() -> None:
    (picture,) = slices(True)
    sps, pps = H264.nal("sps", b"abc"), H264.nal("pps", b"de")
    packets = [
        rtp(1, 0, picture, True), rtp(2, 0, sps, True), rtp(3, 0, pps, True), rtp(4, 3000, picture, True),
    ]  # fmt: skip
    got, _ = received("h264", packets)
    assert got == [(0, sample([picture]), COMPLETE, 0), (3000, sample([sps, pps, picture]), COMPLETE, 0)]


def test_flush_ends_a_picture_whose_marker_was_seen_and_no_other() -> None:
    sink = CollectSink()
    receiver = Receiver("h264", sink, payload_type=96)
    one, two = slices(True, True)
    receiver.push(rtp(1, 0, one), 5)
    receiver.flush(6)
    assert sink.units == []
    receiver.push(rtp(2, 0, H264.nal("slice", b"zz", first=False), True), 7)
    receiver.flush(8)
    assert [(u[0], u[1], u[3]) for u in sink.units] == [(0, 5, COMPLETE)]
    receiver.push(rtp(3, 3000, two), 9)
    receiver.finish()
    assert len(sink.units) == 1


def test_a_last_unit_without_a_slice_is_kept_when_the_session_ends() -> None:
    (picture,) = slices(True)
    sei = H264.nal("sei", b"signature")
    start = [rtp(1, 0, picture, True), rtp(2, 3000, sei, True)]
    assert received("h264", start, finish=False)[0] == [(0, sample([picture]), COMPLETE, 0)]
    assert received("h264", start)[0][1:] == [(3000, sample([sei]), COMPLETE, 0)]
    assert len(received("h264", [rtp(1, 0, picture, True), rtp(2, 3000, sei)])[0]) == 1


def test_joining_in_the_middle_of_a_picture_is_not_a_whole_picture() -> None:
    key = H264.nal("key", bytes(500))
    packets = [rtp(i, 0, p) for i, p in enumerate(H264.fragments(key, 100))][2:]
    (following,) = slices(True)
    got, receiver = received("h264", [*packets, rtp(5, 3000, following, True)])
    assert got == [(3000, sample([following]), COMPLETE, 0)]
    assert receiver.lost_packets == 0


def test_a_unit_over_the_bound_is_cut_not_kept() -> None:
    small = H264.nal("key", bytes(100))
    large = H264.nal("slice", bytes(5000), first=False)
    packets = [rtp(0, 0, small), *(rtp(1 + i, 0, p, i == 9) for i, p in enumerate(H264.fragments(large, 500)))]
    got, receiver = received("h264", packets, unit_bytes_max=3000)
    assert got == [(0, sample([small]), 0, 0)]
    assert receiver.malformed_packets == 1


def test_nal_units_that_wait_for_a_picture_are_bounded() -> None:
    sei = H264.nal("sei", bytes(60_000))
    (picture,) = slices(True)
    packets = [rtp(i, 0, sei) for i in range(100)]
    got, receiver = received("h264", [*packets, rtp(100, 0, picture, True)])
    assert receiver.malformed_packets == 96
    assert nals(got[0][1]) == [sei] * 4 + [picture]
    assert not got[0][2] & COMPLETE


def test_interleaved_mode_is_refused_and_counted() -> None:
    for kind in (25, 26, 27, 29, 30, 31, 0):
        got, receiver = received("h264", [rtp(0, 0, bytes([0x60 | kind]) + bytes(20))])
        assert (got, receiver.malformed_packets) == ([], 1)


def test_padding_extension_and_sources_are_stepped_over() -> None:
    (nal,) = slices(True)
    head = struct.pack(">BBHII", 0x80 | 0x20 | 0x10 | 2, 0x80 | 96, 7, 0, SSRC) + bytes(8)
    packet = head + struct.pack(">HH", 0xBEDE, 2) + bytes(8) + nal + bytes([0, 0, 3])
    got, _ = received("h264", [packet])
    assert nals(got[0][1]) == [nal]
    for cut in range(len(packet) - len(nal) - 3):
        got, receiver = received("h264", [packet[:cut]])
        assert (got, receiver.malformed_packets) == ([], 1)


def test_foreign_payload_types_are_no_loss() -> None:
    packets = [rtp(1, 0, b"a"), rtp(2, 160, b"noise", pt=13), rtp(3, 320, b"b"), rtp(9, 0, b"x", pt=13, ssrc=1)]
    got, receiver = received("pcmu", packets)
    assert [(data, flags) for _, data, flags, _ in got] == [(b"a", COMPLETE), (b"b", COMPLETE)]
    assert (receiver.lost_packets, receiver.malformed_packets, receiver.source_changes) == (0, 2, 0)


def test_sequence_numbers_wrap_and_late_packets_are_dropped_over_tcp() -> None:
    got, receiver = received("pcmu", [rtp(n, 160 * n, b"x%d" % n) for n in (65534, 65535, 65536, 65535, 65540)])
    assert [(data, lost) for _, data, _, lost in got] == [
        (b"x65534", 0), (b"x65535", 0), (b"x65536", 0), (b"x65540", 3),
    ]  # fmt: skip
    assert (receiver.duplicate_packets, receiver.lost_packets) == (1, 3)
    assert receiver.highest_sequence == 65540
    assert (receiver.expected_packets, receiver.received_packets) == (7, 5)


def test_another_source_is_believed_at_once_over_tcp_and_on_its_second_packet_over_udp() -> None:
    packets = [rtp(1, 0, b"a"), rtp(500, 0, b"b", ssrc=7), rtp(501, 160, b"c", ssrc=7), rtp(502, 320, b"d", ssrc=7)]
    got, receiver = received("pcmu", packets)
    assert [data for _, data, _, _ in got] == [b"a", b"b", b"c", b"d"]
    assert (receiver.source_changes, receiver.ssrc) == (1, 7)
    got, receiver = received("pcmu", packets, reorder_packets=16)
    assert [data for _, data, _, _ in got] == [b"a", b"c", b"d"]


def test_a_restart_of_the_sequence_is_a_loss_of_unknown_size() -> None:
    packets = [rtp(1, 0, b"a"), rtp(30000, 160, b"b"), rtp(30001, 320, b"c")]
    assert [lost for *_, lost in received("pcmu", packets)[0]] == [0, 1, 0]
    assert [lost for *_, lost in received("pcmu", packets, reorder_packets=16)[0]] == [0, 1]


def test_udp_gives_up_a_missing_packet_after_its_time() -> None:
    sink = CollectSink()
    receiver = Receiver("pcmu", sink, payload_type=96, reorder_packets=64)
    for n in (1, 3, 4):
        receiver.push(rtp(n, 160 * n, b"x"), 1000)
    receiver.flush(100_000)
    assert [u[0] for u in sink.units] == [160]
    receiver.flush(300_000)
    assert [(u[0], u[4]) for u in sink.units] == [(160, 0), (480, 1), (640, 0)]


def test_time_goes_on_over_32_bits_both_ways() -> None:
    times = [0xFFFFFF00, 0x100, 0xFFFFFFF0, 0x200]
    got, receiver = received("pcmu", [rtp(i, t, b"x") for i, t in enumerate(times)])
    assert [time for time, *_ in got] == [0xFFFFFF00, 0x1_0000_0100, 0xFFFFFFF0, 0x1_0000_0200]
    assert receiver.unwrap(0xFFFFFFFF) == 0xFFFFFFFF
    assert Receiver("pcmu", Sink()).unwrap(5) is None


def test_jitter_is_that_of_rfc_3550() -> None:
    receiver = Receiver("pcmu", Sink(), payload_type=96, clock_hz=8000)
    jitter, transit = 0.0, None
    rng = random.Random(1)
    for i in range(200):
        arrival_us = 20_000 * i + rng.randrange(5000) + 1
        receiver.push(rtp(i, 160 * i, b"x"), arrival_us)
        now = arrival_us * 8000 // 1_000_000 - 160 * i
        if transit is not None:
            jitter += (abs(now - transit) - jitter) / 16
        transit = now
    assert receiver.jitter == pytest.approx(jitter, abs=1)


# --- AAC ----------------------------------------------------------------------------------------------------------


def aac(frames: list[bytes], sizes: list[int] | None = None, lengths: tuple[int, int, int] = (13, 3, 3)) -> bytes:
    bits = ""
    for i, size in enumerate(sizes or [len(f) for f in frames]):
        bits += f"{size:0{lengths[0]}b}"
        index = lengths[1] if i == 0 else lengths[2]
        bits += "0" * index
    data = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return len(bits).to_bytes(2, "big") + data + b"".join(frames)


@given(
    st.lists(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5), max_size=8),
    st.sampled_from([(13, 3, 3), (6, 2, 2), (16, 0, 0), (7, 0, 3)]),
)
def test_aac_frames_arrive_with_their_times(packets: list[list[bytes]], lengths: tuple[int, int, int]) -> None:
    wire, wanted, time = [], [], 0
    for i, frames in enumerate(packets):
        wire.append(rtp(i, time, aac(frames, lengths=lengths), True))
        for frame in frames:
            wanted.append((time, frame, COMPLETE, 0))
            time += 1024
    got, receiver = received("aac", wire, aac_lengths=lengths)
    assert got == wanted
    assert receiver.malformed_packets == 0


def test_an_aac_frame_over_several_packets() -> None:
    frame = bytes(range(250)) * 4
    parts = [rtp(i, 0, aac([frame[250 * i : 250 * i + 250]], [1000]), i == 3) for i in range(4)]
    after = rtp(4, 1024, aac([b"next"]), True)
    assert [u[1:] for u in received("aac", [*parts, after])[0]] == [(frame, COMPLETE, 0), (b"next", COMPLETE, 0)]
    for missing in range(1, 4):
        got, _ = received("aac", [*(p for i, p in enumerate(parts) if i != missing), after])
        assert [u[1:3] for u in got][-1:] == [(b"next", COMPLETE | (LOSS_BEFORE if missing < 4 else 0))]
        assert len(got) == 1


@pytest.mark.parametrize(
    "payload",
    [b"\0", b"\xff\xff", b"\0\x10", b"\0\x10\0\0", b"\0\x08\x10ab", aac([b"ab"], [0]), aac([b"a", b"b"], [1, 9])],
)
def test_aac_payloads_that_break_the_format_are_counted(payload: bytes) -> None:
    got, receiver = received("aac", [rtp(0, 0, payload)])
    assert receiver.malformed_packets == 1
    assert len(got) <= 1


@pytest.mark.parametrize("codec", ["pcma", "pcmu", "opus", "l16"])
def test_a_packet_is_a_frame(codec: str) -> None:
    got, _ = received(codec, [rtp(1, 5, b"one"), rtp(2, 6, b""), rtp(4, 7, b"two")])
    assert got == [(5, b"one", COMPLETE, 0), (7, b"two", COMPLETE | LOSS_BEFORE, 1)]


# --- framing ------------------------------------------------------------------------------------------------------


class Wire:
    """An Interleaved with a track on channels 0 and 1, and what came out of it."""

    def __init__(self, **options: int) -> None:
        self.sink = CollectSink(length_prefix=False)
        self.receiver = Receiver("pcmu", self.sink, payload_type=96)
        self.texts: list[bytes] = []
        self.rtcp: list[bytes] = []
        self._text = b""
        self.framing = Interleaved(self.on_text, lambda channel, data: self.rtcp.append(data), **options)
        self.framing.assign(0, 1, self.receiver)

    def on_text(self, data: bytes) -> int:
        before = len(self._text)
        self._text += data
        end = self._text.find(b"\r\n\r\n")
        if end < 0:
            return -1
        self.texts.append(self._text[: end + 4])
        self._text = b""
        return end + 4 - before

    def feed(self, data: bytes) -> None:
        self.framing.feed(data, len(data), 1)

    @property
    def media(self) -> list[bytes]:
        return [unit[2] for unit in self.sink.units]


def frame(channel: int, data: bytes) -> bytes:
    return b"$" + bytes([channel]) + len(data).to_bytes(2, "big") + data


SR = b"\x80\xc8\0\1abcd"
TEXT = b"RTSP/1.0 200 OK\r\nCSeq: 4\r\n\r\n"
NOISE = st.one_of(st.just(b""), st.binary(max_size=40).map(lambda b: b"\x01" + b.replace(b"$", b"").replace(b"R", b"")))


@given(st.data())
def test_frames_text_and_noise_are_told_apart_however_they_are_cut(data: st.DataObject) -> None:
    items = data.draw(st.lists(st.sampled_from(["rtp", "rtcp", "text", "unknown", "noise"]), max_size=20))
    wire, media, count, synced = b"", [], 0, True
    for item in items:
        match item:
            case "rtp":
                media.append(b"m%d" % count + b"$\0\0\x10RTSP" * (count % 3) + bytes(count * 7))
                wire += frame(0, rtp(count, count, media[-1]))
                count += 1
                synced = True
            case "rtcp":
                wire += frame(1, SR)
                synced = True
            case "text":
                wire += TEXT
                synced = True
            case "unknown":
                wire += frame(9, b"\x80" + bytes(30)) if synced else b""
            case "noise":
                noise = data.draw(NOISE)
                synced = synced and not noise
                wire += noise
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=30)))
    got = Wire()
    for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        got.feed(wire[a:b])
    assert got.media == media
    assert got.texts == [TEXT] * items.count("text")
    assert got.rtcp == [SR] * items.count("rtcp")


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_no_bytes_crash_the_framing(data: bytes, step: int) -> None:
    whole, cut = Wire(), Wire()
    whole.feed(data)
    for i in range(0, len(data), step):
        cut.feed(data[i : i + step])
    assert (whole.media, whole.texts, whole.rtcp) == (cut.media, cut.texts, cut.rtcp)
    assert whole.framing.noise_bytes == cut.framing.noise_bytes


def test_noise_without_end_is_an_error_and_the_bound_is_a_run() -> None:
    wire = Wire(noise_bytes_max=1000)
    for i in range(5):
        wire.feed(b"\xff" * 900 + frame(0, rtp(i, i, b"x")))
    assert len(wire.media) == 5
    with pytest.raises(FramingError):
        wire.feed(b"\xff" * 1001)


def test_empty_and_short_frames_of_a_known_channel_are_stepped_over() -> None:
    wire = Wire()
    wire.feed(frame(0, b"") + frame(0, b"x") + frame(7, b"") + frame(0, b"\0" * 30) + frame(0, rtp(0, 0, b"here")))
    assert wire.media == [b"here"]
    assert wire.receiver.malformed_packets == 3
    assert wire.framing.noise_bytes == 0


def test_channels_are_checked() -> None:
    wire = Wire()
    with pytest.raises(ValueError, match="taken"):
        wire.framing.assign(1, 2, wire.receiver)
    with pytest.raises(ValueError, match="not two of"):
        wire.framing.assign(256, 2, wire.receiver)
    with pytest.raises(ValueError, match="not in a buffer"):
        wire.framing.feed(b"abc", 4, 1)


def test_an_error_in_a_callback_comes_out() -> None:
    def broken(data: bytes) -> int:
        raise RuntimeError("broken")

    framing = Interleaved(broken, lambda channel, data: None)
    with pytest.raises(RuntimeError, match="broken"):
        framing.feed(TEXT, len(TEXT), 1)


# --- smallest inputs of faults that fuzzing found ------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("cut", range(1, 6))
def test_the_shortest_frames_may_be_cut_anywhere(size: int, cut: int) -> None:
    reports: list[tuple[int, bytes]] = []
    framing = Interleaved(lambda _: -1, lambda channel, data: reports.append((channel, data)))
    framing.assign(0, 1, Receiver("pcmu", CollectSink()))
    frame = b"$\1\0" + bytes([size]) + b"x" * size
    data = frame * 3
    framing.feed(data[:cut], cut, 1)
    framing.feed(data[cut:], len(data) - cut, 1)
    assert reports == [(1, b"x" * size)] * 3
    assert framing.noise_bytes == 0


def test_an_early_packet_without_payload_waits_as_others_do() -> None:
    packets = [rtp(0, 0, b"a"), rtp(2, 160, b""), rtp(1, 80, b"b")]
    got, receiver = received("pcmu", packets, reorder_packets=4)
    assert [unit[1] for unit in got] == [b"a", b"b"]
    assert (receiver.lost_packets, receiver.reordered_packets) == (0, 1)


def test_aac_frames_too_far_ahead_of_their_packet_are_refused() -> None:
    headers = struct.pack(">HIII", 192, 1, 0, 0) + struct.pack(">III", 1, 0xFFFFFFFF, 0)
    got, receiver = received(
        "aac", [rtp(0, 0, headers + b"ab")], aac_lengths=(32, 32, 32), aac_frame_ticks=(1 << 31) - 1
    )
    assert [unit[1] for unit in got] == [b"a"]
    assert receiver.malformed_packets == 1
