"""Loops made on the spot with `av`: H.264 or H.265 pictures with burned-in clock and name, and a beep each second.

Kept true: the same `LoopSpec` always gives the same loop, encoded once per machine (kept in a cache folder of this
user) and shared by all cameras of a process; parameter sets stand in-band before every key frame.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, cast

import msgspec
import numpy as np

from base.media import AudioCodec, AudioConfig, VideoCodec
from simcam.draw import picture
from simcam.loop import VIDEO_HZ, Loop, Track, make_track, parameter_sets, split_annexb

_CACHE_VERSION: Final = 1  # raise it when this module makes other bytes from the same spec
_AUDIO: Final[dict[str, tuple[str, int, int]]] = {  # codec → encoder, default rate, samples per frame
    "aac": ("aac", 16_000, 1024),
    "pcma": ("pcm_alaw", 8_000, 160),
    "pcmu": ("pcm_mulaw", 8_000, 160),
    "opus": ("libopus", 48_000, 960),
    "l16": ("pcm_s16be", 16_000, 320),
}


class LoopSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to encode. `gop` is in pictures; `padded` fills pictures up to the bit rate with filler NAL units."""

    name: str = "simcam"
    codec: VideoCodec = "h264"
    width: int = 640
    height: int = 360
    fps: int = 15
    gop: int = 30
    seconds: int = 10
    bitrate_bps: int = 500_000
    profile: Literal["baseline", "main", "high"] = "main"
    b_frames: int = 0
    slices: int = 1
    intra_refresh: bool = False
    padded: bool = False
    audio: AudioCodec | None = None


class _Encoded(msgspec.Struct, array_like=True):
    """One encoded track as it lies in the cache."""

    units: list[list[bytes]]
    pts: list[int]
    dts: list[int]
    config: bytes = b""


class _Cached(msgspec.Struct, array_like=True):
    video: _Encoded
    audio: _Encoded | None


def _video_options(spec: LoopSpec) -> tuple[str, dict[str, str]]:
    if spec.codec == "h265":
        params = f"keyint={spec.gop}:min-keyint={spec.gop}:scenecut=0:open-gop=0:bframes={spec.b_frames}"
        params += f":slices={spec.slices}:repeat-headers=1:pools=1:frame-threads=1:log-level=none"
        return "libx265", {"preset": "ultrafast", "x265-params": params}
    params = f"keyint={spec.gop}:min-keyint={spec.gop}:scenecut=0:slices={spec.slices}:repeat-headers=1"
    params += ":intra-refresh=1" if spec.intra_refresh else ""
    # The profile bounds the preset: ultrafast has no CABAC and no 8x8 transform, so it fits all of them.
    options = {"preset": "superfast", "profile": spec.profile, "bf": str(spec.b_frames), "x264-params": params}
    return "libx264", options


def _encode_video(spec: LoopSpec) -> _Encoded:
    import av

    encoder, options = _video_options(spec)
    context: Any = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = spec.width, spec.height, "yuv420p"
    context.framerate, context.bit_rate, context.options = spec.fps, spec.bitrate_bps, options
    context.time_base = Fraction(1, spec.fps)
    context.thread_count = 1
    done = _Encoded([], [], [])
    ticks = VIDEO_HZ // spec.fps
    for number in range(spec.fps * spec.seconds + 1):
        frame = None
        if number < spec.fps * spec.seconds:
            pixels = picture(spec.width, spec.height, spec.name, number, spec.fps)
            frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
            frame.pts, frame.time_base = number, context.time_base
        for packet in context.encode(frame):
            done.units.append(split_annexb(bytes(packet)))
            done.pts.append(packet.pts * ticks)
            done.dts.append(packet.dts * ticks)
    return done


def _pad(spec: LoopSpec, encoded: _Encoded) -> None:
    """Brings the loop to its bit rate with one filler NAL unit per picture (H.264 7.3.2.7, H.265 7.3.2.8)."""
    head = b"\x0c" if spec.codec == "h264" else b"\x4c\x01"
    size = sum(len(nal) for unit in encoded.units for nal in unit)
    short = spec.bitrate_bps * spec.seconds // 8 - size
    each = short // len(encoded.units) - len(head) - 1
    if each > 0:
        for unit in encoded.units:
            unit.append(head + b"\xff" * each + b"\x80")


