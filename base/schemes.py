"""Which addresses a camera may have; the register checks them, the sources open them.

Kept true: an address with another scheme reaches nothing that opens addresses.
"""

from __future__ import annotations

from typing import Final

RTSP: Final = ("rtsp", "rtsps")
AV: Final = ("rtmp", "rtmps", "http", "https", "srt", "udp")  # opened by av: RTMP, HTTP-FLV, MPEG-TS
ALL: Final = RTSP + AV
