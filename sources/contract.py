"""What a recorder asks of any source of live media.

Kept true: calls come in the order connect, open, play, run, and close in every case, from one event loop; sinks are
touched on that loop alone, and by nobody after `run` or `close`; whatever goes wrong is a `CameraError` with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from native.sink import Sink
from rtsp.sdp import Presentation
from rtsp.track import TrackStats


class Source(Protocol):
    """One connection to one camera; `rtsp.client.RtspClient` and `sources.live.AvSource` are such."""

    @property
    def tracks_stats(self) -> dict[int, TrackStats]:
        """Counters by track index."""

    @property
    def identity(self) -> dict[str, str]:
        """What the camera said of itself, as far as it did: certificate, realm, server, name."""

    def sender_report(self, track_index: int) -> tuple[int, int] | None:
        """(the camera's wall clock in µs, media time of that moment), when it told."""

    def flush(self) -> None:
        """Hand on what is known to be whole; called a few times a second."""

    async def connect(self) -> None:
        """Wait until the camera answers at all, where the source can tell this from `open`; nothing is asked yet."""

    async def open(self) -> Presentation:
        """Ask what there is."""

    async def play(self, sinks: Mapping[int, Sink]) -> None:
        """Start the tracks that have a sink."""

    async def run(self) -> None:
        """Receive until the end, which is an error."""

    async def close(self) -> None:
        """Release everything."""
