"""A loop: encoded pictures and sound that any number of simulated cameras show over and over.

Kept true: a loop is immutable; its units are exactly the encoder's or the file's bytes; each track repeats by itself
after `duration_ticks`, so timestamps go on without hole or overlap at the seam (picture and sound of a file whose
tracks differ in length drift apart from turn to turn; nothing here reads them together).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from base.media import AudioConfig, VideoCodec, VideoConfig
from native.packetize import UnitTable
from simcam.stamps import digest_hex

VIDEO_HZ: Final = 90_000


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One track: units in decode order with their times, all in ticks of `clock_hz`, the first dts being 0."""

    config: VideoConfig | AudioConfig | None  # None: metadata
    clock_hz: int
    table: UnitTable
    pts: array[int]
    dts: array[int]
    duration_ticks: int
    keys: tuple[bool, ...]
    digests: tuple[bytes, ...]
    delay_ticks: int  # most that a pts lies after its dts

    @property
    def codec(self) -> str:
        """Codec name of base.media, or `metadata`."""
        return self.table.codec


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """A video track and at most one audio track."""

    name: str
    video: Track
    audio: Track | None = None
    fps: float = 25.0

    @property
    def bitrate_bps(self) -> float:
        """Mean bit rate of the video track, without RTP."""
        track = self.video
        size = sum(len(part) for unit in range(len(track.table)) for part in track.table.parts(unit))
        return size * 8 * track.clock_hz / track.duration_ticks


def nal_kind(codec: str, nal: bytes) -> str:
    """'vps', 'sps', 'pps', or '' for all else."""
    if codec == "h264":
        return {7: "sps", 8: "pps"}.get(nal[0] & 0x1F, "")
    return {32: "vps", 33: "sps", 34: "pps"}.get(nal[0] >> 1 & 0x3F, "")


def parameter_sets(codec: VideoCodec, nals: Iterable[bytes]) -> VideoConfig:
    """The distinct parameter sets among some NAL units, in order of appearance."""
    found: dict[str, list[bytes]] = {"vps": [], "sps": [], "pps": []}
    for nal in nals:
        kind = nal_kind(codec, nal)
        if kind and nal not in found[kind]:
            found[kind].append(nal)
    return VideoConfig(codec, tuple(found["vps"]), tuple(found["sps"]), tuple(found["pps"]))


def make_track(
    config: VideoConfig | AudioConfig | None,
    clock_hz: int,
    units: Sequence[Sequence[bytes]],
    pts: Sequence[int],
    dts: Sequence[int],
    duration_ticks: int,
) -> Track:
    """Lays out a track; times are shifted together so that dts begins at 0 and no pts lies before its dts."""
    if not units or duration_ticks < dts[-1] - dts[0]:
        raise ValueError(f"a track of {len(units)} units cannot repeat after {duration_ticks} ticks")
    table = UnitTable(config.codec if config else "metadata", units)
    pts, dts = _apart(pts), _apart(dts)
    duration_ticks = max(duration_ticks, max(pts) - min(pts) + 1, dts[-1] - dts[0] + 1)
    late = max(0, max(d - p for p, d in zip(pts, dts, strict=True)))
    shown = [p - dts[0] + late for p in pts]
    video = isinstance(config, VideoConfig)
    return Track(
        config=config,
        clock_hz=clock_hz,
        table=table,
        pts=array("q", shown),
        dts=array("q", [d - dts[0] for d in dts]),
        duration_ticks=duration_ticks,
        keys=tuple(table.is_key(i) for i in range(len(units))),
        digests=tuple(digest_hex(unit) for unit in units) if video else (),
        delay_ticks=max(p - d + dts[0] for p, d in zip(shown, dts, strict=True)),
    )


def without_sets(loop: Loop) -> Loop:
    """The same pictures, from a camera that does not send their parameter sets."""
    track = loop.video
    codec: VideoCodec = "h264" if track.codec == "h264" else "h265"
    units = [[nal for nal in track.table.parts(i) if not nal_kind(codec, nal)] for i in range(len(track.table))]
    bare = make_track(track.config, track.clock_hz, units, track.pts, track.dts, track.duration_ticks)
    return Loop(loop.name, bare, loop.audio, loop.fps)


def _apart(times: Sequence[int]) -> list[int]:
    """The times with at least a tick between any two: RTP knows one picture per timestamp (RFC 6184 §5.1)."""
    apart = list(times)
    last: int | None = None
    for number in sorted(range(len(apart)), key=apart.__getitem__):
        if last is not None and apart[number] <= last:
            apart[number] = last + 1
        last = apart[number]
    return apart


def split_annexb(data: bytes) -> list[bytes]:
    """NAL units of an Annex-B byte stream: without start codes and trailing zero bytes (H.264 B.1.1, H.265 B.2.1)."""
    pieces = data.split(b"\0\0\1")[1:]
    return [nal for nal in (piece.rstrip(b"\0") for piece in pieces) if nal]
