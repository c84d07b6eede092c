"""The client's side of a camera's RTSP session: connect, describe, set up, play, keep alive, tear down.

Kept true: whatever a camera does ends in a `CameraError` whose reason is one of the words below, within the time limits
given; a password is in no message and on no wire in clear unless allowed; after `run` or `close` nothing
reaches a sink any more; every socket is released.

Reasons: unreachable, timeout, tls, not-rtsp, too-large, protocol, unauthorized, basic-refused, forbidden, not-found,
refused, codec, stalled, ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Final, Literal

from base.errors import CameraError, ConfigError
from native.sink import Sink
from rtsp import rtcp, sdp
from rtsp.auth import Authenticator
from rtsp.headers import Session, parse_public, parse_session, parse_transport
from rtsp.message import Headers, Message, Request, Response
from rtsp.sdp import Presentation, Track
from rtsp.track import PlayingTrack, TrackStats
from rtsp.transport import Connection, UdpPair, monotonic_us
from rtsp.url import parse_url

USER_AGENT: Final = "Keyreel"
ANSWERS_KEPT: Final = 16
PHRASE_CHARACTERS_MAX: Final = 80
_TICK_S: Final = 1.0
_REPORT_US: Final = 5_000_000  # RFC 3550 §6.2: the least time between reports
_KEEP_ALIVE_S_MAX: Final = 30
_TEARDOWN_S: Final = 1.0
_TRIES_MAX: Final = 3
_REDIRECTS_MAX: Final = 3
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_REASONS: Final = {401: "unauthorized", 403: "forbidden", 404: "not-found", 410: "not-found"}


@cache
def _tls_context(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class RtspClient:
    """One session with one camera; `connect`, `open`, `play`, then `run`, and `close` in every case."""

    def __init__(
        self,
        url: str,
        *,
        transport: Literal["tcp", "udp"] = "tcp",
        allow_basic: bool = False,
        tls_verify: bool = True,
        connect_timeout_s: float = 10.0,
        response_timeout_s: float = 10.0,
        media_timeout_s: float = 10.0,
        read_every_ms: int = 0,
        judge_peer: Callable[[str], None] = lambda _address: None,
    ) -> None:
        self._url = parse_url(url)
        self._judge_peer = judge_peer  # raises when nothing is to be sent to the address that was connected
        self.answers: deque[tuple[str, int, str]] = deque(maxlen=ANSWERS_KEPT)  # (method, status, phrase), newest last
        self._udp = transport == "udp"
        self._tls_verify = tls_verify
        self._connect_timeout_s = connect_timeout_s
        self._response_timeout_s = response_timeout_s
        self._media_timeout_us = int(media_timeout_s * 1e6)
        self._read_every_us = read_every_ms * 1000
        self._allow_basic = allow_basic
        self._auth = self._authenticator()
        self._connection = Connection(self._on_message, self._on_rtcp, self._on_lost)
        self._sequence = 0
        self._answer: asyncio.Future[Response] | None = None
        self._answer_sequence = 0
        self._methods: frozenset[str] = frozenset()
        self._server = ""
        self._presentation: Presentation | None = None
        self._session: Session | None = None
        self._tracks: dict[int, PlayingTrack] = {}
        self._by_rtcp_channel: dict[int, PlayingTrack] = {}
        self._ssrc = secrets.randbits(32)
        self._ended: asyncio.Future[None] | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._playing_since_us = 0
        self._reported_us = 0
        self._kept_alive_us = 0
        self._keep_alive_tries = 0
        self._keep_alive_sequence = 0
        self._closed = False

    # -- what the recorder asks -----------------------------------------------------------------------------------

    @property
    def tracks_stats(self) -> dict[int, TrackStats]:
        """Counters of every track that was set up, by track index."""
        return {index: track.stats() for index, track in self._tracks.items()}

    @property
    def identity(self) -> dict[str, str]:
        """What the camera said of itself: its certificate's SHA-256, its realm, the names of its server and session."""
        return {
            "certificate": self._connection.certificate,
            "realm": self._auth.realm if self._auth is not None else "",
            "server": self._server,
            "name": self._presentation.name if self._presentation is not None else "",
        }

    def sender_report(self, track_index: int) -> tuple[int, int] | None:
        """The camera's newest (wall clock in Unix µs, unwrapped RTP time of that moment), when it told."""
        track = self._tracks.get(track_index)
        return track.sender_time() if track is not None else None

    def flush(self) -> None:
        """Hand on what is known to be whole without waiting for the next packet. Called a few times a second."""
        now_us = monotonic_us()
        if self._ticker is not None:
            self._connection.pace(now_us, self._read_every_us)
        for track in self._tracks.values():
            track.receiver.flush(now_us)

    # -- the session ----------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Wait for the camera's TCP; TLS and all questions come with `open`, as they cost work."""
        loop, url = asyncio.get_running_loop(), self._url
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await loop.create_connection(lambda: self._connection, url.host, url.port)
            self._judge_peer(self._connection.peer_host())
        except TimeoutError:
            limit = f"{self._connect_timeout_s:g} s"
            raise CameraError(f"no connection to {self._where} within {limit}; is it up?", reason="timeout") from None
        except socket.gaierror as error:
            raise CameraError(f"host {url.host} is not known: {error.strerror}", reason="unreachable") from None
        except (OSError, UnicodeError) as error:
            raise CameraError(f"no connection to {self._where}: {error}", reason="unreachable") from None

    async def open(self) -> Presentation:
        """Ask what the camera offers, where it points to on its own host if it does; connects where it must."""
        answer = await self._describe()
        for _ in range(_REDIRECTS_MAX):
            if not self._points_elsewhere(answer):
                break
            answer = await self._describe()
        if answer.status >= 300:
            raise self._refusal("DESCRIBE", answer)
        base = answer.headers.get("Content-Base") or answer.headers.get("Content-Location")
        if not base.lower().startswith(("rtsp://", "rtsps://")):
            base = self._url.request_url
        self._presentation = sdp.parse(answer.body, base)
        if not any(track.recordable for track in self._presentation.tracks):
            offered = ", ".join(track.codec or "?" for track in self._presentation.tracks)
            raise CameraError(f"{self._url} offers {offered}; H.264 or H.265 is recorded", reason="codec")
        return self._presentation

    async def play(self, sinks: Mapping[int, Sink]) -> None:
        """Set up every track that has a sink, and start them together."""
        if self._presentation is None:
            raise RuntimeError("play() comes after open()")
        self._ended = asyncio.get_running_loop().create_future()
        try:
            for index, sink in sinks.items():
                await self._set_up(self._presentation.tracks[index], sink)
            self._playing_since_us = self._kept_alive_us = monotonic_us()
            await self._request("PLAY", self._presentation.control_url, [("Range", "npt=0.000-")])
        except BaseException:
            self._end_media()
            raise

    async def run(self) -> None:
        """Receive until the session ends, with a `CameraError`, or with what a sink raised."""
        if self._ended is None:
            raise RuntimeError("run() comes after play()")
        self._playing_since_us = monotonic_us()
        self._tick()
        try:
            if self._connection.error is None:
                await self._ended
        finally:
            self._end_media()
        if self._connection.error is not None:
            raise self._connection.error

    async def close(self) -> None:
        """End the session, politely for at most a second; always releases every socket."""
        if self._closed:
            return
        self._closed = True
        self._end_media()
        try:
            if self._session is not None and self._presentation is not None and not self._connection.lost:
                async with asyncio.timeout(_TEARDOWN_S):
                    await self._request("TEARDOWN", self._presentation.control_url, accept_all=True)
        except (CameraError, TimeoutError):
            pass
        finally:
            self._connection.abort()

    async def _describe(self) -> Response:
        if not self._connection.made:
            await self.connect()
        if self._url.tls:
            await self._secure()
        options = await self._request("OPTIONS", self._url.request_url, accept_all=True)
        self._methods = parse_public(options.headers.get("Public"))
        self._server = options.headers.get("Server")
        return await self._request("DESCRIBE", self._url.request_url, [("Accept", "application/sdp")], accept_all=True)

    def _points_elsewhere(self, answer: Response) -> bool:
        """Take the address that a redirect gives (RFC 2326 §11.3), on the same host and with no less protection.

        What stands under a camera's name comes from the host it was declared with, and its password goes nowhere else.
        """
        if answer.status not in _REDIRECTS:
            return False
        try:
            there = parse_url(answer.headers.get("Location"))
        except ConfigError:
            return False
        if there.host != self._url.host or (self._url.tls and not there.tls):
            return False
        self._connection.abort()
        self._connection = Connection(self._on_message, self._on_rtcp, self._on_lost)
        self._url = replace(there, username=self._url.username, password=self._url.password)
        self._auth = self._authenticator()
        return True

    def _authenticator(self) -> Authenticator | None:
        url = self._url
        if url.username is None:
            return None
        return Authenticator(url.username, url.password, allow_basic=self._allow_basic or url.tls)

    # -- requests -------------------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"{self._url.host} port {self._url.port}"

    async def _secure(self) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._connection.start_tls(_tls_context(self._tls_verify), self._url.host)
        except TimeoutError:
            limit = f"{self._connect_timeout_s:g} s"
            raise CameraError(f"TLS with {self._where} was not agreed on within {limit}", reason="timeout") from None
        except ssl.SSLError as error:
            hint = "; turn verification off for it if it has its own certificate" if self._tls_verify else ""
            raise CameraError(f"TLS with {self._where} failed: {error.reason or error}{hint}", reason="tls") from None
        except (OSError, UnicodeError) as error:
            raise CameraError(f"TLS with {self._where} failed: {error}", reason="tls") from None

    def _send(self, method: str, url: str, headers: list[tuple[str, str]]) -> int:
        self._sequence += 1
        fields = [("CSeq", str(self._sequence)), ("User-Agent", USER_AGENT), *headers]
        if self._session is not None:
            fields.append(("Session", self._session.id))
        if self._auth is not None and (authorization := self._auth.authorize(method, url)) is not None:
            fields.append(("Authorization", authorization))
        self._connection.write(Request(method, url, Headers(fields)).encode())
        return self._sequence

    async def _request(
        self, method: str, url: str, headers: list[tuple[str, str]] | None = None, *, accept_all: bool = False
    ) -> Response:
        """One request and its answer; a challenge is answered on the way, other refusals raise."""
        answer = Response(401)
        for _ in range(_TRIES_MAX):
            answer = await self._exchange(method, url, headers or [])
            if answer.status != 401:
                break
            self._accept_challenge(answer)
        if answer.status == 401 or (answer.status >= 300 and not accept_all):
            raise self._refusal(method, answer)
        return answer

    async def _exchange(self, method: str, url: str, headers: list[tuple[str, str]]) -> Response:
        if self._connection.error is not None:
            raise self._connection.error
        self._answer = asyncio.get_running_loop().create_future()
        self._answer_sequence = self._send(method, url, headers)
        try:
            async with asyncio.timeout(self._response_timeout_s):
                answer = await self._answer
            self.answers.append((method, answer.status, answer.phrase[:PHRASE_CHARACTERS_MAX]))
            return answer
        except TimeoutError:
            limit = f"{self._response_timeout_s:g} s"
            raise CameraError(f"{self._url} did not answer {method} within {limit}", reason="timeout") from None
        finally:
            self._answer = None

    def _accept_challenge(self, answer: Response) -> None:
        if self._auth is None:
            raise CameraError(f"{self._url} wants a user name and password in its URL", reason="unauthorized")
        if not self._auth.accept(answer.headers.get_all("WWW-Authenticate")):
            raise CameraError(f"{self._url} refused the user name or password", reason="unauthorized")

    def _refusal(self, method: str, answer: Response) -> CameraError:
        detail = f"{answer.status} {answer.phrase[:PHRASE_CHARACTERS_MAX]}".strip()
        if answer.status == 461:
            detail += "; try the other transport, tcp or udp"
        if location := answer.headers.get("Location"):
            with contextlib.suppress(Exception):
                detail += f"; it points to {parse_url(location)}: declare the camera with that address"
        return CameraError(f"{self._url} refused {method}: {detail}", reason=_REASONS.get(answer.status, "refused"))

    # -- tracks ---------------------------------------------------------------------------------------------------

    async def _set_up(self, track: Track, sink: Sink) -> None:
        playing = PlayingTrack(track, sink, udp=self._udp)
        self._tracks[track.index] = playing
        if self._udp:
            await self._set_up_udp(playing)
        else:
            await self._set_up_tcp(playing)

    async def _ask_transport(self, track: Track, wanted: str) -> Response:
        answer = await self._request("SETUP", track.control_url, [("Transport", wanted)])
        if self._session is None:
            self._session = parse_session(answer.headers.get("Session"))
        return answer

    async def _set_up_tcp(self, playing: PlayingTrack) -> None:
        framing = self._connection.interleave()
        first = 2 * (len(self._tracks) - 1)
        answer = await self._ask_transport(playing.track, f"RTP/AVP/TCP;unicast;interleaved={first}-{first + 1}")
        granted = parse_transport(answer.headers.get("Transport"))
        if granted.server_ports is not None and granted.interleaved is None:
            raise CameraError(f"{self._url} answers a SETUP for TCP with UDP; set it to udp", reason="protocol")
        channels = granted.interleaved or (first, first + 1)
        try:
            framing.assign(*channels, playing.receiver)
        except ValueError as error:
            raise CameraError(f"{self._url} grants impossible channels: {error}", reason="protocol") from None
        playing.rtcp_channel = channels[1]
        self._by_rtcp_channel[channels[1]] = playing

    async def _set_up_udp(self, playing: PlayingTrack) -> None:
        playing.udp = pair = UdpPair(self._connection.local_host())
        wanted = f"RTP/AVP;unicast;client_port={pair.port}-{pair.port + 1}"
        answer = await self._ask_transport(playing.track, wanted)
        granted = parse_transport(answer.headers.get("Transport"))
        if granted.server_ports is None:
            raise CameraError(f"{self._url} names no UDP ports of its own; set it to tcp", reason="protocol")
        host = self._connection.peer_host()
        pair.start(host, granted.server_ports, playing.receiver, lambda data: self._on_report(playing, data), self._end)

    def _end_media(self) -> None:
        """Nothing reaches a sink any more; what is open in them ends here."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
            self._connection.set_low_water(1)
        if self._tracks and not self._udp:
            self._connection.interleave().release()
        for playing in self._tracks.values():
            playing.end()

    # -- what comes in --------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        if isinstance(message, Request):
            self._on_request(message)
            return
        number = message.headers.get("CSeq", str(self._answer_sequence))
        if self._answer is not None and number == str(self._answer_sequence):
            if not self._answer.done():
                self._answer.set_result(message)
        elif number == str(self._keep_alive_sequence):
            self._on_keep_alive(message)

    def _on_keep_alive(self, message: Response) -> None:
        if message.status == 454:
            self._end(CameraError(f"{self._url} does not know our session any more", reason="ended"))
        elif message.status == 401 and self._keep_alive_tries < _TRIES_MAX:
            self._accept_challenge(message)
            self._keep_alive()
        elif message.status in (405, 501, 551):
            self._methods = frozenset()  # it does not do what it offered: OPTIONS is always there

    def _on_request(self, request: Request) -> None:
        """Servers may ask too (RFC 2326 §10); a TEARDOWN or REDIRECT ends the session."""
        known = request.method in ("OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "ANNOUNCE", "TEARDOWN", "REDIRECT")
        headers = Headers([("CSeq", request.headers.get("CSeq", "0")[:20])])
        self._connection.write(Response(200 if known else 501, headers=headers).encode())
        if request.method in ("TEARDOWN", "REDIRECT"):
            self._end(CameraError(f"{self._url} ended the session ({request.method})", reason="ended"))

    def _on_lost(self) -> None:
        error = self._connection.error
        if self._answer is not None and not self._answer.done() and error is not None:
            self._answer.set_exception(error)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _end(self, error: Exception) -> None:
        if self._connection.error is None:
            self._connection.error = error
        self._on_lost()

    def _on_rtcp(self, channel: int, data: bytes) -> None:
        playing = self._by_rtcp_channel.get(channel)
        if playing is not None:
            self._on_report(playing, data)

    def _on_report(self, playing: PlayingTrack, data: bytes) -> None:
        for packet in rtcp.parse(data):
            if isinstance(packet, rtcp.SenderReport):
                playing.take_sender_report(packet, monotonic_us())
            else:
                playing.said_bye = True
        if self._tracks and all(track.said_bye for track in self._watched()):
            self._end(CameraError(f"{self._url} ended the stream (BYE)", reason="ended"))

    def _watched(self) -> list[PlayingTrack]:
        """The tracks whose silence or end is the session's: video, without any all."""
        tracks = list(self._tracks.values())
        return [playing for playing in tracks if playing.track.kind == "video"] or tracks

    # -- once a second --------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now_us = monotonic_us()
        last_us = max((t.receiver.last_arrival_us for t in self._watched()), default=0)
        silent_us = now_us - max(last_us, self._playing_since_us)
        if silent_us >= self._media_timeout_us:
            limit = f"{self._media_timeout_us / 1e6:g} s"
            self._end(CameraError(f"{self._url} sent no media for {limit}", reason="stalled"))
            return
        if any(playing.track.kind == "video" and playing.sends_another_codec() for playing in self._tracks.values()):
            text = f"{self._url} sends another codec than it announced; it is asked again"
            self._end(CameraError(text, reason="codec"))
            return
        if now_us - self._reported_us >= _REPORT_US:
            self._reported_us = now_us
            for playing in self._tracks.values():
                self._send_report(playing, now_us)
        timeout_s = self._session.timeout_s if self._session is not None else _KEEP_ALIVE_S_MAX
        if now_us - self._kept_alive_us >= min(timeout_s // 2, _KEEP_ALIVE_S_MAX) * 1_000_000:
            self._keep_alive_tries = 0
            self._keep_alive()
        wait_s = min(_TICK_S, (self._media_timeout_us - silent_us) / 1e6)  # to the moment when silence is too long
        self._ticker = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _send_report(self, playing: PlayingTrack, now_us: int) -> None:
        if playing.receiver.packets == 0:
            return
        report = rtcp.receiver_report(self._ssrc, [playing.report_block(now_us)], "keyreel")
        if playing.udp is not None:
            playing.udp.send_rtcp(report)
        else:
            frame = b"$" + bytes([playing.rtcp_channel]) + len(report).to_bytes(2, "big")
            self._connection.write(frame + report)

    def _keep_alive(self) -> None:
        """Its answer is looked at when it comes; a camera that gives none is judged by its media."""
        self._kept_alive_us = monotonic_us()
        self._keep_alive_tries += 1
        method = "GET_PARAMETER" if "GET_PARAMETER" in self._methods else "OPTIONS"
        assert self._presentation is not None
        self._keep_alive_sequence = self._send(method, self._presentation.control_url, [])
