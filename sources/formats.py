"""What a container holds, in our words: the tracks that can be stored, and how their packets are to be read.

Kept true: a track is chosen only when its packets can be stored as they are; what is left out is said in `left_out`;
codec configuration records (ISO/IEC 14496-15) are read within their bounds, and a damaged one only loses its sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from base.errors import CameraError
from base.media import AudioConfig, VideoConfig

if TYPE_CHECKING:
    from av.container import InputContainer

_VIDEO: Final = {"h264": "h264", "hevc": "h265"}
_AUDIO: Final = {
    "aac": "aac", "pcm_alaw": "pcma", "pcm_mulaw": "pcmu", "opus": "opus", "pcm_s16be": "l16",
}  # fmt: skip
_MJPEG: Final = frozenset({"mjpeg", "mjpegb", "jpeg2000", "png"})
_SETS_MAX: Final = 64
_WRAPS_90K: Final = {"mpegts": 1 << 33, "flv": (1 << 32) * 90}  # 33 bits of 90 kHz; 32 bits of milliseconds
_AAC_RATES: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which streams of a container are stored, and how. `length_bytes` is 0 for samples with start codes."""

    video_index: int
    video: VideoConfig
    length_bytes: int
    audio_index: int = -1
    audio: AudioConfig | None = None
    adts: bool = False  # each audio frame has an ADTS header before it (ISO/IEC 13818-7 §6.2)
    left_out: list[str] = field(default_factory=list)
    wrap_90k: int = 0  # after this the container's clock begins again; 0 never


def open_container(url: str, **options: Any) -> InputContainer:
    """`av.open` for reading. Metadata that is no UTF-8 ends nothing: av 18 has to be told so, av 19 takes no word."""
    import av

    lenient: dict[str, Any] = {"metadata_errors": "replace"} if av.__version__.startswith("18.") else {}
    container: InputContainer = av.open(url, **options, **lenient)
    return container


def describe(container: InputContainer, where: str) -> Layout:
    """First H.264 or H.265 stream and first audio stream that can be stored; `CameraError` codec without the former."""
    streams: list[Any] = list(container.streams)
    video = next((s for s in streams if s.type == "video" and codec_name(s) in _VIDEO), None)
    if video is None:
        raise _no_video(streams, where)
    extradata = bytes(video.codec_context.extradata or b"")
    config, length_bytes = video_config(_VIDEO[codec_name(video)], extradata)
    audio, audio_config, adts = _audio(streams)
    stored = {video.index, -1 if audio is None else audio.index}
    return Layout(
        video_index=video.index,
        video=config,
        length_bytes=length_bytes,
        audio_index=-1 if audio is None else audio.index,
        audio=audio_config,
        adts=adts,
        wrap_90k=_WRAPS_90K.get(container.format.name, 0),
        left_out=[f"{s.type} {codec_name(s) or '?'}" for s in streams if s.index not in stored],
    )


def changes_configuration(packet: Any, layout: Layout) -> bool:
    """Whether from this packet on the samples need another configuration record than the layout's."""
    if packet.stream_index != layout.video_index or not packet.has_sidedata("new_extradata"):
        return False
    fresh = bytes(packet.get_sidedata("new_extradata"))
    return bool(fresh) and video_config(layout.video.codec, fresh) != (layout.video, layout.length_bytes)


def codec_name(stream: Any) -> str:
    """The codec's usual name, empty when nobody knows it."""
    context = getattr(stream, "codec_context", None)
    return "" if context is None else str(context.codec.canonical_name or context.name)


def _no_video(streams: list[Any], where: str) -> CameraError:
    names = [codec_name(s) or "?" for s in streams if s.type == "video"]
    if any(name in _MJPEG for name in names):
        text = "sends single JPEG pictures (MJPEG), which are not recorded; use its RTSP address, set to H.264 or H.265"
        return CameraError(f"{where} {text}", reason="codec")
    offered = ", ".join(names) or "no video"
    return CameraError(
        f"{where} has {offered}; H.264 or H.265 is stored as it is, nothing is converted", reason="codec"
    )


