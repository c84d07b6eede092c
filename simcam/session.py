"""One RTSP session of a viewer: its tracks' transports and its life from SETUP to TEARDOWN (RFC 2326 §12.39).

Kept true: a session belongs to one connection and ends with it; each of its RTP streams has its own SSRC, first
sequence number and first timestamp.
"""

from __future__ import annotations

import random
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from native.packetize import RtpStream
from simcam.camera import AUDIO, METADATA, VIDEO, Camera
from simcam.files import config_of
from simcam.loop import VIDEO_HZ
from simcam.sdp import METADATA_PAYLOAD_TYPE, VIDEO_PAYLOAD_TYPE, audio_payload_type
from simcam.sender import Sender, TcpSender, UdpPair, UdpSender

if TYPE_CHECKING:
    from simcam.connection import Connection

_PAIR: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Transport:
    """What a Transport header asked for that we can do: a pair of channels or of ports."""

    tcp: bool
    pair: tuple[int, int]


def parse_transport(header: str, allowed: tuple[str, ...], next_channel: int) -> Transport | None:
    """The first acceptable choice of a Transport header (RFC 2326 §12.39), or None."""
    for choice in header.split(","):
        protocol, *parameters = (part.strip() for part in choice.split(";"))
        fields = dict(part.partition("=")[::2] for part in parameters)
        if protocol.upper() == "RTP/AVP/TCP" and "tcp" in allowed:
            pair = _pair(fields.get("interleaved", ""), 255)
            return Transport(True, pair or (next_channel, next_channel + 1))
        ports = _pair(fields.get("client_port", ""), 65535)
        if protocol.upper() in ("RTP/AVP", "RTP/AVP/UDP") and "multicast" not in fields and ports and "udp" in allowed:
            return Transport(False, ports)
    return None


def _pair(text: str, largest: int) -> tuple[int, int] | None:
    match = _PAIR.fullmatch(text)
    if match is None:
        return None
    first = int(match[1])
    second = int(match[2]) if match[2] else first + 1
    return (first, second) if first <= largest and second <= largest else None


class Session:
    """A viewer of one camera."""

    def __init__(self, camera: Camera, connection: Connection, now_us: int) -> None:
        self.id = secrets.token_hex(8)
        self.camera = camera
        self.connection = connection
        self.senders: dict[int, Sender] = {}
        self.playing = False
        self.seen_us = now_us

    def set_up(self, kind: int, transport: Transport, pair: UdpPair) -> Sender | None:
        """The sender of one more track, or None when the camera has no such track."""
        clock = self._clock(kind)
        if clock is None:
            return None
        payload_type, clock_hz = clock
        spec = self.camera.spec
        sequence = random.getrandbits(16) if spec.first_rtp_sequence is None else spec.first_rtp_sequence
        first_time = random.getrandbits(32) if spec.first_rtp_time is None else spec.first_rtp_time
        stream = RtpStream(
            payload_type, random.getrandbits(32), sequence, channel=transport.pair[0] if transport.tcp else 0,
            payload_max=spec.payload_max, aggregate=spec.aggregate, donl=spec.donl,
        )  # fmt: skip
        seed = f"{self.camera.name}/{kind}"
        if transport.tcp:
            outbox, channel = self.connection.outbox, transport.pair[0]
            sender: Sender = TcpSender(stream, clock_hz, first_time, self.camera.faults, seed, outbox, channel)
        else:
            host = self.connection.peer_host
            sender = UdpSender(stream, clock_hz, first_time, self.camera.faults, seed, pair, host, transport.pair)
        self.senders[kind] = sender
        return sender

    def _clock(self, kind: int) -> tuple[int, int] | None:
        """Payload type and clock rate of a track."""
        _, audio = config_of(self.camera.loop)
        if kind == VIDEO:
            return VIDEO_PAYLOAD_TYPE, VIDEO_HZ
        if kind == AUDIO and audio:
            return audio_payload_type(audio), audio.rate_hz
        if kind == METADATA and self.camera.spec.metadata:
            return METADATA_PAYLOAD_TYPE, VIDEO_HZ
        return None

    def reports_from(self, address: tuple[str, int]) -> bool:
        """Whether a receiver report from there belongs to this session."""
        return any(isinstance(sender, UdpSender) and sender.rtcp_to == address[:2] for sender in self.senders.values())

    def rtp_info(self, base: str) -> str:
        """The RTP-Info header: where each stream begins (RFC 2326 §12.33)."""
        parts = []
        for kind, sender in self.senders.items():
            ticks = self.camera.first_ticks(kind) + sender.time_offset & 0xFFFFFFFF
            parts.append(f"url={base}/track{kind};seq={sender.stream.next_sequence};rtptime={ticks}")
        return ",".join(parts)

    def stop(self) -> None:
        """Sends no more; PLAY begins again at the next key picture."""
        self.playing = False
        self.camera.leave(self)
        for sender in self.senders.values():
            sender.started = False

    def end(self, *, abrupt: bool) -> None:
        """Stops the session: with a BYE per stream, or by breaking its connection."""
        self.playing = False
        if abrupt:
            self.connection.outbox.abort()
            return
        for sender in self.senders.values():
            sender.bye()
        self.connection.outbox.close()
