"""Packets of a demuxer → the sinks of one stream.

Kept true: the bytes of a picture or a sound frame are the packet's; video time is in 1/90000 s, audio time in ticks of
its rate; a live stream's times go on where the container's counter wraps; audio that a container times in coarse units
is laid end to end as long as that stays within `JITTER_S`.
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
VIDEO, AUDIO = 0, 1


class Feed:
    """Pushes packets of a `Layout` into a video and an audio sink; counts them, and what it could not use."""

    def __init__(self, layout: Layout, video: Sink, audio: Sink | None, *, wraps: bool = False) -> None:
        self.packets = [0, 0]  # video, audio
        self.bytes = [0, 0]
        self.malformed_packets = 0
        self.undated_packets = 0
        self.last_video_us = 0
        self.has_audio = audio is not None and layout.audio is not None
        self._layout = layout
        self._video = video
        self._audio = audio
        self._next_audio: int | None = None
        self._wraps = [Wrap(layout.wrap_90k if wraps else 0) for _ in range(2)]

    def push(self, packet: Packet[Any], arrival_us: int) -> None:
        """One packet of either track; others are passed over."""
        if not packet.size:
            return
        if packet.stream_index == self._layout.video_index:
            self._push_video(packet, arrival_us)
        elif packet.stream_index == self._layout.audio_index and self._audio is not None:
            self._push_audio(packet, arrival_us)

    def _push_video(self, packet: Packet[Any], arrival_us: int) -> None:
        layout, codec = self._layout, self._layout.video.codec
        self.packets[VIDEO] += 1
        self.bytes[VIDEO] += packet.size
        self.last_video_us = arrival_us
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            self.undated_packets += 1
            return
        time = round(self._wraps[VIDEO].unwrap(stamp * packet.time_base * MEDIA_HZ))
        whole = not packet.is_corrupt
        if layout.length_bytes:
            good = push_prefixed(self._video, codec, layout.length_bytes, time, arrival_us, packet, whole)
        else:
            good = push_annexb(self._video, codec, time, arrival_us, packet, whole)
        self.malformed_packets += not good

    def _push_audio(self, packet: Packet[Any], arrival_us: int) -> None:
        assert self._audio is not None
        self.packets[AUDIO] += 1
        self.bytes[AUDIO] += packet.size
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
        unit = Fraction(packet.time_base.numerator, packet.time_base.denominator)
        stamp: int = packet.pts  # type: ignore[assignment]
        told = round(self._wraps[AUDIO].unwrap(stamp * unit * MEDIA_HZ) * rate_hz / MEDIA_HZ)
        if self._next_audio is not None and unit * rate_hz != 1 and abs(told - self._next_audio) < JITTER_S * rate_hz:
            told = self._next_audio
        self._next_audio = told + self._ticks(packet, rate_hz)
        return told

    def _ticks(self, packet: Packet[Any], rate_hz: int) -> int:
        """Length of a frame: what its codec fixes, else what the container says."""
        assert self._layout.audio is not None
        channels = max(self._layout.audio.channels, 1)
        told = (packet.duration or 0) * packet.time_base * rate_hz
        match self._layout.audio.codec:
            case "aac":
                return max(round(told / 1024), 1) * 1024
            case "pcma" | "pcmu":
                return packet.size // channels
            case "l16":
                return packet.size // 2 // channels
        return round(told)


class Wrap:
    """Makes a counter of `period_90k` ticks go on for ever; a period of 0 leaves times as they are."""

    def __init__(self, period_90k: int) -> None:
        self._period = period_90k
        self._turns = 0
        self._last: Fraction | None = None

    def unwrap(self, time_90k: Fraction) -> Fraction:
        """The time nearest to the one before, of all that the counter can mean."""
        if not self._period:
            return time_90k
        time = time_90k + self._turns * self._period
        if self._last is not None:
            turns = round((self._last - time) / self._period)
            self._turns += turns
            time += turns * self._period
        self._last = time
        return time
