"""Loops from files the user names: MP4 and other containers `av` opens, and Annex-B elementary streams.

Kept true: every NAL unit and audio frame is served exactly as it lies in the file, in the file's order; nothing is
re-encoded, added or left out. Elementary streams carry no times: pictures are given a constant rate, and the display
order a decoder finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast

from base.errors import ConfigError
from base.media import AudioCodec, AudioConfig, VideoCodec, VideoConfig
from simcam.loop import VIDEO_HZ, Loop, Track, make_track, parameter_sets, split_annexb
from simcam.stamps import split_sample

_RAW_SUFFIXES: Final[dict[str, VideoCodec]] = {
    ".264": "h264", ".h264": "h264", ".avc": "h264", ".265": "h265", ".h265": "h265", ".hevc": "h265",
}  # fmt: skip
_VIDEO: Final[dict[str, VideoCodec]] = {"h264": "h264", "hevc": "h265"}
_AUDIO: Final[dict[str, AudioCodec]] = {
    "aac": "aac", "pcm_alaw": "pcma", "pcm_mulaw": "pcmu", "opus": "opus", "pcm_s16be": "l16",
}  # fmt: skip
_PCM_PACKET_BYTES: Final = 640  # 40 ms of G.711 with 8 kHz; containers keep far longer runs
Times = tuple[list[int], list[int], int]


@lru_cache(maxsize=64)
def load_loop(path: Path, fps: float | None = None) -> Loop:
    """The loop of a file; `fps` sets the rate of an elementary stream (25 when not given)."""
    import av

    raw = _RAW_SUFFIXES.get(path.suffix.lower())
    try:
        return _load_raw(path, raw, fps or 25.0) if raw else _load_container(path)
    except (OSError, ValueError, av.FFmpegError) as error:
        raise ConfigError(f"{path}: cannot be served: {error}; name a file with H.264 or H.265 video") from error


def _load_raw(path: Path, codec: VideoCodec, fps: float) -> Loop:
    import av

    with av.open(str(path), format="h264" if codec == "h264" else "hevc") as container:
        pieces = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    units = _whole_units(pieces)
    ranks = _display_ranks(units, codec)
    ticks = round(VIDEO_HZ / fps)
    sets = parameter_sets(codec, [nal for unit in units for nal in unit])
    dts = [number * ticks for number in range(len(units))]
    track = make_track(sets, VIDEO_HZ, units, [rank * ticks for rank in ranks], dts, ticks * len(units))
    return Loop(path.name, track, None, fps)


def _whole_units(pieces: Sequence[bytes]) -> list[list[bytes]]:
    """NAL units per access unit; bytes before a piece's first start code belong to the NAL unit before it."""
    units: list[list[bytes]] = []
    for piece in pieces:
        at = piece.find(b"\0\0\1")
        if at > 0 and piece[:at].strip(b"\0"):
            raise ValueError("an access unit does not begin with a start code")
        nals = split_annexb(piece)
        if nals:
            units.append(nals)
    if not units:
        raise ValueError("no NAL unit found")
    return units


def _display_ranks(units: Sequence[Sequence[bytes]], codec: VideoCodec) -> list[int]:
    """Each unit's place in display order, as a decoder puts pictures out; one without picture keeps its place."""
    import av

    decoder: Any = av.CodecContext.create("h264" if codec == "h264" else "hevc", "r")
    decoder.thread_count = 1
    shown: list[int] = []
    for number in range(len(units) + 1):
        packet: Any = None
        if number < len(units):
            packet = av.Packet(b"".join(b"\0\0\0\1" + nal for nal in units[number]))
            packet.pts = packet.dts = number
        try:
            shown += [frame.pts for frame in decoder.decode(packet) if frame.pts is not None]
        except av.FFmpegError:
            continue  # a damaged picture is served like any other
    order: list[int] = []
    missing = sorted(set(range(len(units))) - set(shown), reverse=True)
    for number in dict.fromkeys(shown):
        while missing and missing[-1] < number:
            order.append(missing.pop())
        order.append(number)
    order += reversed(missing)
    ranks = [0] * len(units)
    for rank, number in enumerate(order):
        ranks[number] = rank
    return ranks


