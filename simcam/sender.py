"""How the packets of one RTP stream leave: interleaved in the RTSP connection or over UDP, with their RTCP reports.

Kept true: without faults a unit costs one packing and one call to the kernel; the UDP sockets are shared by all
sessions; what the kernel refuses of a datagram burst is counted, as a network that drops.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Final

from native.packetize import RtpStream, UnitTable
from simcam.faults import Faults, PacketFaults
from simcam.outbox import Outbox

_NTP_UNIX_S: Final = 2_208_988_800  # RFC 5905 §6: NTP counts from 1900


class UdpPair:
    """The server's RTP and RTCP sockets, shared by all sessions: an even port and the next (RFC 3550 §11)."""

    def __init__(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.family = family
        for _ in range(64):
            rtp, rtcp = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
            try:
                rtp.bind((host, 0))
                port = rtp.getsockname()[1]
                if port % 2 == 0:
                    rtcp.bind((host, port + 1))
                    break
            except OSError:
                pass
            rtp.close()
            rtcp.close()
        else:
            raise OSError(f"no free pair of UDP ports on {host}")
        self.rtp, self.rtcp, self.port = rtp, rtcp, port
        for sock in (rtp, rtcp):
            sock.setblocking(False)
        rtp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)

    def close(self) -> None:
        """Closes both sockets."""
        self.rtp.close()
        self.rtcp.close()


def pack_address(host: str, port: int) -> bytes:
    """A socket address as the kernel reads it (Linux layout of sockaddr_in and sockaddr_in6)."""
    if ":" in host:
        return struct.pack(
            "=HHI16sI", socket.AF_INET6, socket.htons(port), 0, socket.inet_pton(socket.AF_INET6, host), 0
        )
    return struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), socket.inet_aton(host))


class Sender:
    """One RTP stream of a session, over its connection or over UDP."""

    def __init__(self, stream: RtpStream, clock_hz: int, first_time: int, faults: Faults, seed: str) -> None:
        self.stream = stream
        self.clock_hz = clock_hz
        self.time_offset = first_time
        self.started = False
        self._faults = faults
        self._packet_faults = PacketFaults(faults, seed)

    def send(self, table: UnitTable, index: int, ticks: int, stamp: bytes | None, cut: bool = False) -> bool:
        """Sends one unit, or its later half; True when a packet of it was lost or changed."""
        time = ticks + self.time_offset & 0xFFFFFFFF
        faults = self._packet_faults
        if not cut and not self._faults.on_packets:
            if faults.held:
                self._send_packets(faults.apply(())[0])
            self._send_whole(table, index, time, stamp)
            return False
        packets = self.stream.pack_list(table, index, time, stamp)
        packets, damaged = faults.apply(packets[(len(packets) + 1) // 2 :] if cut else packets)
        self._send_garbage(faults.garbage())
        self._send_packets(packets)
        return damaged or cut

    def report(self, media_us: int, camera_us: int) -> None:
        """Sends a sender report: media time `media_us` is the instant `camera_us` of the camera's clock."""
        ticks = media_us * self.clock_hz // 1_000_000 + self.time_offset & 0xFFFFFFFF
        seconds, rest_us = divmod(camera_us, 1_000_000)
        ntp = (seconds + _NTP_UNIX_S << 32) + (rest_us << 32) // 1_000_000 & 0xFFFFFFFFFFFFFFFF
        stream = self.stream
        head = struct.pack(
            ">BBHIQIII", 0x80, 200, 6, stream.ssrc, ntp, ticks, stream.packets, stream.payload_bytes & 0xFFFFFFFF
        )
        self.send_rtcp(head + struct.pack(">BBHIBB6s", 0x81, 202, 3, stream.ssrc, 1, 6, b"simcam"))

    def bye(self) -> None:
        """Says that the stream ends (RFC 3550 §6.6), after an empty receiver report as its compound demands."""
        ssrc = self.stream.ssrc
        self.send_rtcp(struct.pack(">BBHIBBHI", 0x80, 201, 1, ssrc, 0x81, 203, 1, ssrc))

    def _send_whole(self, table: UnitTable, index: int, time: int, stamp: bytes | None) -> None:
        raise NotImplementedError

    def _send_packets(self, packets: list[bytes]) -> None:
        raise NotImplementedError

    def _send_garbage(self, data: bytes) -> None:
        raise NotImplementedError

    def send_rtcp(self, data: bytes) -> None:
        """Sends one compound RTCP packet."""
        raise NotImplementedError


class TcpSender(Sender):
    """Interleaved in the RTSP connection (RFC 2326 §10.12)."""

    def __init__(
        self, stream: RtpStream, clock_hz: int, first_time: int, faults: Faults, seed: str, outbox: Outbox, channel: int
    ) -> None:
        super().__init__(stream, clock_hz, first_time, faults, seed)
        self._outbox = outbox
        self._channel = channel

    def _frame(self, channel: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0x24, channel, len(data)) + data

    def _send_whole(self, table: UnitTable, index: int, time: int, stamp: bytes | None) -> None:
        self._outbox.send_unit(self.stream, table, index, time, stamp)

    def _send_packets(self, packets: list[bytes]) -> None:
        self._outbox.write(b"".join(self._frame(self._channel, packet) for packet in packets))

    def _send_garbage(self, data: bytes) -> None:
        self._outbox.write(data)

    def send_rtcp(self, data: bytes) -> None:
        """Sends one compound RTCP packet."""
        self._outbox.write(self._frame(self._channel + 1, data))


class UdpSender(Sender):
    """A datagram per packet from the server's pair of ports to the client's."""

    def __init__(
        self, stream: RtpStream, clock_hz: int, first_time: int, faults: Faults, seed: str, pair: UdpPair,
        host: str, ports: tuple[int, int],
    ) -> None:  # fmt: skip
        super().__init__(stream, clock_hz, first_time, faults, seed)
        self._pair = pair
        self._rtp_to, self.rtcp_to = (host, ports[0]), (host, ports[1])
        self._address = pack_address(host, ports[0])
        self.untaken = 0

    def _send_whole(self, table: UnitTable, index: int, time: int, stamp: bytes | None) -> None:
        self.untaken += self.stream.send_udp(self._pair.rtp.fileno(), self._address, table, index, time, stamp)

    def _send_packets(self, packets: list[bytes]) -> None:
        for packet in packets:
            with contextlib.suppress(OSError):
                self._pair.rtp.sendto(packet, self._rtp_to)

    def _send_garbage(self, data: bytes) -> None:
        if data:
            self._send_packets([data])

    def send_rtcp(self, data: bytes) -> None:
        """Sends one compound RTCP packet."""
        with contextlib.suppress(OSError):
            self._pair.rtcp.sendto(data, self.rtcp_to)
