"""One media clock of a stream, and where in it a chunk may begin.

Kept true: a chunk, or what follows a gap in one, begins with a key frame as long as key frames come. A camera that
sends none (gradual decoder refresh) is stored from whichever picture came once the want of one has lasted too long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from base.media import AudioConfig, VideoCodec
from chunks.writer import OpenChunk
from recorder.wallclock import WallClock

if TYPE_CHECKING:
    from native.moof import Fragment

REFUSED_90K_MAX: Final = 30 * 90_000  # longer than the GOPs of 20 s that cameras have, which are left out whole
WITHOUT_KEY_90K_MAX: Final = 20 * 60 * 90_000  # then a chunk that is over ends without one; no GOP is as long


@dataclass(slots=True)
class Run:
    """From a camera's PLAY, or a leap of stored time, to the end of either."""

    video_codec: VideoCodec
    audio: AudioConfig | None
    sender_reports: Callable[[], tuple[tuple[int, int], tuple[int, int]] | None]
    camera_time: Callable[[int], int]
    wall: WallClock
    marks: int  # of stored time that this run follows; a later one is followed from the next key frame on
    split: bool = False  # the camera's clock jumped: the next key frame begins another chunk
    wall_to_media_90k: int = 0  # media time of the run = RTP time + this; wall-based at the run's start
    lead_90k: int = 0  # pts − dts of the chunk's first picture
    video_base_90k: int = 0
    audio_base: int | None = None
    generation: int = -1  # of the parameter sets the chunk was opened with
    chunk: OpenChunk | None = None
    key_90k: int | None = None  # pts of the last key frame, or of the first picture before there was any
    refused_90k: int | None = None  # pts of the first of the fragments now left out for want of a key frame

    def look(self, fragment: Fragment) -> None:
        """What comes next; called once for each fragment."""
        if fragment.discontinuity:
            self.refused_90k = None
        if fragment.key or fragment.discontinuity or self.key_90k is None:
            self.key_90k = fragment.first_pts_90k

    def refused(self, fragment: Fragment) -> None:
        """It was left out, as it begins nothing."""
        if self.refused_90k is None:
            self.refused_90k = fragment.first_pts_90k

    def may_begin(self, fragment: Fragment) -> bool:
        """A chunk, or what follows a gap, may begin with it."""
        if fragment.key:
            return True
        if self.refused_90k is not None:
            return fragment.first_pts_90k - self.refused_90k >= REFUSED_90K_MAX
        return self.key_90k is not None and fragment.first_pts_90k - self.key_90k >= WITHOUT_KEY_90K_MAX
