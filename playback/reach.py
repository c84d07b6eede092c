"""Which addresses a camera test may connect to, asked for by somebody who calls the API.

Kept true: every address is judged that a name stands for, and again the one that a connection was really made to,
before anything is sent there.

A caller who may test a camera may also register one, so a test opens no way that registering does not; it only answers
sooner. Refused is what no camera has: link-local addresses, where clouds keep their machines' credentials, multicast
(but for udp://), broadcast, unspecified and reserved ones, and this machine itself unless the API is on loopback too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from base.errors import CameraError

ADDRESSES_MAX: Final = 16  # that one name may stand for
_THIS_NETWORK: Final = ipaddress.ip_network("0.0.0.0/8")
_WORDS: Final = (
    ("is_unspecified", "is no machine's address"),
    ("is_loopback", "is this machine itself, which is tested only where the API is on loopback too"),
    ("is_link_local", "is link-local, where no camera is tested"),
    ("is_multicast", "is multicast; only udp:// has that"),
    ("is_reserved", "is reserved"),
)


def refusal(address: str, *, loopback: bool, multicast: bool = False) -> str:
    """Why this address is not called; empty when it may be."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "cannot be read as an address"
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    if (loopback and ip.is_loopback) or (multicast and ip.is_multicast):
        return ""
    if ip.version == 4 and ip in _THIS_NETWORK:
        return _WORDS[0][1]
    return next((word for name, word in _WORDS if getattr(ip, name)), "")


async def addresses(url: str, *, loopback: bool) -> list[str]:
    """What the address's host stands for; `CameraError` refused-address when one of these may not be called."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, parts.port or 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is no name"
        raise CameraError(f"host {host[:200]} is not known: {why}", reason="unreachable") from None
    known = list(dict.fromkeys(str(entry[4][0]) for entry in found))[:ADDRESSES_MAX]
    for address in known:
        judge(address, loopback=loopback, multicast=parts.scheme == "udp")
    return known


def judge(address: str, *, loopback: bool, multicast: bool = False) -> None:
    """`CameraError` refused-address when a test may not connect there."""
    if word := refusal(address, loopback=loopback, multicast=multicast):
        raise CameraError(f"{address} {word}; nothing was sent", reason="refused-address")


def pinned(url: str, address: str) -> str:
    """The URL with the address in place of the name, so that nobody looks the name up again and finds another."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{address}]" if ":" in address else address
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}{port}"))
