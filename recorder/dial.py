"""Which source a camera's address is opened by.

Kept true: a stream's session does not know what its source is.
"""

from __future__ import annotations

from base.config import RecorderConfig, RtspConfig
from base.schemes import AV
from index import Camera
from rtsp.client import RtspClient
from sources.contract import Source
from sources.live import AvSource

# A camera's connection is read this often: each read costs some 10 µs whatever it brings. Small beside a fragment.
READ_EVERY_MS_MAX = 100
READS_PER_FRAGMENT = 5


def dial(camera: Camera, url: str, recorder: RecorderConfig, rtsp: RtspConfig) -> Source:
    """A source for one connection to `url`; nothing is connected yet."""
    if url.partition("://")[0].lower() in AV:
        return AvSource(
            url,
            allow_basic=camera.allow_basic,
            tls_verify=camera.tls_verify,
            connect_timeout_s=rtsp.connect_timeout_s,
            media_timeout_s=rtsp.media_timeout_s,
        )
    return RtspClient(
        url,
        transport=camera.transport,
        allow_basic=camera.allow_basic,
        tls_verify=camera.tls_verify,
        connect_timeout_s=rtsp.connect_timeout_s,
        response_timeout_s=rtsp.response_timeout_s,
        media_timeout_s=rtsp.media_timeout_s,
        read_every_ms=min(READ_EVERY_MS_MAX, recorder.fragment_ms // READS_PER_FRAGMENT),
    )
