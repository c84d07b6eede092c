"""A clip transcoded to H.264 while it is read: a derivative for players that cannot decode the recording.

Kept true: the input is the checked clip itself, so times and absences are the clip's; one thread decodes and one
encodes; nothing is stored, and what waits is one fragment. There is no sound in a preview.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

from base.errors import DamageError
from base.units import MEDIA_HZ
from clips.mp4 import ClipFile

WIDTH_MAX: Final = 1920
_PICTURES_PER_BLOCK: Final = 25
_OPTIONS: Final = {"preset": "ultrafast", "tune": "zerolatency", "crf": "28", "g": "50", "bf": "0"}


class ClipReader(io.RawIOBase):
    """A clip as a file to read and seek in."""

    def __init__(self, clip: ClipFile) -> None:
        self._clip = clip
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; returns the new place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._clip.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes."""
        stop = self._clip.size if size < 0 else min(self._at + size, self._clip.size)
        data = b"".join(self._clip.read(self._at, stop))
        self._at += len(data)
        return data


class _Taken(io.RawIOBase):
    """What the muxer wrote since it was last asked."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def preview(clip: ClipFile, width: int) -> Iterator[bytes]:
    """Fragmented MP4 of the pictures, at most `width` pixels wide, in blocks of about a second; some are empty."""
    import av

    written = _Taken()
    flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "min_frag_duration": "500000"}
    try:
        with (
            av.open(ClipReader(clip), "r", format="mp4") as source,
            av.open(written, "w", format="mp4", options=flags) as target,
        ):
            pictures: Any = source.streams.video[0]
            pictures.thread_type, pictures.codec_context.thread_count = "SLICE", 1
            out: Any = None
            count = 0
            for frame in source.decode(pictures):
                if frame.pts is None or frame.time < 0:  # decoded for what follows, not shown
                    continue
                out = out or _encoder(target, frame, width)
                frame = frame.reformat(width=out.width, height=out.height, format="yuv420p")
                frame.pts, frame.time_base = round(frame.pts * frame.time_base * MEDIA_HZ), Fraction(1, MEDIA_HZ)
                frame.pict_type = 0
                target.mux(out.encode(frame))
                count += 1
                if count % _PICTURES_PER_BLOCK == 0:
                    yield written.take()
            if out is None:
                raise DamageError("no picture of this clip can be decoded", reason="undecodable")
            target.mux(out.encode(None))
    except av.FFmpegError as error:
        raise DamageError(f"the clip cannot be transcoded: {error}", reason="undecodable") from None
    yield written.take()


def _encoder(target: Any, frame: Any, width: int) -> Any:
    """An H.264 track as large as asked, with one thread."""
    wide = min(width, frame.width) & ~1
    out = target.add_stream("libx264", rate=25, options=_OPTIONS)
    out.width, out.height = wide, max(2, frame.height * wide // frame.width & ~1)
    out.pix_fmt, out.time_base = "yuv420p", Fraction(1, MEDIA_HZ)
    out.codec_context.time_base = Fraction(1, MEDIA_HZ)
    out.codec_context.thread_count = 1
    return out
