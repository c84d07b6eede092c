"""Which source an address is opened by.

Kept true: who dials does not know what the source is; nothing is connected yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from base.config import RtspConfig
from base.schemes import AV
from rtsp.client import RtspClient
from sources.contract import Source
from sources.live import AvSource


def dial(
    url: str,
    limits: RtspConfig,
    *,
    transport: Literal["tcp", "udp"],
    allow_basic: bool,
    tls_verify: bool,
    read_every_ms: int = 0,
    judge_peer: Callable[[str], None] = lambda _address: None,
) -> Source:
    """A source for one connection; `judge_peer` is asked before anything is sent, where the source can tell."""
    if url.partition("://")[0].lower() in AV:
        return AvSource(
            url,
            allow_basic=allow_basic,
            tls_verify=tls_verify,
            connect_timeout_s=limits.connect_timeout_s,
            media_timeout_s=limits.media_timeout_s,
        )
    return RtspClient(
        url,
        transport=transport,
        allow_basic=allow_basic,
        tls_verify=tls_verify,
        connect_timeout_s=limits.connect_timeout_s,
        response_timeout_s=limits.response_timeout_s,
        media_timeout_s=limits.media_timeout_s,
        read_every_ms=read_every_ms,
        judge_peer=judge_peer,
    )
