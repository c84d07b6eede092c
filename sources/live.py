"""Live media that is not RTSP: RTMP, HTTP-FLV and MPEG-TS by `av`, in a thread per source.

Kept true: `av` is called in the source's own thread, sinks on the event loop; what waits between the two is at most
`QUEUE_BYTES_MAX`, then the thread waits and with it the sender; a thread that hangs in a read ends with the time limit
of that read, and nobody waits for it. Only the address's own protocol and stream formats are opened, and nothing that
these refer to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from base.clock import monotonic_us
from base.errors import CameraError
from base.schemes import AV
from base.units import MEDIA_HZ, ticks_to_us
from native.sink import Sink
from rtsp.sdp import Presentation, Track
from rtsp.track import TrackStats
from sources.feed import Feed
from sources.file import STREAMS_MAX
from sources.formats import Layout, changes_configuration, describe, open_container

SOURCES_MAX: Final = 64  # threads of av in one process: above some hundred they starve each other
QUEUE_BYTES_MAX: Final = 16 << 20
QUEUE_PACKETS_MAX: Final = 4096
CATCH_UP_S: Final = 2.0  # servers send what they have first; the newest of that is now
EDGE_S: Final = 0.02  # a read that waited this long met the live edge
CLOSE_S: Final = 1.0
VIDEO, AUDIO = 0, 1  # track indexes
_FORMATS: Final = {"rtmp": "flv", "rtmps": "flv", "srt": "mpegts", "udp": "mpegts"}
_WEB_FORMATS: Final = "flv,mpegts,mpjpeg,mjpeg,jpeg_pipe"
_PROTOCOLS: Final = {
    "rtmp": "rtmp,tcp", "rtmps": "rtmps,rtmp,tls,tcp", "http": "http,tcp", "https": "https,tls,tcp,http",
    "srt": "srt,udp", "udp": "udp",
}  # fmt: skip
_HTTP_REASONS: Final = {"HTTPUnauthorizedError": "unauthorized", "HTTPForbiddenError": "forbidden"}
_running = threading.BoundedSemaphore(SOURCES_MAX)


@dataclass(slots=True)
class _Item:
    """A packet on its way to the event loop."""

    packet: Any
    arrival_us: int


def missing_protocol(scheme: str) -> str:
    """Why this installation cannot open a scheme; empty when it can."""
    if scheme not in ("srt", "rtmp", "rtmps"):  # the others are in every build
        return ""
    import av

    try:
        av.open(f"{scheme}:", timeout=0.1).close()
    except av.error.ProtocolNotFoundError:
        return f"the av that is installed here has no {scheme.upper()}; use the camera's RTSP, HTTP-FLV or UDP address"
    except (av.error.FFmpegError, OSError):
        pass
    return ""


class AvSource:
    """One connection by `av`; see `sources.contract.Source`."""

    def __init__(
        self,
        url: str,
        *,
        allow_basic: bool = False,
        tls_verify: bool = True,
        connect_timeout_s: float = 10.0,
        media_timeout_s: float = 10.0,
    ) -> None:
        parts = urlsplit(url)
        self._url = url
        self._scheme = parts.scheme.lower()
        place = parts.netloc.rpartition("@")[2]
        self._name = f"{self._scheme}://{place}{parts.path}"
        self._sends_password = parts.username is not None and self._scheme == "http" and not allow_basic
        self._tls_verify = tls_verify
        self._connect_timeout_s = connect_timeout_s
        self._media_timeout_s = media_timeout_s
        self._layout: Layout | None = None
        self._feed: Feed | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: asyncio.Future[Layout] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._playing_since_us = 0
        # Between the two threads:
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._queue: deque[_Item] = deque()
        self._queue_bytes = 0
        self._is_woken = False
        self._may_play = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    # -- what the recorder asks ---------------------------------------------------------------------------------------

    @property
    def tracks_stats(self) -> dict[int, TrackStats]:
        """Counters of the tracks, by index."""
        feed = self._feed
        if feed is None:
            return {}
        damaged = feed.malformed_packets + feed.undated_packets
        video = TrackStats(feed.packets[VIDEO], feed.bytes[VIDEO], 0, 0, 0, damaged, 0.0, feed.last_video_us)
        audio = TrackStats(feed.packets[AUDIO], feed.bytes[AUDIO], 0, 0, 0, 0, 0.0, 0)
        return {VIDEO: video, AUDIO: audio} if feed.has_audio else {VIDEO: video}

    def sender_report(self, track_index: int) -> tuple[int, int] | None:
        """None: none of these protocols tells the camera's clock."""
        return None

    def flush(self) -> None:
        """Hand on what waits, and end a session without pictures."""
        self._drain()
        if self._feed is None or self._ended is None or self._ended.done() or not self._playing_since_us:
            return
        silent_us = monotonic_us() - max(self._feed.last_video_us, self._playing_since_us)
        if silent_us > self._media_timeout_s * 1e6:
            self._fail(CameraError(f"{self._name} sent no picture for {self._media_timeout_s:g} s", reason="stalled"))

    @property
    def identity(self) -> dict[str, str]:
        """These protocols tell nothing of the device."""
        return {}

    async def connect(self) -> None:
        """`av` connects and asks in one call, so there is nothing to wait for here."""

    async def open(self) -> Presentation:
        """Connect; `av` reads ahead until it knows the codecs."""
        if self._scheme not in AV:
            raise CameraError(f"{self._name} is no address that av opens", reason="protocol")
        if self._sends_password:
            raise CameraError(
                f"{self._name} would get the password in clear; allow it with --allow-basic, or use https://",
                reason="basic-refused",
            )
        if not _running.acquire(blocking=False):
            raise CameraError(
                f"{SOURCES_MAX} cameras that are not RTSP are open already; use RTSP for this one", reason="too-many"
            )
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._ended = self._loop.create_future()
        self._thread = threading.Thread(target=self._work, name=f"source {self._name}"[:64], daemon=True)
        self._thread.start()
        try:
            async with asyncio.timeout(self._connect_timeout_s + self._media_timeout_s):
                self._layout = await self._opened
        except TimeoutError:
            raise CameraError(f"{self._name} sent nothing that can be read in time", reason="timeout") from None
        return self._presentation(self._layout)

    def _presentation(self, layout: Layout) -> Presentation:
        video = Track(VIDEO, "video", layout.video.codec, -1, MEDIA_HZ, 1, self._name, video=layout.video)
        if layout.audio is None:
            return Presentation(self._name, (video,))
        audio = layout.audio
        sound = Track(AUDIO, "audio", audio.codec, -1, audio.rate_hz, audio.channels, self._name, audio=audio)
        return Presentation(self._name, (video, sound))

    async def play(self, sinks: Mapping[int, Sink]) -> None:
        """Let packets through to the sinks."""
        if self._layout is None:
            raise RuntimeError("play() comes after open()")
        self._feed = Feed(self._layout, sinks.get(VIDEO, Sink()), sinks.get(AUDIO), wraps=True)
        self._playing_since_us = monotonic_us()
        self._may_play.set()

    async def run(self) -> None:
        """Receive until the source ends, with a `CameraError`, or with what a sink raised."""
        if self._ended is None or self._feed is None:
            raise RuntimeError("run() comes after play()")
        self._playing_since_us = monotonic_us()
        try:
            await self._ended
        finally:
            self._drain()
            self._stop()

    async def close(self) -> None:
        """Let the thread end; it is waited for only a moment, and touches nothing of ours after this."""
        self._stop()
        thread = self._thread
        if thread is not None and thread.is_alive():
            await asyncio.to_thread(thread.join, CLOSE_S)

    def _stop(self) -> None:
        with self._room:
            self._closing = True
            self._queue.clear()
            self._queue_bytes = 0
            self._room.notify_all()
        self._may_play.set()

    # -- on the event loop --------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Everything that waits goes to the sinks."""
        with self._room:
            items = list(self._queue)
            self._queue.clear()
            self._queue_bytes = 0
            self._is_woken = False
            self._room.notify_all()
        if self._feed is None or self._closing:
            return
        try:
            for item in items:
                self._feed.push(item.packet, item.arrival_us)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(error)
            self._opened.exception()  # told by open(), which may have been given up
        elif self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # told by run(), which may never be called

    def _tell(self, call: Any, *arguments: Any) -> None:
        """Run `call` on the event loop, unless that is gone."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    def _set_opened(self, layout: Layout) -> None:
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(layout)

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        import av

        container: Any = None
        try:
            options = self._options()
            limits = (self._connect_timeout_s, self._media_timeout_s)
            container = open_container(self._url, options=options, timeout=limits)
            layout = describe(container, self._name)
            self._tell(self._set_opened, layout)
            self._may_play.wait()
            if not self._closing:
                self._pass_on(container, layout)
            self._tell(self._fail, CameraError(f"{self._name} ended the stream", reason="ended"))
        except CameraError as error:
            self._tell(self._fail, error)
        except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
            self._tell(self._fail, self._explained(error, is_open=self._may_play.is_set()))
        except Exception as error:
            self._tell(self._fail, error)
        finally:
            if container is not None:
                container.close()
            _running.release()

    def _options(self) -> dict[str, str]:
        options = {
            "protocol_whitelist": _PROTOCOLS[self._scheme],
            "format_whitelist": _FORMATS.get(self._scheme, _WEB_FORMATS),
            "probesize": "2000000",
            "analyzeduration": "2000000",
            "max_streams": STREAMS_MAX,
        }
        if self._scheme in ("http", "https"):
            options |= {"max_redirects": "0", "user_agent": "Keyreel"}
        if self._scheme in ("https", "rtmps"):
            authorities = ssl.get_default_verify_paths().cafile
            options["tls_verify"] = str(int(self._tls_verify))
            options |= {"ca_file": authorities} if authorities and self._tls_verify else {}
        if self._scheme == "udp":
            options |= {"overrun_nonfatal": "1", "buffer_size": "4194304"}
        return options

    def _pass_on(self, container: Any, layout: Layout) -> None:
        """Packets to the queue; the burst at the beginning gets the times at which it would have come live."""
        wanted = [index for index in (layout.video_index, layout.audio_index) if index >= 0]
        packets = container.demux([container.streams[index] for index in wanted])
        burst: list[_Item] | None = []
        began_s = time.monotonic()
        asked_s = began_s
        for packet in packets:
            now_s = time.monotonic()
            if self._closing:
                return
            if not packet.size:
                continue
            if changes_configuration(packet, layout):
                raise CameraError(f"{self._name} changed its codec configuration", reason="ended")
            item = _Item(packet, monotonic_us())
            if burst is None:
                self._put([item])
            else:
                burst.append(item)
                if now_s - asked_s > EDGE_S or now_s - began_s > CATCH_UP_S or len(burst) >= QUEUE_PACKETS_MAX // 2:
                    self._put(backdated(burst))
                    burst = None
            asked_s = time.monotonic()
        if burst:
            self._put(backdated(burst))

    def _put(self, items: list[_Item]) -> None:
        for item in items:
            with self._room:
                while self._is_full() and not self._closing:
                    self._room.wait(1.0)
                if self._closing:
                    return
                self._queue.append(item)
                self._queue_bytes += item.packet.size
                is_woken, self._is_woken = self._is_woken, True
            if not is_woken:
                self._tell(self._drain)

    def _is_full(self) -> bool:
        return self._queue_bytes > QUEUE_BYTES_MAX or len(self._queue) >= QUEUE_PACKETS_MAX

    def _explained(self, error: Exception, *, is_open: bool) -> CameraError:
        """What av met, without the address's secrets, which its own text holds."""
        kind = type(error).__name__
        text = str(getattr(error, "strerror", "") or kind)
        if kind == "ProtocolNotFoundError":
            return CameraError(missing_protocol(self._scheme) or f"{self._name}: {text}", reason="unsupported")
        if kind in _HTTP_REASONS:
            return CameraError(f"{self._name} refused us: {text}", reason=_HTTP_REASONS[kind])
        if kind == "HTTPNotFoundError":
            return CameraError(f"{self._name} is not there: {text}; correct the path", reason="not-found")
        if kind == "ExitError" or isinstance(error, TimeoutError):
            if is_open:
                return CameraError(f"{self._name} sent nothing for {self._media_timeout_s:g} s", reason="stalled")
            return CameraError(f"{self._name} did not answer in time; is it up?", reason="timeout")
        if is_open:
            return CameraError(f"{self._name} broke off: {text}", reason="ended")
        if kind in ("InvalidDataError", "ArgumentError", "EOFError", "ValueError"):
            return CameraError(f"{self._name} answers, but with neither FLV nor MPEG-TS ({text})", reason="protocol")
        return CameraError(
            f"{self._name} cannot be opened: {text}; is the host known and up, and does it send?", reason="unreachable"
        )


def backdated(burst: list[_Item]) -> list[_Item]:
    """A burst with the arrival times it would have had live, told by its least delayed packet."""
    timed = [(item, _media_us(item.packet)) for item in burst]
    delays = [item.arrival_us - media_us for item, media_us in timed if media_us is not None]
    if not delays:
        return burst
    least_us = min(delays)
    for item, media_us in timed:
        if media_us is not None:
            item.arrival_us = min(item.arrival_us, media_us + least_us)
    return burst


def _media_us(packet: Any) -> int | None:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return None if stamp is None else ticks_to_us(round(stamp * packet.time_base * MEDIA_HZ))