def _load_container(path: Path) -> Loop:
    import av

    with av.open(str(path), options={"ignore_editlist": "1"}) as container:
        streams: list[Any] = [s for s in container.streams.video if s.codec_context.name in _VIDEO][:1]
        if not streams:
            raise ValueError("it has no H.264 or H.265 track")
        streams += [s for s in container.streams.audio if s.codec_context.name in _AUDIO][:1]
        packets: dict[int, list[Any]] = {stream.index: [] for stream in streams}
        for packet in container.demux(streams):
            if packet.size:
                packets[packet.stream_index].append(packet)
        rate = float(streams[0].average_rate or 25)
        video = _video_track(streams[0], packets[streams[0].index])
        audio = _audio_track(streams[1], packets[streams[1].index]) if len(streams) > 1 else None
    return Loop(path.name, video, audio, rate)


def _times(packets: Sequence[Any], clock_hz: int) -> Times:
    scale = packets[0].time_base * clock_hz
    pts = [round((p.dts if p.pts is None else p.pts) * scale) for p in packets]
    dts = [round((p.pts if p.dts is None else p.dts) * scale) for p in packets]
    last = round(packets[-1].duration * scale) if packets[-1].duration else 0
    mean = (dts[-1] - dts[0]) // max(len(dts) - 1, 1)
    return pts, dts, dts[-1] - dts[0] + (last or mean or clock_hz // 25)


def _video_track(stream: Any, packets: Sequence[Any]) -> Track:
    codec = _VIDEO[stream.codec_context.name]
    extra = bytes(stream.codec_context.extradata or b"")
    units: list[list[bytes]]
    if extra[:1] == b"\x01":
        outside, length_bytes = _configuration(codec, extra)
        units = [_split_lengths(bytes(packet), length_bytes) for packet in packets]
    else:
        outside = split_annexb(extra)
        units = [split_annexb(bytes(packet)) for packet in packets]
    sets = parameter_sets(codec, [*outside, *(nal for unit in units for nal in unit)])
    pts, dts, duration = _times(packets, VIDEO_HZ)
    return make_track(sets, VIDEO_HZ, units, pts, dts, duration)


def _configuration(codec: VideoCodec, record: bytes) -> tuple[list[bytes], int]:
    """Parameter sets and length size of an avcC or hvcC record (ISO 14496-15, 5.3.3.1 and 8.3.3.1)."""
    nals: list[bytes] = []

    def take(at: int, count: int) -> int:
        for _ in range(count):
            size = int.from_bytes(record[at : at + 2], "big")
            nals.append(record[at + 2 : at + 2 + size])
            at += 2 + size
        return at

    if codec == "h264":
        at = take(6, record[5] & 0x1F)
        take(at + 1, record[at])
        return nals, (record[4] & 3) + 1
    at = 23
    for _ in range(record[22]):
        at = take(at + 3, int.from_bytes(record[at + 1 : at + 3], "big"))
    return nals, (record[21] & 3) + 1


def _split_lengths(sample: bytes, length_bytes: int) -> list[bytes]:
    if length_bytes == 4:
        return list(split_sample(sample))
    nals: list[bytes] = []
    at = 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + length_bytes], "big")
        nals.append(sample[at + length_bytes : at + length_bytes + size])
        at += length_bytes + size
    return nals


def _audio_track(stream: Any, packets: Sequence[Any]) -> Track:
    context = stream.codec_context
    codec = _AUDIO[context.name]
    rate_hz = 48_000 if codec == "opus" else int(context.sample_rate)
    extra = bytes(context.extradata or b"") if codec == "aac" else b""
    config = AudioConfig(codec, rate_hz, int(context.channels), extra)
    if codec in ("pcma", "pcmu", "l16"):
        return _pcm_track(config, b"".join(bytes(packet) for packet in packets))
    pts, dts, duration = _times(packets, rate_hz)
    return make_track(config, rate_hz, [[bytes(packet)] for packet in packets], pts, dts, duration)


def _pcm_track(config: AudioConfig, data: bytes) -> Track:
    frame_bytes = config.channels * (2 if config.codec == "l16" else 1)
    step = _PCM_PACKET_BYTES // frame_bytes * frame_bytes
    units = [[data[at : at + step]] for at in range(0, len(data), step)]
    times = [number * (step // frame_bytes) for number in range(len(units))]
    return make_track(config, config.rate_hz, units, times, times, len(data) // frame_bytes)


def config_of(loop: Loop) -> tuple[VideoConfig, AudioConfig | None]:
    """The codec configurations of a loop, typed."""
    audio = loop.audio.config if loop.audio else None
    return cast(VideoConfig, loop.video.config), cast("AudioConfig | None", audio)
