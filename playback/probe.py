"""One call to a camera, to see what it answers: `python -m playback.probe`, an order on standard input, a view out.

Kept true: it ends within the time it was given; nothing is sent to an address that `playback.reach` refuses; no
password is in what comes out. It runs in a process of its own, as what a stranger's device sends is parsed here: it
holds no token and no index, and can be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from functools import partial
from typing import Final, Literal

import msgspec

from base.clock import monotonic_us, wall_us
from base.config import RtspConfig
from base.errors import CameraError, ConfigError
from base.log import redact
from base.media import VideoConfig
from base.schemes import AV
from base.units import ticks_to_us
from chunks.codecs import codec_string, dimensions, frame_rate
from native.fragment import FragmentBuilder
from native.moof import Fragment
from native.sink import Sink
from playback.reach import addresses, judge, pinned
from playback.schema_upkeep import CameraTestView, RtspAnswer, TrackView
from rtsp.sdp import Presentation, Track
from sources.contract import Source
from sources.dial import dial

LOOK_S: Final = 0.05
ENOUGH_US: Final = 2_000_000  # of pictures after the first key frame: rates are told from these
LONG_GOP_US: Final = 4_000_000  # a second key frame is not waited for longer
FRAGMENT_90K: Final = 9_000
ANSWER_S_MAX: Final = 5.0
TEXT_CHARACTERS_MAX: Final = 200


class Order(msgspec.Struct, kw_only=True):
    """Whom to call, and how."""

    url: str
    transport: Literal["tcp", "udp"]
    allow_basic: bool
    tls_verify: bool
    seconds: float
    loopback: bool


class Probe:
    """One call; `view` fills as answers come."""

    def __init__(self, order: Order) -> None:
        self.view = CameraTestView(ok=False, address=redact(order.url))
        self._order = order
        self._began_us = monotonic_us()
        self._played_us = 0
        self._source: Source | None = None
        self._video: Track | None = None
        self._builder: FragmentBuilder | None = None
        self._keys: list[tuple[int, int]] = []  # (arrival, pts in 90 kHz) of the first key frames
        self._first_dts: int | None = None
        self._newest: Fragment | None = None
        self._bytes = 0

    async def run(self) -> CameraTestView:
        """Call, look and hang up, within the order's time."""
        view = self.view
        try:
            async with asyncio.timeout(self._order.seconds):
                await self._call()
        except CameraError as error:
            view.reason, view.detail = error.reason, _plain(str(error), 1000)
        except ConfigError as error:
            view.reason, view.detail = "bad-camera", _plain(str(error), 1000)
        except TimeoutError:
            limit = f"{self._order.seconds:g} s"
            if self._played_us:
                view.reason, view.detail = "no-key-frame", f"it plays, but no key frame came within the {limit} given"
            else:
                view.reason, view.detail = "timeout", f"it did not begin to play within the {limit} given"
        finally:
            self._tell()
            if self._source is not None:
                with contextlib.suppress(Exception):
                    await self._source.close()
        return view

    async def _call(self) -> None:
        order = self._order
        url = order.url
        known = await addresses(url, loopback=order.loopback)
        scheme = url.partition("://")[0].lower()
        if scheme in AV and scheme not in ("https", "rtmps"):  # there the name is what the certificate is for
            url = pinned(url, known[0])
        limits = RtspConfig(connect_timeout_s=ANSWER_S_MAX, response_timeout_s=ANSWER_S_MAX, media_timeout_s=20)
        self._source = source = dial(
            url, limits, transport=order.transport, allow_basic=order.allow_basic, tls_verify=order.tls_verify,
            judge_peer=partial(judge, loopback=order.loopback),
        )  # fmt: skip
        await source.connect()
        if scheme not in AV:
            self.view.connected_s = self._passed_s()
        self._offered(await source.open())
        await source.play(self._sinks())
        self._played_us = monotonic_us()
        self.view.playing_s = self._passed_s()
        await self._watch(source)

    def _offered(self, presentation: Presentation) -> None:
        tracks = presentation.tracks
        self._video = next((track for track in tracks if track.video is not None), None)
        audio = next((track for track in tracks if track.audio is not None), None)
        self.view.tracks = [
            TrackView(
                kind=track.kind, codec=_plain(track.codec), clock_hz=track.clock_hz, channels=track.channels,
                recorded=track in (self._video, audio),
            )
            for track in tracks
        ]  # fmt: skip
        if self._video is None:
            offered = ", ".join(_plain(track.codec) for track in tracks) or "no track"
            raise CameraError(f"the camera offers {offered}; set it to H.264 or H.265", reason="codec")

    def _sinks(self) -> dict[int, Sink]:
        assert self._video is not None
        assert self._video.video is not None
        sets = self._video.video
        self._builder = FragmentBuilder(
            sets.codec, self._on_fragment, fragment_90k=FRAGMENT_90K,
            parameter_sets=[*sets.vps, *sets.sps, *sets.pps],
        )  # fmt: skip
        return {self._video.index: self._builder.video}

    async def _watch(self, source: Source) -> None:
        """Take pictures until enough came."""
        running = asyncio.ensure_future(source.run())
        try:
            while not self._enough():
                await asyncio.wait([running], timeout=LOOK_S)
                if running.done():
                    await running
                source.flush()
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, CameraError):
                await running
        self.view.ok = True

    def _on_fragment(self, fragment: Fragment) -> None:
        if self._first_dts is None:
            self._first_dts = fragment.first_dts_90k
        if fragment.key and len(self._keys) < 2:
            self._keys.append((fragment.first_arrival_us, fragment.first_pts_90k))
        self.view.frames += fragment.video_samples
        self._bytes += fragment.media_bytes
        self._newest = fragment

    def _enough(self) -> bool:
        if not self._keys:
            return False
        seen_us = monotonic_us() - self._keys[0][0]
        return seen_us >= LONG_GOP_US or (len(self._keys) > 1 and seen_us >= ENOUGH_US)

    # -- what is told -------------------------------------------------------------------------------------------------

    def _passed_s(self) -> float:
        return round((monotonic_us() - self._began_us) / 1e6, 3)

    def _tell(self) -> None:
        """All that is known by now, however the call ended."""
        view, source = self.view, self._source
        view.took_s = self._passed_s()
        if source is None:
            return
        answers = getattr(source, "answers", ())  # of RTSP alone
        view.answers = [RtspAnswer(method, status, _plain(phrase)) for method, status, phrase in answers]
        view.told = {name: _plain(value) for name, value in source.identity.items() if value}
        self._tell_pictures()
        if self._video is not None and self._video.index in source.tracks_stats:
            view.lost_packets = source.tracks_stats[self._video.index].lost_packets
        if self._keys:
            view.ok, view.reason, view.detail = True, "", ""
            view.key_frame_s = max(0.0, round((self._keys[0][0] - self._played_us) / 1e6, 3))
        if len(self._keys) > 1:
            view.key_frame_every_s = round((self._keys[1][1] - self._keys[0][1]) / 90_000, 3)
        view.clock_offset_ms = self._clock_offset_ms(source)

    def _tell_pictures(self) -> None:
        view, track, newest = self.view, self._video, self._newest
        if track is None or track.video is None:
            return
        config = track.video
        if newest is not None and any(newest.parameter_sets()):
            config = VideoConfig(config.codec, *newest.parameter_sets())
        view.codec, (view.width, view.height) = config.codec, dimensions(config)
        view.frame_rate_told = round(frame_rate(config), 3)
        if view.width:
            view.codecs = codec_string(config)
        span_90k = newest.end_dts_90k - self._first_dts if newest is not None and self._first_dts is not None else 0
        if span_90k > 0:
            view.frame_rate = round(view.frames * 90_000 / span_90k, 2)
            view.bitrate_bps = round(self._bytes * 8 * 90_000 / span_90k)

    def _clock_offset_ms(self, source: Source) -> float | None:
        newest, builder = self._newest, self._builder
        report = source.sender_report(self._video.index) if self._video is not None else None
        if report is None or newest is None or builder is None:
            return None
        camera_us = report[0] + ticks_to_us(newest.first_pts_90k - builder.video_shift_90k - report[1])
        arrived_us = wall_us() - (monotonic_us() - newest.first_arrival_us)
        return round((camera_us - arrived_us) / 1000, 1)


def _plain(text: str, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """For people: no control characters, no secrets, not without end."""
    return redact("".join(letter for letter in text if letter.isprintable()))[:characters_max]


def main() -> None:
    """Read the order, call, write the view."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    view = asyncio.run(Probe(order).run())
    sys.stdout.buffer.write(msgspec.json.encode(view))
    sys.stdout.buffer.flush()
    os._exit(0)  # a thread of av may hang in a call that nobody can end


if __name__ == "__main__":
    main()