def _tone(rate_hz: int, seconds: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    at = np.arange(rate_hz * seconds) / rate_hz
    beep = np.sin(2 * np.pi * 1000 * at) * (at % 1.0 < 0.1)
    hum = 0.1 * np.sin(2 * np.pi * 200 * at)
    return cast("np.ndarray[Any, np.dtype[np.int16]]", (8000 * (beep + hum)).astype(np.int16))


def _encode_audio(codec: AudioCodec, seconds: int) -> _Encoded:
    import av

    name, rate_hz, samples = _AUDIO[codec]
    context: Any = av.CodecContext.create(name, "w")
    context.sample_rate, context.layout, context.time_base = rate_hz, "mono", Fraction(1, rate_hz)
    context.format = context.codec.audio_formats[0]
    context.bit_rate = 32_000
    resampler = av.AudioResampler(context.format, "mono", rate_hz)
    tone = _tone(rate_hz, seconds)
    done = _Encoded([], [], [])
    for at in range(0, len(tone) - samples + 1, samples):
        frame = av.AudioFrame.from_ndarray(tone[None, at : at + samples], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, at, Fraction(1, rate_hz)
        for fitted in resampler.resample(frame):
            done.units += [[bytes(packet)] for packet in context.encode(fitted)]
    done.units += [[bytes(packet)] for packet in context.encode(None)]
    done.pts = [number * samples for number in range(len(done.units))]
    done.dts = done.pts
    done.config = bytes(context.extradata or b"") if codec == "aac" else b""
    return done


def _encode(spec: LoopSpec) -> _Cached:
    if VIDEO_HZ % spec.fps or not 1 <= spec.seconds <= 600:
        raise ValueError(f"fps {spec.fps} must divide {VIDEO_HZ} and seconds {spec.seconds} be 1 to 600")
    if spec.width % 2 or spec.height % 2:
        raise ValueError(f"picture size {spec.width}x{spec.height} must be even")
    video = _encode_video(spec)
    if spec.padded:
        _pad(spec, video)
    return _Cached(video, _encode_audio(spec.audio, spec.seconds) if spec.audio else None)


def _cache_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"simcam-loops-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; set TMPDIR to a folder of your own")
    return folder


def _cache_path(spec: LoopSpec) -> Path:
    key = hashlib.sha256(msgspec.json.encode(spec) + bytes([_CACHE_VERSION])).hexdigest()[:32]
    return _cache_folder() / f"{key}.loop"


def is_made(spec: LoopSpec) -> bool:
    """Whether `make_loop` has its pictures already."""
    return _cache_path(spec).exists()


def _cached(spec: LoopSpec) -> _Cached:
    path = _cache_path(spec)
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=_Cached)
    except (OSError, msgspec.DecodeError):
        pass
    encoded = _encode(spec)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_bytes(msgspec.msgpack.encode(encoded))
    fresh.replace(path)
    return encoded


@lru_cache(maxsize=64)
def make_loop(spec: LoopSpec) -> Loop:
    """The loop of a spec: from this process, from the cache folder, or encoded now."""
    cached = _cached(spec)
    video = cached.video
    config = parameter_sets(spec.codec, [nal for unit in video.units for nal in unit])
    track = make_track(config, VIDEO_HZ, video.units, video.pts, video.dts, VIDEO_HZ * spec.seconds)
    sound: Track | None = None
    if spec.audio and cached.audio:
        audio = cached.audio
        _, rate_hz, samples = _AUDIO[spec.audio]
        heard = AudioConfig(spec.audio, rate_hz, 1, audio.config)
        sound = make_track(heard, rate_hz, audio.units, audio.pts, audio.dts, samples * len(audio.units))
    return Loop(spec.name, track, sound, float(spec.fps))
