from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from native.rtp import Receiver
from native.sink import CollectSink
from native.udp import UdpReader

UDP_SEGMENT = 103  # udp(7); not in Python's socket module


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as theirs:
        for sock in (ours, theirs):
            sock.bind(("127.0.0.1", 0))
        ours.connect(theirs.getsockname())
        theirs.connect(ours.getsockname())
        yield ours, theirs


def packet(sequence: int, payload: bytes) -> bytes:
    return b"\x80\x60" + sequence.to_bytes(2, "big") + bytes(4) + b"\0\0\0\1" + payload


def test_everything_that_arrived_is_taken_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    sink = CollectSink(length_prefix=False)
    reader = UdpReader(ours.fileno(), Receiver("pcmu", sink, payload_type=96))
    payloads = [b"%d" % n * (1 + n % 1300) for n in range(100)]
    for n, payload in enumerate(payloads):
        theirs.send(packet(n, payload))
    assert reader.drain(5) == 100
    assert [unit[2] for unit in sink.units] == payloads
    assert {unit[1] for unit in sink.units} == {5}
    assert reader.drain(6) == 0


def test_one_call_takes_a_bounded_number(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    reader = UdpReader(ours.fileno(), Receiver("pcmu", CollectSink(), payload_type=96))
    for n in range(600):
        theirs.send(packet(n, b"x"))
    counts = [reader.drain(n) for n in range(3)]
    assert counts[0] <= 256
    assert counts[-1] > 0
    assert reader.datagrams == sum(counts)


def test_datagrams_that_come_as_one_message_are_cut_apart(pair: tuple[socket.socket, socket.socket]) -> None:
    """The sender hands the kernel 20 packets of one size and a shorter one at once, which stay together on loopback."""
    ours, theirs = pair
    sink = CollectSink(length_prefix=False)
    reader = UdpReader(ours.fileno(), Receiver("pcmu", sink, payload_type=96))
    payloads = [bytes([n]) * (700 if n < 20 else 33) for n in range(21)]
    packets = b"".join(packet(n, payload) for n, payload in enumerate(payloads))
    theirs.sendmsg([packets], [(socket.IPPROTO_UDP, UDP_SEGMENT, (712).to_bytes(2, "little"))])
    assert len(ours.recv(65536, socket.MSG_PEEK)) == len(packets)
    assert reader.drain(1) == 21
    assert [unit[2] for unit in sink.units] == payloads


def test_odd_datagrams_are_counted(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiver = Receiver("pcmu", CollectSink(), payload_type=96)
    reader = UdpReader(ours.fileno(), receiver)
    for data in (b"", b"x", packet(1, bytes(40_000)), packet(2, b"good")):
        theirs.send(data)
    reader.drain(1)
    assert reader.datagrams == 4
    assert (receiver.malformed_packets, receiver.packets) == (2, 2)


def test_a_closed_socket_is_an_error_and_an_absent_peer_is_none(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    ours.send(b"anyone?")
    reader = UdpReader(ours.fileno(), Receiver("pcmu", CollectSink()))
    assert reader.drain(1) == 0
    ours.close()
    with pytest.raises(OSError, match="descriptor"):
        reader.drain(1)
