"""What is fuzzed: each target takes any bytes and returns, or fails because a promise was broken.

Kept true: a target is deterministic and needs no sanitizer, so the saved corpus runs in the ordinary tests too; only
the errors a parser promises are caught; slabs are given back before a target returns; the work an input can ask for
is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.fuzz import chunks, fragments, keyblocks, packets, seis, text

Target = Callable[[bytes], None]

TARGETS: Final[dict[str, Target]] = {
    "rtp_video": packets.video,
    "rtp_audio": packets.audio,
    "framing": packets.framing,
    "round_trip": packets.round_trip,
    "builder": fragments.builder,
    "units": fragments.units,
    "table": chunks.table,
    "chunk": chunks.chunk,
    "parameters": chunks.parameters,
    "keyblock": keyblocks.keyblock,
    "sei": seis.sei,
    "message": text.message,
    "sdp": text.sdp,
    "headers": text.headers,
    "rtcp": text.rtcp,
}
