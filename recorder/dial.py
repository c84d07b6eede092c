"""How a registered camera is called.

Kept true: a stream's session does not know what its source is.
"""

from __future__ import annotations

from base.config import RecorderConfig, RtspConfig
from index import Camera
from sources.contract import Source
from sources.dial import dial as dial_address

# A camera's connection is read this often: each read costs some 10 µs whatever it brings. Small beside a fragment.
READ_EVERY_MS_MAX = 100
READS_PER_FRAGMENT = 5


def dial(camera: Camera, url: str, recorder: RecorderConfig, rtsp: RtspConfig) -> Source:
    """A source for one connection to `url`; nothing is connected yet."""
    return dial_address(
        url,
        rtsp,
        transport=camera.transport,
        allow_basic=camera.allow_basic,
        tls_verify=camera.tls_verify,
        read_every_ms=min(READ_EVERY_MS_MAX, recorder.fragment_ms // READS_PER_FRAGMENT),
    )
