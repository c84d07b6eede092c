"""Codec configurations in MP4 terms: sample entries (ISO/IEC 14496-12, -14, -15), codec strings (RFC 6381), sizes.

Kept true: parameter sets go into avcC and hvcC byte for byte; `in_band` entries (avc3, hev1) allow sets among the
samples as well, the others (avc1, hvc1) are what players are served. A configuration that cannot be stored raises
CameraError with reason `codec`.
"""

from __future__ import annotations

import struct
from typing import Final

from base.errors import CameraError, DamageError
from base.media import AudioConfig, StreamConfig, VideoConfig
from chunks.parameters import Picture, h265_vps_rate, parse_h264_sps, parse_h265_sps

_H264_SETS_MAX: Final = (31, 255)  # avcC counts SPS in 5 bits and PPS in 8
_H264_WITH_CHROMA: Final = frozenset({100, 110, 122, 144, 244, 44, 83, 86, 118, 128})
_H265_VPS, _H265_SPS, _H265_PPS = 32, 33, 34


def picture(config: VideoConfig) -> Picture:
    """What the first usable SPS says."""
    parse = parse_h264_sps if config.codec == "h264" else parse_h265_sps
    for sps in config.sps:
        try:
            return parse(sps)
        except DamageError:
            continue
    raise CameraError(f"no SPS of this {config.codec} stream can be read; check the camera's encoder", reason="codec")


def decodable(config: StreamConfig) -> bool:
    """Whether a decoder that is given this configuration can begin: an SPS that can be read, and a PPS."""
    try:
        picture(config.video)
    except CameraError:
        return False
    return bool(config.video.pps) and (config.video.codec == "h264" or bool(config.video.vps))


def dimensions(config: VideoConfig) -> tuple[int, int]:
    """(width, height) of the shown picture; (0, 0) when no SPS can be read."""
    try:
        shown = picture(config)
    except CameraError:
        return 0, 0
    return shown.width, shown.height


def frame_rate(config: VideoConfig) -> float:
    """Pictures a second by the parameter sets, 0.0 when they do not say."""
    for vps in config.vps:
        if rate := h265_vps_rate(vps):
            return rate
    try:
        return picture(config).frame_rate
    except CameraError:
        return 0.0


def sample_entry(config: VideoConfig | AudioConfig, *, in_band: bool) -> bytes:
    """The sample entry box of one track."""
    if isinstance(config, AudioConfig):
        return _audio_entry(config)
    shown = picture(config)
    if config.codec == "h264":
        kind, record = b"avc3" if in_band else b"avc1", _box(b"avcC", avcc(config))
    else:
        kind, record = b"hev1" if in_band else b"hvc1", _box(b"hvcC", hvcc(config))
    fixed = struct.pack(">6xH16xHHIIIH32sHh", 1, shown.width, shown.height, 0x480000, 0x480000, 0, 1, bytes(32), 24, -1)
    return _box(kind, fixed + record)


def codec_string(config: StreamConfig | VideoConfig | AudioConfig) -> str:
    """RFC 6381 `codecs` of what is served (avc1, hvc1); of a stream, both tracks with a comma."""
    if isinstance(config, StreamConfig):
        video = codec_string(config.video)
        return f"{video},{codec_string(config.audio)}" if config.audio else video
    if isinstance(config, AudioConfig):
        if config.codec == "aac":
            return f"mp4a.40.{_aac_object(config.config)}"
        return {"pcma": "alaw", "pcmu": "ulaw", "opus": "opus", "l16": "twos"}[config.codec]
    profile = picture(config).profile
    if config.codec == "h264":
        return f"avc1.{profile.hex().upper()}"
    space = ("", "A", "B", "C")[profile[0] >> 6]
    compatible = int(f"{int.from_bytes(profile[1:5], 'big'):032b}"[::-1], 2)
    tier = "H" if profile[0] & 0x20 else "L"
    constraints = profile[5:11].rstrip(b"\0")
    text = f"hvc1.{space}{profile[0] & 0x1F}.{compatible:X}.{tier}{profile[11]}"
    return text + "".join(f".{byte:X}" for byte in constraints)