def video_config(codec: str, extradata: bytes) -> tuple[VideoConfig, int]:
    """Parameter sets and length size of `avcC`, `hvcC` or Annex B extradata; length 0 means start codes."""
    if not extradata or extradata[:3] == b"\0\0\1" or extradata[:4] == b"\0\0\0\1":
        return _config(codec, split_annexb(extradata)), 0
    nals, length_bytes = _avcc(extradata) if codec == "h264" else _hvcc(extradata)
    return _config(codec, nals), length_bytes


def split_annexb(data: bytes) -> list[bytes]:
    """NAL units between start codes."""
    return [nal for nal in (part.rstrip(b"\0") for part in data.split(b"\0\0\1")[1:_SETS_MAX]) if nal]


def _config(codec: str, nals: list[bytes]) -> VideoConfig:
    if codec == "h264":
        sps, pps = ([nal for nal in nals if nal[0] & 31 == kind] for kind in (7, 8))
        return VideoConfig("h264", (), tuple(sps), tuple(pps))
    vps, sps, pps = ([nal for nal in nals if nal[0] >> 1 & 63 == kind] for kind in (32, 33, 34))
    return VideoConfig("h265", tuple(vps), tuple(sps), tuple(pps))


def _avcc(data: bytes) -> tuple[list[bytes], int]:
    """ISO/IEC 14496-15 §5.3.3.1."""
    if len(data) < 7:
        return [], 4
    nals, at = _take_sized(data, 6, data[5] & 31)
    more, _ = _take_sized(data, at + 1, data[at]) if at < len(data) else ([], at)
    return nals + more, (data[4] & 3) + 1


def _hvcc(data: bytes) -> tuple[list[bytes], int]:
    """ISO/IEC 14496-15 §8.3.3.1."""
    if len(data) < 23:
        return [], 4
    nals: list[bytes] = []
    at = 23
    for _ in range(data[22]):
        if at + 3 > len(data) or len(nals) > _SETS_MAX:
            break
        some, at = _take_sized(data, at + 3, min(int.from_bytes(data[at + 1 : at + 3], "big"), _SETS_MAX))
        nals += some
    return nals, (data[21] & 3) + 1


def _take_sized(data: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    nals = []
    for _ in range(count):
        size = int.from_bytes(data[at : at + 2], "big")
        at += 2
        if at + size > len(data):
            break
        if size:
            nals.append(data[at : at + size])
        at += size
    return nals, at


def _audio(streams: list[Any]) -> tuple[Any, AudioConfig | None, bool]:
    for stream in streams:
        codec = _AUDIO.get(codec_name(stream)) if stream.type == "audio" else None
        if codec is None:
            continue
        context = stream.codec_context
        rate_hz, channels = int(context.sample_rate or 0), int(context.channels or 1)
        config = bytes(context.extradata or b"") if codec == "aac" else b""
        adts = codec == "aac" and len(config) < 2
        if adts:
            config = adts_config(rate_hz, channels)
        if rate_hz > 0 and (codec != "aac" or config):
            rate_hz = 48_000 if codec == "opus" else rate_hz
            return stream, AudioConfig(codec, rate_hz, channels, config[:256]), adts  # type: ignore[arg-type]
    return None, None, False


def adts_config(rate_hz: int, channels: int) -> bytes:
    """AudioSpecificConfig of AAC-LC (14496-3 §1.6.2.1), which ADTS streams do not carry; empty for an odd rate."""
    if rate_hz not in _AAC_RATES or not 1 <= channels <= 8 or channels == 7:
        return b""
    return (2 << 11 | _AAC_RATES.index(rate_hz) << 7 | min(channels, 7) << 3).to_bytes(2, "big")


def strip_adts(frame: bytes) -> bytes:
    """The frame behind its ADTS header; empty when there is none."""
    if len(frame) < 7 or frame[0] != 0xFF or frame[1] & 0xF6 != 0xF0:
        return b""
    return frame[7:] if frame[1] & 1 else frame[9:]
