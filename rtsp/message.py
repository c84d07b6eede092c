"""RTSP/1.0 requests and responses, parsed and written; the same code for client and server (RFC 2326).

Kept true: a message never takes more memory than its head and body bounds; a byte is looked at a bounded number
of times however slowly the bytes come; what is not RTSP is refused at its first telling byte; a header written by us
never carries a line break. Line ends may be CRLF or LF, and blanks around values go, as cameras send both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from base.errors import CameraError

HEAD_BYTES_MAX: Final = 64 << 10
BODY_BYTES_MAX: Final = 1 << 20
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE: Final = re.compile(r"(RTSP/\d\.\d)\s+([1-9][0-9]{2})(?:\s+(.*))?")
_REQUEST_LINE: Final = re.compile(r"([A-Z][A-Z_]*)\s+(\S+)\s+(RTSP/\d\.\d)")
_START: Final = re.compile(rb"RTSP/.*|[A-Z][A-Z_]{0,31}(?:[ \t].*)?", re.DOTALL)
_PREFIXES: Final = tuple(b"RTSP/"[:n] for n in range(1, 5))


class Headers:
    """Header fields in order; names compare without case; a name may occur several times."""

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items: list[tuple[str, str]] = []
        for name, value in items:
            self.add(name, value)

    def add(self, name: str, value: str) -> None:
        if any(mark in name or mark in value for mark in "\r\n\0"):
            raise ValueError(f"header {name!r} must not hold a line break")
        self._items.append((name, value))

    def get(self, name: str, default: str = "") -> str:
        """First value of that name."""
        return next(iter(self.get_all(name)), default)

    def get_all(self, name: str) -> list[str]:
        wanted = name.lower()
        return [value for key, value in self._items if key.lower() == wanted]

    def __contains__(self, name: str) -> bool:
        return bool(self.get_all(name))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"Headers({self._items!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._items == other._items

    __hash__ = None  # type: ignore[assignment]


@dataclass(slots=True)
class Request:
    """`METHOD url RTSP/1.0` with headers and body; Content-Length is written by `encode`."""

    method: str
    url: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    def encode(self) -> bytes:
        return _encode(f"{self.method} {self.url} RTSP/1.0", self.headers, self.body)


@dataclass(slots=True)
class Response:
    """`RTSP/1.0 status phrase` with headers and body; Content-Length is written by `encode`."""

    status: int
    phrase: str = ""
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    def encode(self) -> bytes:
        return _encode(f"RTSP/1.0 {self.status} {self.phrase or phrase_of(self.status)}", self.headers, self.body)


Message = Request | Response

_PHRASES: Final = {
    200: "OK", 301: "Moved Permanently", 302: "Moved Temporarily", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 408: "Request Time-out",
    413: "Request Entity Too Large", 415: "Unsupported Media Type", 453: "Not Enough Bandwidth",
    454: "Session Not Found", 455: "Method Not Valid in This State", 459: "Aggregate Operation Not Allowed",
    461: "Unsupported Transport", 500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable",
    505: "RTSP Version Not Supported", 551: "Option not supported",
}  # fmt: skip


def phrase_of(status: int) -> str:
    """The words RFC 2326 gives to a status code."""
    return _PHRASES.get(status, "Unknown")


def _encode(start: str, headers: Headers, body: bytes) -> bytes:
    if "\r" in start or "\n" in start:
        raise ValueError(f"start line {start!r} must not hold a line break")
    lines = [start, *(f"{name}: {value}" for name, value in headers if name.lower() != "content-length")]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class MessageParser:
    """Takes bytes as they come and gives whole messages; `CameraError` when they cannot become one.

    `feed` also steps over interleaved frames (`$`, channel, 16-bit length) and hands them to `on_interleaved`.
    """

    def __init__(
        self,
        *,
        head_bytes_max: int = HEAD_BYTES_MAX,
        body_bytes_max: int = BODY_BYTES_MAX,
        on_interleaved: Callable[[int, bytes], None] | None = None,
    ) -> None:
        self._head_bytes_max = head_bytes_max
        self._body_bytes_max = body_bytes_max
        self._on_interleaved = on_interleaved
        self._buffer = bytearray()
        self._message: Message | None = None  # head parsed, body still coming
        self._body_bytes = 0
        self._searched = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes kept of a message or frame that is not yet whole."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Message]:
        """All messages that `data` completes."""
        messages: list[Message] = []
        self._buffer += data
        while self._buffer:
            if self._message is None and self._buffer[0] == 0x24:
                if not self._take_frame():
                    break
            elif (message := self._take_message()) is not None:
                messages.append(message)
            else:
                break
        return messages

    def consume(self, data: bytes) -> tuple[int, Message | None]:
        """Take bytes up to the end of one message: (bytes taken, message or None when more are needed)."""
        self._buffer += data
        message = self._take_message()
        if message is None:
            return len(data), None
        left = len(self._buffer)
        self._buffer.clear()
        return len(data) - left, message

    def _take_frame(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 4:
            return False
        end = 4 + (buffer[2] << 8 | buffer[3])
        if len(buffer) < end:
            return False
        if self._on_interleaved is not None:
            self._on_interleaved(buffer[1], bytes(buffer[4:end]))
        del buffer[:end]
        return True

    def _take_message(self) -> Message | None:
        if self._message is None and not self._take_head():
            return None
        message = self._message
        if message is None or len(self._buffer) < self._body_bytes:
            return None
        message.body = bytes(self._buffer[: self._body_bytes])
        del self._buffer[: self._body_bytes]
        self._message = None
        return message

    def _take_head(self) -> bool:
        buffer = self._buffer
        if self._searched == 0:  # blank lines before a message are allowed
            blank = len(buffer) - len(buffer.lstrip(b"\r\n"))
            del buffer[:blank]
            _check_start(bytes(buffer[:40]))
        end = _HEAD_END.search(buffer, max(0, self._searched - 3))
        if end is None and len(buffer) <= self._head_bytes_max + 3:  # its end may begin at the bound and be cut
            self._searched = len(buffer) if len(buffer) >= 40 else 0
            return False
        if end is None or end.start() > self._head_bytes_max:
            raise CameraError(f"RTSP header of over {self._head_bytes_max} bytes; refused", reason="too-large")
        self._message = _parse_head(bytes(buffer[: end.start()]))
        self._searched = 0
        del buffer[: end.end()]
        self._body_bytes = _body_bytes(self._message.headers, self._body_bytes_max)
        return True


def _check_start(start: bytes) -> None:
    """Refuse at once what can never become an RTSP message."""
    if start and start not in _PREFIXES and _START.fullmatch(start) is None:
        raise CameraError(f"the peer does not speak RTSP: it sent {start[:24]!r}; check the port", reason="not-rtsp")


def _parse_head(head: bytes) -> Message:
    text = head.decode("utf-8", "replace").replace("\0", "").replace("\r\n", "\n").replace("\r", " ")
    start, *lines = text.split("\n")
    headers: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if line[:1] in (" ", "\t") and headers:  # folded line
            headers[-1] = (headers[-1][0], f"{headers[-1][1]} {line.strip()}")
        elif colon:
            headers.append((name.strip(), value.strip()))
    start = start.strip()
    if status := _STATUS_LINE.fullmatch(start):
        return Response(int(status[2]), status[3] or "", Headers(headers))
    if request := _REQUEST_LINE.fullmatch(start):
        return Request(request[1], request[2], Headers(headers))
    raise CameraError(f"the peer does not speak RTSP: it sent {start[:64]!r}; check the port", reason="not-rtsp")


def _body_bytes(headers: Headers, body_bytes_max: int) -> int:
    text = headers.get("Content-Length", "0")
    if not (text.isascii() and text.isdigit()):
        raise CameraError(f"Content-Length {text[:32]!r} is not a number", reason="protocol")
    if len(text) > 18 or int(text) > body_bytes_max:
        raise CameraError(f"body of {text[:24]} bytes announced, at most {body_bytes_max} taken", reason="too-large")
    return int(text)
