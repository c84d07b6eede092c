"""Values of the headers that set up media: Transport, Session, RTP-Info, Public (RFC 2326 §12).

Kept true: what a camera writes oddly is left out, never guessed at: a number that is none becomes None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

SESSION_TIMEOUT_S: Final = 60  # RFC 2326 §12.37
_RTP_INFO_BYTES_MAX: Final = 8 << 10


@dataclass(frozen=True, slots=True)
class TransportReply:
    """What a camera granted: interleaved channels, or its UDP ports and source address."""

    interleaved: tuple[int, int] | None = None
    server_ports: tuple[int, int] | None = None
    source: str = ""
    ssrc: int | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """Session identifier and the time after which an idle one ends."""

    id: str
    timeout_s: int = SESSION_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class RtpInfo:
    """Where a track begins after PLAY; a camera that does not know sends -1 or nothing."""

    url: str
    sequence: int | None = None
    rtp_time: int | None = None
    ssrc: int | None = None


def parse_transport(text: str) -> TransportReply:
    """The first transport of a SETUP answer."""
    fields = _fields(text.split(",")[0])
    return TransportReply(
        interleaved=_pair(fields.get("interleaved", ""), 255),
        server_ports=_pair(fields.get("server_port", ""), 65535),
        source=fields.get("source", ""),
        ssrc=_number(fields.get("ssrc", ""), 16),
    )


def parse_session(text: str) -> Session | None:
    """None when the header is missing or empty."""
    identifier, *rest = (part.strip() for part in text.split(";"))
    if not identifier:
        return None
    timeout_s = _number(_fields(";".join(rest)).get("timeout", ""), 10)
    return Session(identifier, min(max(timeout_s, 2), 86_400) if timeout_s else SESSION_TIMEOUT_S)


def parse_rtp_info(text: str) -> list[RtpInfo]:
    """One entry per track of a PLAY answer; a URL may hold commas and semicolons."""
    found = []
    for part in re.split(r",\s*(?=url=)", text[:_RTP_INFO_BYTES_MAX]):
        url = re.match(r"\s*url=(.*?)(?=;\s*(?:seq|rtptime|ssrc)=|;?\s*$)", part, re.IGNORECASE)
        if url is not None:
            fields = _fields(part[url.end() :])
            sequence = _number(fields.get("seq", ""), 10)
            rtp_time = _number(fields.get("rtptime", ""), 10)
            found.append(RtpInfo(url[1].strip('"'), sequence, rtp_time, _number(fields.get("ssrc", ""), 16)))
    return found


def parse_public(text: str) -> frozenset[str]:
    """Method names a server offers."""
    return frozenset(name.strip().upper() for name in text.split(",") if name.strip())


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in text.split(";"):
        name, _, value = part.partition("=")
        fields.setdefault(name.strip().lower(), value.strip().strip('"'))
    return fields


def _number(text: str, base: int) -> int | None:
    """A number of 32 bits, else None."""
    if re.fullmatch(r"[0-9A-Fa-f]{1,10}", text) is None:
        return None
    try:
        value = int(text, base)
    except ValueError:
        return None
    return value if value < 1 << 32 else None


def _pair(text: str, most: int) -> tuple[int, int] | None:
    """`a-b` or `a`, which means a-(a+1)."""
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text)
    if match is None:
        return None
    first = int(match[1])
    second = int(match[2]) if match[2] else first + 1
    return (first, second) if max(first, second) <= most else None
