"""What a simulated camera does wrong, on demand: set in its spec, changed while it runs.

Kept true: with no fault set nothing here is on the path of a packet; chances are drawn from a generator seeded by the
camera's name, so a run can be repeated; a fault that removes or changes packets of a picture is told to the send log.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from base.errors import UserError

MARKERS = ("right", "always", "never")
HOSTILE = ("", "endless", "short")
_ENDLESS_PACKETS = 200  # instead of a picture
# RFC 6184: FU-A without header or payload, STAP-A without or with wrong sizes, types that nobody asked for, nothing.
_SHORT_PAYLOADS = (
    b"", b"\x7c", b"\x7c\x85", b"\x7c\x45", b"\x78", b"\x78\0", b"\x78\0\0", b"\x78\xff\xff\x65",
    b"\x78\0\1\x65\0\xff\x65", b"\x78\0\5\x7c\x85\0\0\0", b"\x79\0\0\0", b"\x7d\x85\0", b"\x65",
    b"\x60\0", b"\x7f\0",
)  # fmt: skip
# RFC 3550: another version, more sources than bytes, an extension past the end, padding longer than the packet.
_SHORT_PACKETS = ((b"\0", b"\x65\x88"), (b"\x8f", b"\x65\x88"), (b"\x90", b"\0\0\xff\xff"), (b"\xa0", b"\x65\xff"))
_REORDER_DEPTH = 4  # a held-back packet leaves after so many others


@dataclass(slots=True, kw_only=True)
class Faults:
    """Each field is one way to misbehave; the defaults are a good camera. Chances are 0.0 to 1.0."""

    loss: float = 0.0  # chance per packet never to be sent
    reorder: float = 0.0  # chance per packet to leave some packets later
    duplicate: float = 0.0  # chance per packet to be sent twice
    corrupt: float = 0.0  # chance per packet that a payload bit flips
    garbage: float = 0.0  # chance per picture of bytes that are no RTP before it
    hostile: str = ""  # instead of pictures, H.264: endless (a fragmented NAL unit without end), short (broken packets)
    marker: str = "right"  # RTP marker bits: right, always, never
    key_frames: bool = True  # False: key pictures are left out
    join: str = "key"  # first picture of a session: key, any, cut (any, its later half)
    stall: bool = False  # connections stay open, nothing is sent
    sender_reports: bool = True
    describe_status: int = 0  # answer DESCRIBE with this status
    location: str = ""  # Location header of that answer
    not_rtsp: bool = False  # answer requests in another protocol
    answer_delay_s: float = 0.0  # wait before each answer
    answer_bytes_per_s: int = 0  # answers trickle at this speed
    header_bytes: int = 0  # fill the head of each answer up to this size
    sdp_bytes: int = 0  # fill the SDP up to this size
    sdp_codec: str = ""  # announce this video encoding
    ignore_teardown: bool = False

    @property
    def on_packets(self) -> bool:
        """Whether packets must be handled one by one."""
        return bool(
            self.loss
            or self.reorder
            or self.duplicate
            or self.corrupt
            or self.garbage
            or self.hostile
            or self.marker != "right"
        )

    def set(self, values: Mapping[str, str]) -> None:
        """Sets fields from text, all or none; UserError names what is wrong."""
        known: dict[str, type] = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        parsed: dict[str, Any] = {}
        for name, text in values.items():
            if name not in known:
                raise UserError(f"no fault is called {name!r}; there are {', '.join(known)}")
            try:
                parsed[name] = text.lower() in ("1", "true", "yes", "on") if known[name] is bool else known[name](text)
            except ValueError:
                raise UserError(f"fault {name} takes a {known[name].__name__}, not {text[:64]!r}") from None
        for name, words in (("marker", MARKERS), ("hostile", HOSTILE)):
            if parsed.get(name, words[0]) not in words:
                raise UserError(f"{name} is one of {', '.join(filter(None, words))}")
        for name, value in parsed.items():
            setattr(self, name, value)


class PacketFaults:
    """Applies packet faults to one RTP stream."""

    def __init__(self, faults: Faults, seed: str) -> None:
        self._faults = faults
        self._random = random.Random(seed)
        self.held: list[tuple[int, bytes]] = []  # (packets to let pass first, packet)
        self._added = 0  # packets sent beyond the stream's own

    def apply(self, packets: Sequence[bytes]) -> tuple[list[bytes], bool]:
        """The packets to send instead, and whether one was lost or changed.

        A packet held back leaves some packets later, at the latest with the next unit.
        """
        faults, chance = self._faults, self._random.random
        out: list[bytes] = []
        damaged = False
        old = len(self.held)
        if faults.hostile and packets:
            packets, damaged = self._hostile(packets), True
        for packet in packets:
            if faults.loss and chance() < faults.loss:
                damaged = True
                continue
            if faults.marker != "right":
                packet = self._marked(packet)
            if faults.corrupt and chance() < faults.corrupt:
                packet, damaged = self._flipped(packet), True
            if faults.reorder and chance() < faults.reorder:
                self.held.append((_REORDER_DEPTH, packet))
                continue
            out += [packet] * (1 + (chance() < faults.duplicate))
            self.held = [(left - 1, held) for left, held in self.held]
            while self.held and self.held[0][0] <= 0:
                out.append(self.held.pop(0)[1])
                old -= 1
        out += [held for _, held in self.held[: max(old, 0)]]
        del self.held[: max(old, 0)]
        return out, damaged

    def garbage(self) -> bytes:
        """Some bytes that are no RTP, or nothing."""
        if not self._faults.garbage or self._random.random() >= self._faults.garbage:
            return b""
        return self._random.randbytes(self._random.randrange(1, 400)).replace(b"$", b"#")

    def _hostile(self, packets: Sequence[bytes]) -> list[bytes]:
        """What is sent instead of a picture: numbered on, with the picture's time."""
        head, first = packets[0][:12], self._added == 0
        if self._faults.hostile == "endless":
            sent = [
                head + (b"\x7c\x85" if first and not n else b"\x7c\x05") + bytes(1400) for n in range(_ENDLESS_PACKETS)
            ]
        else:
            sent = [head + payload for payload in _SHORT_PAYLOADS] + [
                first_byte + head[1:] + rest for first_byte, rest in _SHORT_PACKETS
            ]
        sequence = int.from_bytes(head[2:4], "big") + self._added
        self._added += len(sent) - len(packets)
        return [one[:2] + (sequence + n & 0xFFFF).to_bytes(2, "big") + one[4:] for n, one in enumerate(sent)]

    def _marked(self, packet: bytes) -> bytes:
        kind = packet[1] | 0x80 if self._faults.marker == "always" else packet[1] & 0x7F
        return packet[:1] + bytes([kind]) + packet[2:]

    def _flipped(self, packet: bytes) -> bytes:
        at = self._random.randrange(12, len(packet))
        return packet[:at] + bytes([packet[at] ^ 1 << self._random.randrange(8)]) + packet[at + 1 :]
