"""Packets of a demuxer → the sinks of one stream.

Kept true: the bytes of a picture or a sound frame are the packet's; video time is in 1/90000 s, audio time in ticks of
its rate; audio that a container times in coarse units is laid end to end as long as that stays within `JITTER_S`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from base.units import MEDIA_HZ
from native.sink import Sink
from native.units import push_annexb, push_frame, push_prefixed
from sources.formats import Layout, strip_adts

if TYPE_CHECKING:
    from av.packet import Packet

JITTER_S: Final = 0.06


class Feed:
    """Pushes packets of a `Layout` into a video and an audio sink; counts what it could not use."""

    def __init__(self, layout: Layout, video: Sink, audio: Sink | None) -> None:
        self.packets = 0
        self.bytes = 0
        self.malformed_packets = 0
        self.undated_packets = 0
        self.last_arrival_us = 0
        self._layout = layout
        self._video = video
        self._audio = audio
        self._next_audio: int | None = None

    def video_time(self, packet: Packet[Any]) -> int | None:
        """Presentation time in 1/90000 s; None when the packet has none."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        return None if stamp is None else round(stamp * packet.time_base * MEDIA_HZ)

    def push(self, packet: Packet[Any], arrival_us: int) -> None:
        """One packet of either track; others are passed over."""
        if not packet.size:
            return
        if packet.stream_index == self._layout.video_index:
            self._push_video(packet, arrival_us)
        elif packet.stream_index == self._layout.audio_index and self._audio is not None:
            self._push_audio(packet, arrival_us)

    def _count(self, packet: Packet[Any], arrival_us: int) -> None:
        self.packets += 1
        self.bytes += packet.size
        self.last_arrival_us = arrival_us

    def _push_video(self, packet: Packet[Any], arrival_us: int) -> None:
        self._count(packet, arrival_us)
        layout = self._layout
        time = self.video_time(packet)
        if time is None:
            self.undated_packets += 1
            return
        whole = not packet.is_corrupt
        if layout.length_bytes:
            good = push_prefixed(self._video, layout.video.codec, layout.length_bytes, time, arrival_us, packet, whole)
        else:
            good = push_annexb(self._video, layout.video.codec, time, arrival_us, packet, whole)
        self.malformed_packets += not good

    def _push_audio(self, packet: Packet[Any], arrival_us: int) -> None:
        self._count(packet, arrival_us)
        assert self._audio is not None
        if packet.pts is None:
            self.undated_packets += 1
            return
        frame = strip_adts(bytes(packet)) if self._layout.adts else packet
        if self._layout.adts and not frame:
            self.malformed_packets += 1
            return
        push_frame(self._audio, self.audio_time(packet), arrival_us, frame)

    def audio_time(self, packet: Packet[Any]) -> int:
        """Time in ticks of the audio's rate; where the container's own unit is coarser, the frame before tells."""
        assert self._layout.audio is not None
        rate_hz = self._layout.audio.rate_hz
        unit: Fraction = packet.time_base
        told = round(packet.pts * unit * rate_hz)  # type: ignore[operator]
        if self._next_audio is not None and unit * rate_hz != 1 and abs(told - self._next_audio) < JITTER_S * rate_hz:
            told = self._next_audio
        self._next_audio = told + (self._ticks(packet, rate_hz) or 0)
        return told

    def _ticks(self, packet: Packet[Any], rate_hz: int) -> int:
        """Length of a frame: what its codec fixes, else what the container says."""
        match self._layout.audio.codec if self._layout.audio else "":
            case "aac":
                return 1024 if not packet.duration else _nearest(packet.duration * packet.time_base * rate_hz, 1024)
            case "pcma" | "pcmu":
                return packet.size // max(self._layout.audio.channels, 1) if self._layout.audio else 0
            case "l16":
                return packet.size // 2 // max(self._layout.audio.channels, 1) if self._layout.audio else 0
        return round((packet.duration or 0) * packet.time_base * rate_hz)


def _nearest(ticks: Fraction, step: int) -> int:
    """The multiple of `step` that a rounded duration means; at least one."""
    return max(round(ticks / step), 1) * step
