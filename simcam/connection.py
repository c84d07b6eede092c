"""One RTSP connection to a simulated camera: requests in, answers out (RFC 2326 §10).

Kept true: every request gets exactly one answer, in order; only OPTIONS is answered without the camera's password;
when the connection goes, its session goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from base.errors import CameraError, ConfigError, UserError
from rtsp.auth import DigestChallenge, check_basic
from rtsp.message import Headers, MessageParser, Request, Response
from simcam.camera import Camera
from simcam.faults import Faults
from simcam.outbox import Outbox
from simcam.sdp import describe
from simcam.session import Session, parse_transport
from simcam.ticker import monotonic_us

if TYPE_CHECKING:
    from simcam.server import SimcamServer

_METHODS: Final = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER"
_OTHER_PROTOCOL: Final = b"SSH-2.0-OpenSSH_9.2p1\r\n"


class Connection(asyncio.Protocol):
    """The server's end of one connection."""

    outbox: Outbox
    peer_host: str

    def __init__(self, server: SimcamServer) -> None:
        self._server = server
        self._parser = MessageParser(on_interleaved=self._on_interleaved)
        self._digest: dict[str, DigestChallenge] = {}
        self._answers: set[asyncio.Task[None]] = set()
        self.session: Session | None = None
        self._in_handshake = True
        self._frozen = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.peer_host = transport.get_extra_info("peername")[0]
        self.host = transport.get_extra_info("sockname")[0]
        self.outbox = Outbox(cast(asyncio.Transport, transport), self._on_overrun)  # uvloop's is no subclass
        self._server.connections.add(self)
        self._server.count_handshakes(1)

    def connection_lost(self, error: Exception | None) -> None:
        self._end_session()
        self._end_handshake()
        self.outbox.abort()
        for answer in self._answers:
            answer.cancel()
        self._server.connections.discard(self)

    def _end_handshake(self) -> None:
        if self._in_handshake:
            self._in_handshake = False
            self._server.count_handshakes(-1)

    def freeze(self) -> None:
        """Falls silent for good: what comes is swallowed, nothing is sent, the connection stays open."""
        self._frozen = True
        self._end_session()
        self._end_handshake()

    def data_received(self, data: bytes) -> None:
        if self._frozen:
            return
        try:
            for message in self._parser.feed(data):
                if isinstance(message, Request):
                    self._on_request(message)
        except CameraError as error:
            self.outbox.write(Response(400, headers=Headers([("X-Reason", str(error)[:200])])).encode())
            self.outbox.close()

    def _on_interleaved(self, channel: int, data: bytes) -> None:
        self.touch()

    def _on_overrun(self) -> None:
        if self.session:
            self.session.camera.overruns += 1

    def touch(self) -> None:
        """Keeps the session alive."""
        if self.session:
            self.session.seen_us = monotonic_us()

    def _end_session(self) -> None:
        if self.session:
            self.session.stop()
            self.session = None

    # Answers

    def _on_request(self, request: Request) -> None:
        self.touch()
        camera, kind = self._server.find(urlsplit(request.url).path)
        then: Callable[[], None] | None = None
        if camera is None:
            known = request.method == "OPTIONS"
            answer = self._options() if known else Response(404)
        elif request.method != "OPTIONS" and not self._allowed(request, camera):
            answer = self._challenge(camera)
        else:
            answer, then = self._dispatch(request, camera, kind)
        if camera is not None and camera.spec.server:
            answer.headers.add("Server", camera.spec.server)
        answer.headers.add("CSeq", request.headers.get("CSeq", "0"))
        if self.session:
            answer.headers.add("Session", f"{self.session.id};timeout={self.session.camera.spec.session_timeout_s}")
        self._reply(answer, camera.faults if camera else Faults())
        if then:
            then()

    def _reply(self, answer: Response, faults: Faults) -> None:
        if faults.header_bytes:
            for number in range(faults.header_bytes // 1000):
                answer.headers.add(f"X-Filler-{number}", "x" * 1000)
        data = _OTHER_PROTOCOL if faults.not_rtsp else answer.encode()
        if not faults.answer_delay_s and not faults.answer_bytes_per_s:
            self.outbox.write(data)
            return
        task = asyncio.get_running_loop().create_task(self._reply_slowly(data, faults))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _reply_slowly(self, data: bytes, faults: Faults) -> None:
        await asyncio.sleep(faults.answer_delay_s)
        speed = faults.answer_bytes_per_s
        if not speed:
            self.outbox.write(data)
            return
        step = max(1, speed // 20)
        for at in range(0, len(data), step):
            self.outbox.write(data[at : at + step])
            await asyncio.sleep(step / speed)

    def _allowed(self, request: Request, camera: Camera) -> bool:
        spec = camera.spec
        if not spec.user:
            return True
        if given := request.headers.get("Authorization"):
            camera.credentials.append(given)
        if spec.auth == "basic":
            return check_basic(given, spec.user, spec.password)
        challenge = self._digest.get(camera.name)
        return challenge is not None and challenge.check(given, request.method, spec.user, spec.password)

    def _challenge(self, camera: Camera) -> Response:
        if camera.spec.auth == "basic":
            return Response(401, headers=Headers([("WWW-Authenticate", f'Basic realm="{camera.spec.realm}"')]))
        algorithm = "MD5" if camera.spec.auth == "digest-md5" else "SHA-256"
        challenge = self._digest.setdefault(
            camera.name, DigestChallenge(camera.spec.realm, "MD5" if algorithm == "MD5" else "SHA-256")
        )
        return Response(401, headers=Headers([("WWW-Authenticate", challenge.header())]))

    def _dispatch(
        self, request: Request, camera: Camera, kind: int | None
    ) -> tuple[Response, Callable[[], None] | None]:
        match request.method:
            case "OPTIONS":
                return self._options(), None
            case "DESCRIBE":
                return self._describe(request, camera), None
            case "SETUP":
                return self._set_up(request, camera, kind or 0), None
            case "GET_PARAMETER":
                return Response(200), None
            case "SET_PARAMETER":
                return self._set_parameter(request, camera), None
            case "PLAY" | "PAUSE" | "TEARDOWN" if self.session is None:
                return Response(454), None
            case "PLAY":
                return self._play(request, camera)
            case "PAUSE" if self.session:
                self.session.stop()
                return Response(200), None
            case "TEARDOWN":
                return Response(200), None if camera.faults.ignore_teardown else self._end_session
            case _:
                return Response(405, headers=Headers([("Allow", _METHODS)])), None

    def _options(self) -> Response:
        return Response(200, headers=Headers([("Public", _METHODS)]))

    def _describe(self, request: Request, camera: Camera) -> Response:
        faults, spec = camera.faults, camera.spec
        if faults.describe_status:
            headers = [("Location", faults.location)] if faults.location else []
            return Response(faults.describe_status, headers=Headers(headers))
        text = describe(
            camera.loop, host=self.host, parameter_sets=spec.parameter_sets, donl=spec.donl,
            metadata=spec.metadata, codec=faults.sdp_codec,
        ).encode()  # fmt: skip
        line = b"a=x-filler:" + b"x" * 1000 + b"\r\n"
        text += line * (max(0, faults.sdp_bytes - len(text)) // len(line))
        base = request.url.rstrip("/") + "/"
        return Response(200, headers=Headers([("Content-Type", "application/sdp"), ("Content-Base", base)]), body=text)

    def _set_up(self, request: Request, camera: Camera, kind: int) -> Response:
        session = self.session
        if session and (session.camera is not camera or session.playing):
            return Response(455)
        wanted = request.headers.get("Transport")
        taken = 2 * len(session.senders) if session else 0
        transport = parse_transport(wanted, camera.spec.transports, taken)
        if transport is None:
            return Response(461)
        if session is None:
            session = Session(camera, self, monotonic_us())
        sender = session.set_up(kind, transport, self._server.udp_pair(self.host))
        if sender is None:
            return Response(404)
        self.session = session
        first, second = transport.pair
        if transport.tcp:
            chosen = f"RTP/AVP/TCP;unicast;interleaved={first}-{second};ssrc={sender.stream.ssrc:08X}"
        else:
            port = self._server.udp_pair(self.host).port
            chosen = f"RTP/AVP;unicast;client_port={first}-{second};server_port={port}-{port + 1}"
            chosen += f";ssrc={sender.stream.ssrc:08X}"
        return Response(200, headers=Headers([("Transport", chosen)]))

    def _play(self, request: Request, camera: Camera) -> tuple[Response, Callable[[], None] | None]:
        session = self.session
        assert session is not None
        if session.playing or session.camera is not camera:
            return Response(200 if session.playing else 455), None
        now_us = monotonic_us()
        camera.join(session, now_us)
        session.playing = True
        self._end_handshake()
        headers = [("Range", "npt=now-"), ("RTP-Info", session.rtp_info(request.url.rstrip("/")))]

        def begin() -> None:
            camera.report_to(session, now_us)
            self._server.ticker.add(camera)

        return Response(200, headers=Headers(headers)), begin

    def _set_parameter(self, request: Request, camera: Camera) -> Response:
        lines = [line.partition(":") for line in request.body.decode("utf-8", "replace").splitlines() if line.strip()]
        try:
            camera.control({name.strip(): text.strip() for name, _, text in lines})
        except (UserError, ConfigError) as error:
            return Response(451, str(error).replace("\n", " ")[:400])
        return Response(200)
