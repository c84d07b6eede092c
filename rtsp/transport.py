"""Bytes between us and a camera: one RTSP connection, and a pair of UDP ports for each track that wants them.

Kept true: every connection of the process reads into one shared buffer, which is right because it is emptied before the
event loop runs anything else; media goes from that buffer into compiled code at once; a connection that broke
a rule is cut, and its first error is kept for whoever waits on it.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final, cast

from base.errors import CameraError
from native.framing import FramingError, Interleaved
from native.rtp import Receiver
from native.udp import UdpReader
from rtsp.message import Message, MessageParser

READ_BYTES_MAX: Final = 256 << 10
_LOW_WATER_BYTES_MAX: Final = 64 << 10
_UNSENT_BYTES_MAX: Final = 64 << 10
_UDP_BUFFER_BYTES: Final = 2 << 20
_UDP_PORT_TRIES: Final = 32
_RTCP_DATAGRAMS_MAX: Final = 16
_shared = memoryview(bytearray(READ_BYTES_MAX))

OnRtcp = Callable[[int, bytes], None]


def monotonic_us() -> int:
    """CLOCK_MONOTONIC, the clock of all arrival times."""
    return time.monotonic_ns() // 1000


class Connection(asyncio.BufferedProtocol):
    """One RTSP connection. Until `interleave` all that comes is RTSP text, from then on frames and text."""

    def __init__(self, on_message: Callable[[Message], None], on_rtcp: OnRtcp, on_lost: Callable[[], None]) -> None:
        self.error: Exception | None = None
        self.lost = False
        self.certificate = ""  # SHA-256 of what the camera showed in TLS
        self._on_message = on_message
        self._on_lost = on_lost
        self._parser = MessageParser()
        self._framing: Interleaved | None = None
        self._on_rtcp = on_rtcp
        self._transport: asyncio.Transport | None = None
        self._low_water_bytes = 1
        self._received_bytes = 0
        self._paced_bytes = 0
        self._paced_us = 0

    @property
    def made(self) -> bool:
        """True from the moment that TCP stands."""
        return self._transport is not None

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Go on inside TLS; nothing has been sent or received before."""
        transport = self._transport
        assert transport is not None
        secure = await asyncio.get_running_loop().start_tls(transport, self, context, server_hostname=host)
        if secure is None:
            raise ConnectionError("the camera closed the connection")
        self._transport = secure
        certificate = secure.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.certificate = hashlib.sha256(certificate or b"").hexdigest()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        why = f": {error}" if error is not None else ""
        self._fail(CameraError(f"the camera closed the connection{why}", reason="ended"))
        self._on_lost()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _shared

    def buffer_updated(self, nbytes: int) -> None:
        if self.error is not None:
            return
        self._received_bytes += nbytes
        try:
            if self._framing is not None:
                self._framing.feed(_shared, nbytes, monotonic_us())
            else:
                for message in self._parser.feed(bytes(_shared[:nbytes])):
                    self._on_message(message)
        except FramingError as error:
            self._break(CameraError(f"the camera sends no RTSP any more: {error}", reason="protocol"))
        except Exception as error:  # ours, not the camera's: whoever waits gets it as it is
            self._break(error)

    def _break(self, error: Exception) -> None:
        self._fail(error)
        self.abort()
        self._on_lost()

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error

    def interleave(self) -> Interleaved:
        """From now on frames may come; their tracks are assigned to what this returns."""
        if self._framing is None:
            self._framing = Interleaved(self._on_text, self._on_rtcp)
        return self._framing

    def _on_text(self, data: bytes) -> int:
        taken, message = self._parser.consume(data)
        if message is None:
            return -1
        self._on_message(message)
        return taken

    def write(self, data: bytes) -> None:
        """Send; a camera that does not read what we send is cut."""
        if self._transport is None or self.lost:
            return
        if self._transport.get_write_buffer_size() > _UNSENT_BYTES_MAX:
            self._break(CameraError("the camera does not read what we send", reason="protocol"))
        else:
            self._transport.write(data)

    def pace(self, now_us: int, every_us: int) -> None:
        """Let the kernel gather about `every_us` of what comes before it wakes us: a read costs more than its bytes.

        To be called a few times a second; what a camera that fell silent sent last is read at the next call.
        """
        gone_us, came = now_us - self._paced_us, self._received_bytes - self._paced_bytes
        self._paced_us, self._paced_bytes = now_us, self._received_bytes
        wanted = min(came * every_us // max(gone_us, every_us), _LOW_WATER_BYTES_MAX)
        if came == 0 or not self._low_water_bytes // 2 <= wanted <= self._low_water_bytes * 2:
            self.set_low_water(max(wanted, 1))

    def set_low_water(self, size: int) -> None:
        """Be woken when `size` bytes have come, or the end (SO_RCVLOWAT, socket(7)); 1 for every byte at once."""
        if size == self._low_water_bytes or self._transport is None or self.lost:
            return
        self._low_water_bytes = size
        sock = socket.socket(fileno=self._transport.get_extra_info("socket").fileno())
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
        finally:
            sock.detach()  # the transport owns it

    def local_host(self) -> str:
        """Our address as the camera sees it, for the UDP ports."""
        return self._address("sockname")

    def peer_host(self) -> str:
        """The camera's address."""
        return self._address("peername")

    def _address(self, name: str) -> str:
        address = self._transport.get_extra_info(name) if self._transport is not None else None
        return str(address[0]) if address else ""

    def abort(self) -> None:
        """Close at once; harmless when closed."""
        if self._transport is not None:
            self._transport.abort()


class UdpPair:
    """Two neighbouring UDP ports, RTP on the even one; only datagrams from the camera's ports are taken."""

    def __init__(self, local_host: str) -> None:
        self._rtp, self._rtcp = _neighbours(local_host)
        self._reading = False
        self.port: int = self._rtp.getsockname()[1]

    def start(
        self, host: str, ports: tuple[int, int], receiver: Receiver,
        on_rtcp: Callable[[bytes], None], on_error: Callable[[Exception], None],
    ) -> None:  # fmt: skip
        """Take what `host` sends from these ports; a first datagram of ours opens firewalls on the way."""
        loop = asyncio.get_running_loop()
        try:
            self._rtp.connect((host, ports[0]))
            self._rtcp.connect((host, ports[1]))
        except OSError as error:
            raise CameraError(f"no UDP to {host} ports {ports[0]}-{ports[1]}: {error}", reason="unreachable") from None
        reader = UdpReader(self._rtp.fileno(), receiver)
        loop.add_reader(self._rtp.fileno(), self._drain, reader, on_error)
        loop.add_reader(self._rtcp.fileno(), self._drain_rtcp, reader, on_rtcp, on_error)
        self._reading = True
        self._send(self._rtp, b"\x80\x7f" + bytes(10))

    @staticmethod
    def _drain(reader: UdpReader, on_error: Callable[[Exception], None]) -> None:
        try:
            reader.drain(monotonic_us())
        except Exception as error:
            on_error(error)

    def _drain_rtcp(
        self, reader: UdpReader, on_rtcp: Callable[[bytes], None], on_error: Callable[[Exception], None]
    ) -> None:
        self._drain(reader, on_error)  # what was sent before a BYE comes before it
        for _ in range(_RTCP_DATAGRAMS_MAX):
            try:
                data = self._rtcp.recv(2048)
            except OSError:
                return
            on_rtcp(data)

    def send_rtcp(self, data: bytes) -> None:
        """A report to the camera; UDP may lose it."""
        self._send(self._rtcp, data)

    @staticmethod
    def _send(sock: socket.socket, data: bytes) -> None:
        try:
            sock.send(data)
        except OSError:  # a report is not worth a session; silence is noticed elsewhere
            return

    def close(self) -> None:
        """Release both ports; harmless when released."""
        if self._reading:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._rtp.fileno())
            loop.remove_reader(self._rtcp.fileno())
            self._reading = False
        self._rtp.close()
        self._rtcp.close()


def _neighbours(local_host: str) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in local_host else socket.AF_INET
    for _ in range(_UDP_PORT_TRIES):
        first = _udp_socket(family)
        second = _udp_socket(family)
        try:
            first.bind((local_host, 0))
            port = first.getsockname()[1]
            if port % 2 == 0:
                second.bind((local_host, port + 1))
                return first, second
        except OSError:
            pass
        first.close()
        second.close()
    raise CameraError(f"no two neighbouring UDP ports are free on {local_host}; use TCP", reason="unreachable")


def _udp_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UDP_BUFFER_BYTES)
    return sock
