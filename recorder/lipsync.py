"""Where sound lies against the pictures of its chunk.

Kept true: RTCP's word is taken when it is near to what arrival says; farther off, the camera's NTP is nonsense.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from base.units import ticks_to_us
from recorder.wallclock import WallClock

if TYPE_CHECKING:
    from native.moof import Fragment

SENDER_REPORT_TRUST_US: Final = 2_000_000

Reports = tuple[tuple[int, int], tuple[int, int]]  # (NTP µs, media time) of the video, (NTP µs, audio time)


def anchor_audio(
    wall: WallClock, video_base_90k: int, rate_hz: int, fragment: Fragment, reports: Reports | None
) -> int:
    """Audio time at the chunk's time zero, which is the video's `video_base_90k`."""
    zero_us = wall.wall_us(video_base_90k)
    arrival_us = fragment.audio_first_arrival_us + wall.offset_us
    base = fragment.audio_first_ts - (arrival_us - zero_us) * rate_hz // 1_000_000
    if reports is None:
        return base
    (video_ntp_us, video_rtp), (audio_ntp_us, audio_rtp) = reports
    zero_ntp_us = video_ntp_us + ticks_to_us(video_base_90k - video_rtp)
    told = audio_rtp + (zero_ntp_us - audio_ntp_us) * rate_hz // 1_000_000
    off_us = abs(told - base) * 1_000_000 // rate_hz
    return told if off_us <= SENDER_REPORT_TRUST_US else base
