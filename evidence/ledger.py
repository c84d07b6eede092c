"""One entry of a stream's ledger, to bytes and back (docs/format/ledger.md).

Kept true: what is here and on that page is the same, a test compares them; numbers are big-endian; an entry that cannot
be read is refused by name and place, never guessed at; what lies behind the last whole entry of a file is a torn end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from hashlib import sha256
from typing import Any, Final, NamedTuple

from base.errors import DamageError, FormatError

FORMAT_VERSION: Final = 1
MAGIC: Final = b"KL"
HEADER: Final = struct.Struct(">2sBBIQq32s")
CRC: Final = struct.Struct(">I")
ENTRY_BYTES_MAX: Final = 65536
TEXT_BYTES_MAX: Final = 4096  # longer ones are cut when they are written
SIGNED_CONTEXT: Final = b"keyreel-ledger-head-1\0"
SIGNATURE_BYTES: Final = 64
NO_HASH: Final = bytes(32)


class Kind(IntEnum):
    """What an entry says; a number never changes its meaning."""

    LEDGER = 1
    SESSION = 2
    EPOCH = 3
    CLOCK = 4
    OPENED = 5
    CHUNK = 6
    GAP = 7
    HEAD = 8
    CAMERA = 9
    MISSED = 10
    STAMP = 11


class SessionEvent(IntEnum):
    """Of `Session.event`."""

    BEGAN = 1
    ENDED = 2


class ChunkState(IntEnum):
    """Of `Chunk.state`."""

    GROWING = 1
    SEALED = 2
    GIVEN_UP = 3
    FOUND = 4


class CameraVerdict(IntEnum):
    """Of `Camera.verdict`: what the camera's own signatures said."""

    NOT_EXAMINED = 0
    AUTHENTIC = 1
    UNITS_MISSING = 2
    NOT_AUTHENTIC = 3
    NOT_SIGNED = 4
    NO_LONGER_SIGNED = 5


class Ledger(NamedTuple):
    """Whose ledger this is; first entry of each file."""

    ledger: bytes
    node: bytes
    stream_id: int
    stream: str
    software: str


class Session(NamedTuple):
    """The camera's connection began or ended."""

    run: int
    event: int
    cause: int
    detail: str


class Epoch(NamedTuple):
    """Another codec configuration."""

    epoch: int
    config: bytes


class ClockNote(NamedTuple):
    """What is known of the node's clock, when that changed."""

    state: int
    error_us: int
    ahead_us: int
    detail: str


class Opened(NamedTuple):
    """A chunk was begun."""

    opening: bytes
    volume: bytes
    sequence: int
    epoch: int
    run: int
    start_us: int
    header_bytes: int
    header: bytes


class Chunk(NamedTuple):
    """Root over a chunk's fragments [first, first + fragments) by number, all on stable storage."""

    opening: bytes
    sequence: int
    state: int
    first: int
    fragments: int
    start_us: int
    end_us: int
    size: int
    root: bytes


class GapNote(NamedTuple):
    """Stored absence."""

    start_us: int
    end_us: int
    cause: int
    packets: int


class Head(NamedTuple):
    """Signature over all before it."""

    ledger: bytes
    key: bytes
    signature: bytes


class Camera(NamedTuple):
    """What the camera's own signatures said."""

    start_us: int
    end_us: int
    sequence: int
    fragment: int
    verdict: int
    certificate: bytes
    detail: str


class Missed(NamedTuple):
    """Entries that could not be written."""

    entries: int
    start_us: int
    end_us: int
    reason: str


class Stamp(NamedTuple):
    """Time stamp of an authority on a head."""

    head_number: int
    head_hash: bytes
    token: bytes


Content = Ledger | Session | Epoch | ClockNote | Opened | Chunk | GapNote | Head | Camera | Missed | Stamp
# Per kind its class and layout: struct's letters, `t` a text, `b` bytes with their length before them, `xx` reserved.
LAYOUTS: Final[dict[Kind, tuple[type[Content], str]]] = {
    Kind.LEDGER: (Ledger, "16s 16s I t t"),
    Kind.SESSION: (Session, "I H H t"),
    Kind.EPOCH: (Epoch, "I 32s"),
    Kind.CLOCK: (ClockNote, "H xx q q t"),
    Kind.OPENED: (Opened, "16s 16s I I I q I 32s"),
    Kind.CHUNK: (Chunk, "16s I H xx I I q q Q 32s"),
    Kind.GAP: (GapNote, "q q H xx I"),
    Kind.HEAD: (Head, "16s 32s 64s"),
    Kind.CAMERA: (Camera, "q q I I H xx 32s t"),
    Kind.MISSED: (Missed, "I q q t"),
    Kind.STAMP: (Stamp, "Q 32s b"),
}
KIND_OF: Final = {layout[0]: kind for kind, layout in LAYOUTS.items()}
_PARTS: Final = {kind: tuple(text.split()) for kind, (_, text) in LAYOUTS.items()}


