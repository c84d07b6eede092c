"""ONVIF devices on the network, by WS-Discovery (OASIS WS-Discovery 1.1, ONVIF Core §7).

Kept true: the search ends when its time is up; at most `DEVICES_MAX` devices are kept and `ANSWERS_MAX` answers read,
whatever arrives; an answer counts with the address it came from, not with the one it claims.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from base.errors import UserError
from sources.onvif import library

GROUP: Final = "239.255.255.250"
PORT: Final = 3702
PROBES: Final = 3  # multicast is lossy
DEVICES_MAX: Final = 1024
ANSWERS_MAX: Final = 8192
TEXT_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class Found:
    """One device that answered; `service` is where its device service is said to be."""

    address: str
    service: str
    name: str = ""
    hardware: str = ""
    location: str = ""
    endpoint: str = ""


class _Answers(asyncio.DatagramProtocol):
    """What came back on one socket."""

    def __init__(self, found: dict[str, Found], left: list[int]) -> None:
        self._found = found
        self._left = left

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._left[0] -= 1
        if self._left[0] < 0:
            return
        for device in read_answer(data, addr[0]):
            if len(self._found) < DEVICES_MAX:
                self._found.setdefault(device.endpoint or f"{device.address} {device.service}", device)

    def error_received(self, exc: Exception) -> None:
        """An interface that is down answers nothing."""


def read_answer(data: bytes, sender: str) -> list[Found]:
    """Devices of one ProbeMatches message; none when it is anything else."""
    wsdiscovery = library("wsdiscovery")
    devices = []
    for match in wsdiscovery.parse_probe_matches(data.decode("utf-8", "replace"))[:8]:
        addresses = [address for address in match.xaddrs if _is_http(address)]
        if not addresses:
            continue
        service = next((one for one in addresses if urlsplit(one).hostname == sender), addresses[0])
        name, hardware, location, endpoint = (
            _plain(text) for text in (match.name, match.hardware, match.location, match.endpoint_reference)
        )
        devices.append(Found(sender, service[:512], name, hardware, location, endpoint))
    return devices


async def discover(timeout_s: float, interfaces: Iterable[str] | None = None) -> list[Found]:
    """Ask on each interface (IPv4 addresses of ours; all that are up when None) for `timeout_s`, in all."""
    wsdiscovery = library("wsdiscovery")
    found: dict[str, Found] = {}
    left = [ANSWERS_MAX]
    loop = asyncio.get_running_loop()
    transports = []
    for interface in list(interfaces) if interfaces is not None else local_addresses():
        sock = _socket(interface)
        if sock is not None:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Answers(found, left), sock=sock)
            transports.append(transport)
    if not transports:
        raise UserError("no network can be asked; name an IPv4 address of this machine as --interface")
    try:
        for _ in range(PROBES):
            probe = wsdiscovery.build_probe(message_id=f"urn:uuid:{uuid.uuid4()}").encode()
            for transport in transports:
                transport.sendto(probe, (GROUP, PORT))
            await asyncio.sleep(timeout_s / PROBES)
    finally:
        for transport in transports:
            transport.close()
    return sorted(found.values(), key=lambda one: (socket.inet_aton(one.address), one.service))


def local_addresses() -> list[str]:
    """Our IPv4 addresses but for loopback, as the kernel's routing table has them; loopback when there is no other."""
    addresses: list[str] = []
    try:
        lines = Path("/proc/net/fib_trie").read_text().splitlines()
    except OSError:
        lines = []
    for line, after in pairwise(lines):
        address = line.rpartition("|-- ")[2].strip()
        if "host LOCAL" in after and not address.startswith("127.") and address not in addresses:
            addresses.append(address)
    return addresses[:64] or ["127.0.0.1"]


def _socket(interface: str) -> socket.socket | None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
        sock.bind((interface, 0))
    except OSError:
        sock.close()
        return None
    return sock


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and address.isprintable()
    except ValueError:
        return False


def _plain(text: str) -> str:
    """For a terminal: scopes are percent-encoded, and may hold anything."""
    return "".join(letter for letter in unquote(text) if letter.isprintable())[:TEXT_MAX]