def avcc(config: VideoConfig) -> bytes:
    """AVCDecoderConfigurationRecord (ISO/IEC 14496-15 5.3.3.1)."""
    shown = picture(config)
    sps, pps = config.sps[: _H264_SETS_MAX[0]], config.pps[: _H264_SETS_MAX[1]]
    record = [b"\1", shown.profile, b"\xff", bytes([0xE0 | len(sps)]), *map(_sized, sps), bytes([len(pps)])]
    record += map(_sized, pps)
    if shown.profile[0] in _H264_WITH_CHROMA:
        depths = (0xFC | shown.chroma, 0xF8 | shown.luma_bits - 8, 0xF8 | shown.chroma_bits - 8, 0)
        record.append(bytes(depths))
    return b"".join(record)


def hvcc(config: VideoConfig) -> bytes:
    """HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 8.3.3.1); the arrays are complete."""
    shown = picture(config)
    layers = min(shown.sub_layers, 7) << 3 | (4 if shown.nested else 0) | 3
    depths = (0xFC | shown.chroma, 0xF8 | shown.luma_bits - 8, 0xF8 | shown.chroma_bits - 8)
    record = [b"\1", shown.profile, b"\xf0\0\xfc", bytes(depths), b"\0\0", bytes([layers])]
    kinds = [(_H265_VPS, config.vps), (_H265_SPS, config.sps), (_H265_PPS, config.pps)]
    arrays = [(kind, sets) for kind, sets in kinds if sets]
    record.append(bytes([len(arrays)]))
    for kind, sets in arrays:
        record.append(struct.pack(">BH", 0x80 | kind, len(sets)))
        record += map(_sized, sets)
    return b"".join(record)


def _sized(nal: bytes) -> bytes:
    return struct.pack(">H", len(nal)) + nal


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", len(payload) + 8, kind) + payload


def _audio_entry(config: AudioConfig) -> bytes:
    kind, sample_bits, extra = {
        "aac": (b"mp4a", 16, b""),
        "pcma": (b"alaw", 16, b""),  # QuickTime's entries; ISO registers none for G.711
        "pcmu": (b"ulaw", 16, b""),
        "opus": (b"Opus", 16, b""),
        "l16": (b"twos", 16, b""),
    }[config.codec]
    if config.codec == "aac":
        extra = _esds(config.config)
    elif config.codec == "opus":
        extra = _box(b"dOps", struct.pack(">BBHIhB", 0, config.channels, 0, config.rate_hz, 0, 0))
    rate = config.rate_hz if config.rate_hz < 1 << 16 else 0  # the field ends at 65535; the timescale tells the rest
    fixed = struct.pack(">6xH8xHHIHH", 1, config.channels, sample_bits, 0, rate, 0)
    return _box(kind, fixed + extra)


def _aac_object(config: bytes) -> int:
    """audioObjectType of an AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1)."""
    if len(config) < 2:
        raise CameraError("AAC without an AudioSpecificConfig; the camera's SDP lacks `config`", reason="codec")
    kind = config[0] >> 3
    return 32 + ((config[0] & 7) << 3 | config[1] >> 5) if kind == 31 else kind


def _esds(config: bytes) -> bytes:
    """ES descriptor of MPEG-4 audio (ISO/IEC 14496-1 7.2.6.5)."""
    _aac_object(config)
    if len(config) > 64:
        raise CameraError(f"AudioSpecificConfig of {len(config)} bytes; 64 is the most we store", reason="codec")
    specific = bytes([5, len(config)]) + config
    decoder = bytes([4, 13 + len(specific), 0x40, 0x15]) + bytes(3) + bytes(8) + specific
    stream = b"\0\0\0" + decoder + b"\6\1\2"
    return _box(b"esds", bytes(4) + bytes([3, len(stream)]) + stream)