class Entry(NamedTuple):
    """One entry as it stands in the file."""

    number: int
    time_us: int
    previous: bytes
    content: Content
    raw: bytes

    @property
    def kind(self) -> Kind:
        """What it says."""
        return KIND_OF[type(self.content)]

    @property
    def hash(self) -> bytes:
        """What the next entry names as `previous`."""
        return sha256(self.raw).digest()


def pack_entry(number: int, time_us: int, previous: bytes, content: Content) -> Entry:
    """The entry with this place in the chain."""
    kind = KIND_OF[type(content)]
    body = b"".join(_pack(kind, content))
    length = HEADER.size + len(body) + CRC.size
    if length > ENTRY_BYTES_MAX:
        raise ValueError(f"a ledger entry of {length} bytes; {ENTRY_BYTES_MAX} is the most")
    head = HEADER.pack(MAGIC, kind, FORMAT_VERSION, length, number, time_us, previous) + body
    return Entry(number, time_us, previous, content, head + CRC.pack(zlib.crc32(head)))


def signed_bytes(raw: bytes) -> bytes:
    """Of a head's bytes: what its signature is over."""
    return SIGNED_CONTEXT + raw[: -SIGNATURE_BYTES - CRC.size]


def unpack_entry(data: bytes | memoryview, at: int = 0) -> Entry | None:
    """The entry at data[at:]; None where `data` ends before it does or it fails its CRC: a torn end, or damage.

    FormatError for an entry of a later version.
    """
    if len(data) - at < HEADER.size + CRC.size:
        return None
    magic, kind, version, length, number, time_us, previous = HEADER.unpack_from(data, at)
    if magic != MAGIC or not HEADER.size + CRC.size <= length <= min(ENTRY_BYTES_MAX, len(data) - at):
        return None
    raw = bytes(data[at : at + length])
    if zlib.crc32(raw[: -CRC.size]) != CRC.unpack_from(raw, length - CRC.size)[0]:
        return None
    if version != FORMAT_VERSION or kind not in LAYOUTS:
        raise FormatError(
            f"ledger entry {number} is of version {version}, kind {kind}; this version reads {FORMAT_VERSION}, "
            "use a newer one"
        )
    return Entry(number, time_us, previous, _unpack(Kind(kind), raw, number), raw)


def read_entries(data: bytes | memoryview) -> Iterator[Entry]:
    """The whole entries from the beginning of `data` up to its torn end; their lengths add up to what is sound."""
    at = 0
    while (entry := unpack_entry(data, at)) is not None:
        yield entry
        at += len(entry.raw)


def _pack(kind: Kind, content: Content) -> Iterator[bytes]:
    values: Iterator[Any] = iter(content)
    for part in _PARTS[kind]:
        if part == "xx":
            yield b"\0\0"
        elif part == "t":
            text = str(next(values)).encode()[:TEXT_BYTES_MAX].decode(errors="ignore").encode()
            yield struct.pack(">H", len(text)) + text
        elif part == "b":
            data = next(values)
            yield struct.pack(">I", len(data)) + data
        else:
            value = next(values)
            if part[-1] == "s" and len(value) != int(part[:-1]):
                raise ValueError(f"{kind.name.lower()}: a field of {part[:-1]} bytes got {len(value)}")
            yield struct.pack(f">{part}", value)


def _unpack(kind: Kind, raw: bytes, number: int) -> Content:
    at, end = HEADER.size, len(raw) - CRC.size
    values: list[Any] = []
    try:
        for part in _PARTS[kind]:
            if part == "xx":
                at += 2
            elif part in "tb":
                size = struct.Struct(">H" if part == "t" else ">I")
                (length,) = size.unpack_from(raw, at)
                data = raw[at + size.size : at + size.size + length]
                at += size.size + length
                values.append(data.decode() if part == "t" else data)
            else:
                one = struct.Struct(f">{part}")
                values.append(one.unpack_from(raw, at)[0])
                at += one.size
    except (struct.error, UnicodeDecodeError) as error:
        raise DamageError(f"ledger entry {number} is not as its kind is: {error}", reason="ledger") from None
    if at != end:
        raise DamageError(f"ledger entry {number} has {end - at} bytes too many", reason="ledger")
    return LAYOUTS[kind][0](*values)
