"""RTCP: sender reports and BYE read, receiver reports written (RFC 3550 §6).

Kept true: reading never fails and never reads past a packet's own length; what cannot be read ends the reading.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_SR: Final = 200
_RR: Final = 201
_SDES: Final = 202
_BYE: Final = 203
_NTP_UNIX_S: Final = 2_208_988_800  # 1900 to 1970
_BLOCKS_MAX: Final = 31


@dataclass(frozen=True, slots=True)
class SenderReport:
    """The camera's wall clock at an RTP time; `ntp_unix_us` is None when the camera does not know the time."""

    ssrc: int
    ntp_unix_us: int | None
    ntp_middle: int  # the middle 32 bits, returned as LSR in our reports
    rtp_time: int


@dataclass(frozen=True, slots=True)
class Bye:
    """These sources end."""

    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says of one source (RFC 3550 §6.4.1)."""

    ssrc: int
    fraction_lost: int
    lost_packets: int
    highest_sequence: int
    jitter: int
    last_report: int = 0
    delay_us: int = 0


def parse(data: bytes) -> list[SenderReport | Bye]:
    """The sender reports and BYEs of one compound packet."""
    found: list[SenderReport | Bye] = []
    at = 0
    while at + 4 <= len(data) and data[at] >> 6 == 2:
        size = 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
        packet = data[at : at + size]
        if len(packet) < size:
            break
        if packet[1] == _SR and size >= 28:
            ssrc, seconds, fraction, rtp_time = struct.unpack_from(">IIII", packet, 4)
            middle = (seconds & 0xFFFF) << 16 | fraction >> 16
            found.append(SenderReport(ssrc, _unix_us(seconds, fraction), middle, rtp_time))
        elif packet[1] == _BYE:
            count = min(packet[0] & 31, (size - 4) // 4)
            found.append(Bye(struct.unpack_from(f">{count}I", packet, 4)))
        at += size
    return found


def _unix_us(seconds: int, fraction: int) -> int | None:
    if seconds == 0 and fraction == 0:
        return None
    era_s = 1 << 32 if seconds < _NTP_UNIX_S else 0  # before 1970 is after February 2036
    return (seconds + era_s - _NTP_UNIX_S) * 1_000_000 + (fraction * 1_000_000 + (1 << 31) >> 32)


def receiver_report(ssrc: int, blocks: list[ReportBlock], cname: str) -> bytes:
    """RR and SDES with our CNAME: the compound packet every receiver must send."""
    blocks = blocks[:_BLOCKS_MAX]
    report = struct.pack(">BBHI", 0x80 | len(blocks), _RR, 1 + 6 * len(blocks), ssrc)
    for block in blocks:
        lost = min(max(block.lost_packets, -(1 << 23)), (1 << 23) - 1) & 0xFFFFFF
        delay = min(block.delay_us * 65536 // 1_000_000, 0xFFFFFFFF) if block.last_report else 0
        report += struct.pack(
            ">IIIIII",
            block.ssrc, (block.fraction_lost & 0xFF) << 24 | lost, block.highest_sequence & 0xFFFFFFFF,
            min(block.jitter, 0xFFFFFFFF), block.last_report, delay,
        )  # fmt: skip
    name = cname.encode()[:255]
    item = struct.pack(">IBB", ssrc, 1, len(name)) + name + b"\0"
    item += b"\0" * (-len(item) % 4)
    return report + struct.pack(">BBH", 0x81, _SDES, len(item) // 4) + item
