"""What a simulated camera answers to DESCRIBE (RFC 4566, RFC 6184 §8, RFC 7798 §7, RFC 3640 §4, RFC 3551, RFC 7587).

Kept true: payload types, clock rates and parameter sets are those of the packets, unless a fault says otherwise.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Final

from base.media import AudioConfig, VideoConfig
from simcam.files import config_of
from simcam.loop import Loop

VIDEO_PAYLOAD_TYPE: Final = 96
AUDIO_PAYLOAD_TYPE: Final = 97
METADATA_PAYLOAD_TYPE: Final = 107


def audio_payload_type(audio: AudioConfig) -> int:
    """Static types where RFC 3551 has them."""
    if audio.rate_hz == 8000 and audio.channels == 1:
        return {"pcmu": 0, "pcma": 8}.get(audio.codec, AUDIO_PAYLOAD_TYPE)
    return AUDIO_PAYLOAD_TYPE


def _base64(nals: tuple[bytes, ...]) -> str:
    return ",".join(b64encode(nal).decode() for nal in nals)


def _video_lines(video: VideoConfig, fps: float, sets: bool, donl: bool) -> list[str]:
    pt = VIDEO_PAYLOAD_TYPE
    fmtp = []
    if video.codec == "h264":
        fmtp.append("packetization-mode=1")
        if sets and video.sps:
            fmtp.append(f"profile-level-id={video.sps[0][1:4].hex().upper()}")
            fmtp.append(f"sprop-parameter-sets={_base64(video.sps + video.pps)}")
    else:
        if sets:
            fmtp += [f"sprop-{kind}={_base64(getattr(video, kind))}" for kind in ("vps", "sps", "pps")]
        if donl:
            fmtp.append("sprop-max-don-diff=1")
    return [
        f"m=video 0 RTP/AVP {pt}",
        f"a=rtpmap:{pt} {video.codec.upper()}/90000",
        *([f"a=fmtp:{pt} {'; '.join(fmtp)}"] if fmtp else []),
        f"a=framerate:{fps:g}",
    ]


def _audio_lines(audio: AudioConfig) -> list[str]:
    pt = audio_payload_type(audio)
    name = {"aac": "MPEG4-GENERIC", "opus": "opus"}.get(audio.codec, audio.codec.upper())
    channels = 2 if audio.codec == "opus" else audio.channels  # RFC 7587 §7: always 2
    lines = [
        f"m=audio 0 RTP/AVP {pt}",
        f"a=rtpmap:{pt} {name}/{audio.rate_hz}" + (f"/{channels}" if channels > 1 else ""),
    ]
    if audio.codec == "aac":
        lines.append(
            f"a=fmtp:{pt} streamtype=5; profile-level-id=1; mode=AAC-hbr; sizelength=13; indexlength=3; "
            f"indexdeltalength=3; config={audio.config.hex().upper()}"
        )
    return lines


def describe(
    loop: Loop, *, host: str, parameter_sets: bool = True, donl: bool = False, metadata: bool = False, codec: str = ""
) -> str:
    """The session description; `codec` announces another video encoding than the one that is sent."""
    video, audio = config_of(loop)
    lines = [
        "v=0",
        f"o=- 1 1 IN {'IP6' if ':' in host else 'IP4'} {host}",
        "s=simcam",
        f"c=IN {'IP6 ::' if ':' in host else 'IP4 0.0.0.0'}",
        "t=0 0",
        "a=control:*",
        "a=range:npt=0-",
    ]
    if codec:
        lines += [f"m=video 0 RTP/AVP {VIDEO_PAYLOAD_TYPE}", f"a=rtpmap:{VIDEO_PAYLOAD_TYPE} {codec}/90000"]
    else:
        lines += _video_lines(video, loop.fps, parameter_sets, donl)
    lines.append("a=control:track0")
    if audio:
        lines += [*_audio_lines(audio), "a=control:track1"]
    if metadata:
        lines += [
            f"m=application 0 RTP/AVP {METADATA_PAYLOAD_TYPE}",
            f"a=rtpmap:{METADATA_PAYLOAD_TYPE} vnd.onvif.metadata/90000",
            "a=control:track2",
        ]
    return "\r\n".join(lines) + "\r\n"
