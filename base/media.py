"""What a stream is made of: codec configurations as values.

Kept true: two configurations are equal exactly when a decoder set up for one decodes the other; an epoch of a
stream is a maximal run with one `StreamConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

VideoCodec = Literal["h264", "h265"]
AudioCodec = Literal["aac", "pcma", "pcmu", "opus", "l16"]
VIDEO_CODECS: Final[tuple[str, ...]] = ("h264", "h265")
AUDIO_CODECS: Final[tuple[str, ...]] = ("aac", "pcma", "pcmu", "opus", "l16")


@dataclass(frozen=True, slots=True)
class VideoConfig:
    """Video codec and the parameter sets in force, each NAL unit without start code or length.

    `vps` is empty for H.264. The order is that of ascending parameter-set id.
    """

    codec: VideoCodec
    vps: tuple[bytes, ...] = ()
    sps: tuple[bytes, ...] = ()
    pps: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class AudioConfig:
    """Audio codec; `rate_hz` is the RTP and MP4 timescale; `config` is AAC's AudioSpecificConfig, else empty."""

    codec: AudioCodec
    rate_hz: int
    channels: int = 1
    config: bytes = b""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """One epoch: a video track and at most one audio track."""

    video: VideoConfig
    audio: AudioConfig | None = None
