"""A real RTSP server of simulated cameras, for the demo, the tests and the benches.

Kept true: everything runs in one thread on one event loop; a camera without viewers costs nothing; what the cameras
send is the same for every viewer and is logged (`camera(name).sent()`), so a recording can be judged without trust.

    async with SimcamServer([CameraSpec("gate")]) as server:
        server.url("gate")
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Final, Literal, Self
from urllib.parse import quote, unquote

from simcam.blackhole import Blackhole
from simcam.camera import Camera
from simcam.connection import Connection
from simcam.sender import UdpPair
from simcam.spec import CameraSpec
from simcam.ticker import Ticker, monotonic_us

Outage = Literal["refuse", "drop", "freeze"]
BACKLOG: Final = 4096
SWEEP_S: Final = 1.0


class SimcamServer:
    """Serves any number of cameras on one address; port 0 takes a free one."""

    def __init__(
        self,
        specs: Iterable[CameraSpec] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.cameras: dict[str, Camera] = {}
        self.connections: set[Connection] = set()
        self.ticker: Ticker
        self._specs = list(specs)
        self._tls = tls
        self._listener: asyncio.Server | None = None
        self._blackhole: Blackhole | None = None
        self.handshakes = 0  # connections that have not come to PLAY yet
        self.handshakes_max = 0
        self._udp: dict[str, UdpPair] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Makes the loops and listens."""
        self.ticker = Ticker()
        for spec in self._specs:
            await self.add_camera(spec)
        await self.come_up()
        self._sweep()

    async def stop(self) -> None:
        """Breaks all connections and closes all sockets."""
        if self._sweep_timer:
            self._sweep_timer.cancel()
        await self.go_down()
        self.ticker.close()
        loop = asyncio.get_running_loop()
        for pair in self._udp.values():
            loop.remove_reader(pair.rtp)
            loop.remove_reader(pair.rtcp)
            pair.close()
        self._udp.clear()

    async def go_down(self, how: Outage = "refuse") -> None:
        """Vanishes with all its cameras.

        `refuse`: connections are reset, new ones refused. `drop`: reset, and new SYNs go unanswered. `freeze`: the
        connections stay open and fall silent, without a FIN, and stay so when the cameras are back; SYNs unanswered.
        """
        self._close_port()
        if how != "refuse":
            self._blackhole = await asyncio.to_thread(Blackhole, self.host, self.port)
        for connection in list(self.connections):
            if how == "freeze":
                connection.freeze()
            else:
                connection.outbox.abort()
        while how != "freeze" and self.connections:
            await asyncio.sleep(0)

    def _close_port(self) -> None:
        if self._listener:
            self._listener.close()
            self._listener = None
        if self._blackhole:
            self._blackhole.close()
            self._blackhole = None

    async def come_up(self) -> None:
        """Listens again on the same port."""
        self._close_port()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self), self.host, self.port, ssl=self._tls, backlog=BACKLOG, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    def count_handshakes(self, change: int) -> None:
        """A connection was made, or came to PLAY or its end."""
        self.handshakes += change
        self.handshakes_max = max(self.handshakes_max, self.handshakes)

    async def add_camera(self, spec: CameraSpec) -> Camera:
        """One more camera; its loop is made in a thread."""
        camera = await asyncio.to_thread(Camera, spec)
        self.cameras[spec.name] = camera
        return camera

    def remove_camera(self, name: str) -> None:
        """Ends a camera's sessions; its address is not found any more."""
        self.cameras.pop(name).end_sessions()

    def camera(self, name: str) -> Camera:
        """The running camera of that name: its log, its faults, its events."""
        return self.cameras[name]

    def url(self, name: str, *, credentials: bool = True) -> str:
        """The address of a camera, with its user and password when it wants them."""
        camera = self.cameras.get(name)
        login = ""
        if credentials and camera and camera.spec.user:
            login = f"{quote(camera.spec.user, safe='')}:{quote(camera.spec.password, safe='')}@"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return f"rtsp{'s' if self._tls else ''}://{login}{host}:{self.port}/{quote(name)}"

    def find(self, path: str) -> tuple[Camera | None, int | None]:
        """The camera and track a path names."""
        name = unquote(path).strip("/")
        if name in self.cameras:
            return self.cameras[name], None
        head, _, tail = name.rpartition("/")
        number = tail.removeprefix("track")
        kind = int(number) if tail.startswith("track") and number in ("0", "1", "2") else None
        return (self.cameras.get(head), kind) if kind is not None else (None, None)

    def udp_pair(self, host: str) -> UdpPair:
        """The UDP sockets of one local address, opened when first needed."""
        pair = self._udp.get(host)
        if pair is None:
            pair = self._udp[host] = UdpPair(host)
            loop = asyncio.get_running_loop()
            loop.add_reader(pair.rtp, self._drain, pair, False)
            loop.add_reader(pair.rtcp, self._drain, pair, True)
        return pair

    def _drain(self, pair: UdpPair, rtcp: bool) -> None:
        """Receiver reports keep a session alive; all else that comes is read and forgotten."""
        with contextlib.suppress(OSError):
            while True:
                _, address = (pair.rtcp if rtcp else pair.rtp).recvfrom(2048)
                for connection in self.connections:
                    if rtcp and connection.session and connection.session.reports_from(address):
                        connection.touch()

    def _sweep(self) -> None:
        """Ends sessions whose viewer was silent for longer than their timeout."""
        now_us = monotonic_us()
        for connection in list(self.connections):
            session = connection.session
            if session and now_us - session.seen_us > session.camera.spec.session_timeout_s * 1_000_000:
                session.end(abrupt=False)
        self._sweep_timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
