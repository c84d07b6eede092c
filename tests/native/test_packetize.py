"""Packets of the compiled packetizer, read back by a plain-Python depacketizer written from the RFCs alone."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.packetize import RtpStream, UnitTable
from simcam.sender import pack_address
from tests.simcam.viewer import split_rtp as rtp
from tests.simcam.viewer import unpack_h264, unpack_h265


def deinterleave(data: bytes, channel: int) -> list[bytes]:
    packets, at = [], 0
    while at < len(data):
        mark, given, size = struct.unpack(">BBH", data[at : at + 4])
        assert (mark, given) == (0x24, channel)
        packets.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    assert at == len(data)
    return packets


def nal_units(codec: str) -> st.SearchStrategy[list[bytes]]:
    kinds = st.sampled_from([1, 5, 6, 7, 8, 9, 12]) if codec == "h264" else st.sampled_from([0, 1, 19, 32, 33, 34, 39])

    def head(kind: int, bits: int) -> bytes:
        return bytes([bits & 0x60 | kind]) if codec == "h264" else bytes([kind << 1 | bits & 1, bits >> 1 & 0xFF | 1])

    size = st.one_of(st.integers(0, 60), st.integers(0, 1500), st.integers(0, 9000))
    nal = st.builds(
        lambda k, b, n, f: head(k, b) + bytes([f]) * n, kinds, st.integers(0, 255), size, st.integers(0, 255)
    )
    return st.lists(nal, min_size=1, max_size=8)


@pytest.mark.parametrize("codec", ["h264", "h265"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_video_comes_back_byte_for_byte(codec: str, data: st.DataObject) -> None:
    units = data.draw(st.lists(nal_units(codec), min_size=1, max_size=3))
    payload_max = data.draw(st.sampled_from([64, 200, 1400, 60000]))
    donl = codec == "h265" and data.draw(st.booleans())
    aggregate = data.draw(st.booleans())
    stamp = data.draw(st.sampled_from([None, b"\x06\x05stamp" if codec == "h264" else b"\x4e\x01stamp"]))
    table = UnitTable(codec, units)
    stream = RtpStream(96, 7, 65530, payload_max=payload_max, aggregate=aggregate, donl=donl)
    sequence, orders = 65530, []
    for index, unit in enumerate(units):
        packets = [rtp(packet) for packet in stream.pack_list(table, index, 0xFFFFFFFF - index, stamp)]
        assert [packet[0] for packet in packets] == [0] * (len(packets) - 1) + [1]
        assert all(packet[1] == 96 and packet[3] == 0xFFFFFFFF - index and packet[4] == 7 for packet in packets)
        assert all(len(packet[5]) <= payload_max for packet in packets)
        for packet in packets:
            assert packet[2] == sequence & 0xFFFF
            sequence += 1
        payloads = [packet[5] for packet in packets]
        nals, order = (unpack_h264(payloads), []) if codec == "h264" else unpack_h265(payloads, donl)
        orders += order
        expected = list(table.parts(index))
        assert expected == unit
        if stamp is not None:
            sample, at = table.sample(index, stamp), 0
            expected = []
            while at < len(sample):
                size = int.from_bytes(sample[at : at + 4], "big")
                expected.append(sample[at + 4 : at + 4 + size])
                at += 4 + size
            assert [nal for nal in expected if nal != stamp] == unit
        assert nals == expected
    if donl:
        assert orders == list(range(len(orders)))
    assert stream.next_sequence == sequence & 0xFFFF


def test_interleaved_and_single_packets_are_the_same() -> None:
    table = UnitTable("h264", [[b"\x67abc", b"\x68d", b"\x65" + bytes(5000)]])
    framed = RtpStream(96, 1, 10, channel=4).pack(table, 0, 90)
    assert deinterleave(framed, 4) == RtpStream(96, 1, 10).pack_list(table, 0, 90)


def test_the_stamp_stands_before_the_first_slice() -> None:
    table = UnitTable("h264", [[b"\x09\x10", b"\x67a", b"\x68b", b"\x06c", b"\x65d", b"\x65e"], [b"\x06only"]])
    assert table.sample(0, b"\x06S").endswith(b"\x06c\0\0\0\2\x06S\0\0\0\2\x65d\0\0\0\2\x65e")
    assert table.sample(1, b"\x06S") == b"\0\0\0\5\x06only\0\0\0\2\x06S"


def test_small_nal_units_share_a_packet() -> None:
    table = UnitTable("h264", [[b"\x67a", b"\x68b", b"\x41c"]])
    assert [packet[12] for packet in RtpStream(96, 1, 0).pack_list(table, 0, 0)] == [0x60 | 24]
    assert len(RtpStream(96, 1, 0, aggregate=False).pack_list(table, 0, 0)) == 3


def test_aac_frames_have_one_header_and_may_be_cut() -> None:
    table = UnitTable("aac", [[b"a" * 300], [b"b" * 3000]])
    stream = RtpStream(97, 1, 0, payload_max=1400)
    (whole,) = (rtp(packet) for packet in stream.pack_list(table, 0, 5))
    assert whole[0] == 1
    assert whole[5] == struct.pack(">HH", 16, 300 << 3) + b"a" * 300
    pieces = [rtp(packet) for packet in stream.pack_list(table, 1, 6)]
    assert [piece[0] for piece in pieces] == [0, 0, 1]
    assert b"".join(piece[5][4:] for piece in pieces) == b"b" * 3000
    assert all(piece[5][:4] == struct.pack(">HH", 16, 3000 << 3) for piece in pieces)


@pytest.mark.parametrize("codec", ["pcma", "pcmu", "opus", "l16", "metadata"])
def test_raw_audio_is_the_payload(codec: str) -> None:
    table = UnitTable(codec, [[bytes(range(160))]])
    (packet,) = RtpStream(0, 1, 0).pack_list(table, 0, 160)
    assert rtp(packet) == (0, 0, 0, 160, 1, bytes(range(160)))
    assert table.sample(0) == bytes(range(160))
    assert table.is_key(0)


def test_key_pictures_are_told() -> None:
    table = UnitTable("h264", [[b"\x67a", b"\x65b"], [b"\x41c"], [b"\x06d"]])
    assert [table.is_key(i) for i in range(len(table))] == [True, False, False]
    assert UnitTable("h265", [[b"\x26\x01a"]]).is_key(0)
    assert not UnitTable("h265", [[b"\x02\x01a"]]).is_key(0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="without bytes"):
        UnitTable("h264", [[]])
    with pytest.raises(ValueError, match="can be sent"):
        UnitTable("h264", [[b""]])
    with pytest.raises(ValueError, match="can be sent"):
        UnitTable("h265", [[b"\x26"]])
    with pytest.raises(ValueError, match="payload_max"):
        RtpStream(96, 1, 0, payload_max=10)
    table = UnitTable("h264", [[b"\x65"]])
    with pytest.raises(IndexError):
        RtpStream(96, 1, 0).pack(table, 1, 0)
    with pytest.raises(IndexError):
        table.parts(-1)
    with pytest.raises(ValueError, match="13-bit"):
        RtpStream(97, 1, 0).pack(UnitTable("aac", [[bytes(8192)]]), 0, 0)
    with pytest.raises(ValueError, match="does not fit"):
        RtpStream(0, 1, 0).pack(UnitTable("l16", [[bytes(65001)]]), 0, 0)


def test_tcp_gives_back_what_the_kernel_does_not_take() -> None:
    table = UnitTable("h264", [[b"\x65" + bytes(2 << 20)]])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        expected = RtpStream(96, 1, 0).pack(table, 0, 9)
        rest = RtpStream(96, 1, 0).send_tcp(ours.fileno(), table, 0, 9)
        assert 0 < len(rest) < len(expected)
        taken = b""
        while len(taken) + len(rest) < len(expected):
            taken += theirs.recv(1 << 20)
        assert taken + rest == expected
        theirs.close()
        with pytest.raises(OSError, match=r"pipe|reset"):
            RtpStream(96, 1, 0).send_tcp(ours.fileno(), table, 0, 9)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_udp_sends_a_datagram_per_packet(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    table = UnitTable("h264", [[b"\x65" + bytes(100_000)]])
    with socket.socket(family, socket.SOCK_DGRAM) as ours, socket.socket(family, socket.SOCK_DGRAM) as theirs:
        try:
            theirs.bind((host, 0))
        except OSError:
            pytest.skip("this machine has no IPv6 on loopback")
        theirs.settimeout(5)
        address = pack_address(host, theirs.getsockname()[1])
        assert RtpStream(96, 1, 0).send_udp(ours.fileno(), address, table, 0, 9) == 0
        expected = RtpStream(96, 1, 0).pack_list(table, 0, 9)
        assert [theirs.recv(2048) for _ in expected] == expected
