"""A recorded file as a source: its tracks, its packets, and when it was recorded if it says so.

Kept true: only this one file is read, whatever it refers to. Which of its times counts: producer reference time
(ISO/IEC 14496-12 §8.16.5), a media clock that counts from 1970, creation time.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from base.errors import CameraError, NotFound, UserError
from base.units import MEDIA_HZ, US, parse_time, ticks_to_us
from sources.formats import Layout, describe, open_container

if TYPE_CHECKING:
    from av.packet import Packet

FORMATS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,flv,avi"
STREAMS_MAX: Final = "32"  # av looks at as many places for a stream that appears on the way
_NTP_TO_UNIX_S: Final = 2_208_988_800
_WALL_FROM_S: Final = 946_684_800  # 2000-01-01: a media clock beyond it counts from 1970
_BOXES_MAX: Final = 256
_PRFT: Final = struct.Struct(">B3xIQ")


@dataclass(frozen=True, slots=True)
class Moment:
    """Wall time of one media time, and which of the file's times said so."""

    wall_us: int
    time_90k: int
    source: str


class FileSource:
    """An opened file; `packets` may be gone through once."""

    def __init__(self, path: Path) -> None:
        import av

        if not path.is_file():
            raise NotFound(f"there is no file {path}")
        self.path = path
        self.size = path.stat().st_size
        options = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "max_streams": STREAMS_MAX}
        try:
            self._container: Any = open_container(f"file:{path.absolute()}", options=options)
        except (av.error.FFmpegError, OSError) as error:
            raise UserError(
                f"{path} cannot be read as MP4, MKV, MPEG-TS, FLV or AVI: {_words(error)}", reason="bad-file"
            ) from None
        try:
            self.layout: Layout = describe(self._container, str(path))
        except CameraError as error:
            self._container.close()
            raise UserError(str(error), reason=error.reason) from None

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def packets(self) -> Iterator[Packet[Any]]:
        """Packets of the chosen tracks in file order; `UserError` where the file cannot be read further."""
        import av

        layout = self.layout
        wanted = [index for index in (layout.video_index, layout.audio_index) if index >= 0]
        try:
            for packet in self._container.demux([self._container.streams[index] for index in wanted]):
                if packet.size:
                    yield packet
        except IndexError:
            return  # at the end av trips over a stream that appeared on the way; everything was read
        except (av.error.FFmpegError, OSError) as error:
            raise UserError(
                f"{self.path} cannot be read to its end: {_words(error)}; mend it with ffmpeg -c copy",
                reason="bad-file",
            ) from None

    def recorded(self, first_90k: int) -> Moment | None:
        """When the file says it was recorded; `first_90k` is the time of its first picture."""
        unit = self._container.streams[self.layout.video_index].time_base
        reference = producer_reference(self.path) if "mp4" in self._container.format.name else None
        if reference is not None:
            wall_us, media_time = reference
            return Moment(wall_us, round(media_time * unit * MEDIA_HZ), "prft")
        if first_90k > _WALL_FROM_S * MEDIA_HZ:
            return Moment(ticks_to_us(first_90k), first_90k, "tfdt")
        stream = self._container.streams[self.layout.video_index]
        text = self._container.metadata.get("creation_time") or stream.metadata.get("creation_time")
        try:
            wall_us = parse_time(text) if text else 0
        except UserError:
            return None
        return Moment(wall_us, first_90k, "creation_time") if wall_us > _WALL_FROM_S * US else None


def producer_reference(path: Path) -> tuple[int, int] | None:
    """(wall µs, media time in the track's unit) of the first `prft` box among the first boxes of an MP4 file."""
    try:
        with path.open("rb") as file:
            for _ in range(_BOXES_MAX):
                head = file.read(16)
                if len(head) < 8:
                    return None
                size, kind = int.from_bytes(head[:4], "big"), head[4:8]
                body = 8
                if size == 1:
                    size, body = int.from_bytes(head[8:16], "big"), 16
                if kind == b"prft" and 24 <= size <= 64:
                    return _reference(head[8:] + file.read(size - 16))
                if size < body:
                    return None
                file.seek(size - len(head), os.SEEK_CUR)
    except OSError:
        return None
    return None


def _reference(body: bytes) -> tuple[int, int] | None:
    if len(body) < _PRFT.size + 4:
        return None
    version, _, ntp = _PRFT.unpack_from(body)
    media = body[_PRFT.size : _PRFT.size + (8 if version else 4)]
    wall_us = ((ntp >> 32) - _NTP_TO_UNIX_S) * US + ((ntp & 0xFFFFFFFF) * US >> 32)
    return (wall_us, int.from_bytes(media, "big")) if wall_us > _WALL_FROM_S * US else None


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error)
