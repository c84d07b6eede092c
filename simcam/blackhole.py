"""A port where nobody answers: every SYN is dropped by the kernel, as behind a switch that reboots.

Kept true: no privilege is needed and no packet filter: a listener whose queue of accepted connections is full
drops SYNs (Linux, with tcp_abort_on_overflow off, which is the default).
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final

_FILLING_MAX: Final = 8
_FILLED_S: Final = 0.2


class Blackhole:
    """Holds a port from its making to `close`."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, port))
        self._listener.listen(0)
        self._fillers: list[socket.socket] = []
        while len(self._fillers) < _FILLING_MAX and self._answers(family, host, port):
            pass

    def _answers(self, family: socket.AddressFamily, host: str, port: int) -> bool:
        """Take one place in the queue; False once SYNs are dropped."""
        filler = socket.socket(family, socket.SOCK_STREAM)
        filler.settimeout(_FILLED_S)
        self._fillers.append(filler)
        with contextlib.suppress(TimeoutError):
            filler.connect((host, port))
            return True
        return False

    def close(self) -> None:
        """Leaves the port."""
        for sock in (*self._fillers, self._listener):
            sock.close()
