"""The sending half of one RTSP connection.

Kept true: bytes leave in the order they were handed over, media and answers alike; nothing is dropped in silence: a
receiver too slow for `OUTBOX_BYTES_MAX` loses its connection and is counted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from native.packetize import RtpStream, UnitTable

OUTBOX_BYTES_MAX: Final = 16 << 20


class Outbox:
    """The sending half of one RTSP connection.

    Without TLS bytes go straight to the socket, once per picture and without a copy in between; the transport reads
    and closes. What the kernel does not take waits here. With TLS everything goes through the transport.
    """

    def __init__(self, transport: asyncio.Transport, on_overrun: Callable[[], None]) -> None:
        self._transport = transport
        self._on_overrun = on_overrun
        self._loop = asyncio.get_running_loop()
        self._fd = -1
        self._waiting = bytearray()
        self._writable_fd = -1  # the loop watches no transport's own descriptor for writing: it watches a duplicate
        self._closing = False
        if transport.get_extra_info("ssl_object") is None:
            self._fd = transport.get_extra_info("socket").fileno()

    def send_unit(self, stream: RtpStream, table: UnitTable, index: int, time: int, stamp: bytes | None) -> None:
        """Packs one unit for interleaved transport and sends it."""
        if self._closing:
            return
        if self._fd < 0 or self._waiting:
            self.write(stream.pack(table, index, time, stamp))
            return
        try:
            rest = stream.send_tcp(self._fd, table, index, time, stamp)
        except OSError:
            self.abort()
            return
        if rest:
            self._wait(rest)

    def write(self, data: bytes) -> None:
        """Sends bytes after all that was handed over before."""
        if self._closing or not data:
            return
        if self._fd < 0:
            if self._transport.get_write_buffer_size() > OUTBOX_BYTES_MAX:
                self._overrun()
            else:
                self._transport.write(data)
        elif self._waiting:
            self._wait(data)
        else:
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.abort()
                return
            if sent < len(data):
                self._wait(data[sent:])

    def _wait(self, data: bytes) -> None:
        if len(self._waiting) + len(data) > OUTBOX_BYTES_MAX:
            self._overrun()
            return
        self._waiting += data
        if self._writable_fd < 0:
            self._writable_fd = os.dup(self._fd)
            self._loop.add_writer(self._writable_fd, self._on_writable)

    def _on_writable(self) -> None:
        try:
            sent = os.write(self._fd, self._waiting)
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        del self._waiting[:sent]
        if not self._waiting:
            self._unwatch()
            if self._closing:
                self._transport.close()

    def _unwatch(self) -> None:
        if self._writable_fd >= 0:
            self._loop.remove_writer(self._writable_fd)
            os.close(self._writable_fd)
            self._writable_fd = -1

    def _overrun(self) -> None:
        self._on_overrun()
        self.abort()

    def close(self) -> None:
        """Sends what waits, then closes."""
        self._closing = True
        if not self._waiting:
            self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._closing = True
        self._waiting.clear()
        self._unwatch()
        self._transport.abort()
