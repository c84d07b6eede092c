"""A simulated ONVIF device: SOAP over real HTTP with WS-UsernameToken digests, WS-Discovery over real multicast.

Kept true: a request without the right digest, with an old time in it or with a nonce that was used before is refused
as ONVIF Core §5.9.4 says; what goes wrong does so only when its fault is asked for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Self, cast
from xml.sax.saxutils import escape

Fault = Literal["", "html", "entities", "huge", "trickle", "silent", "fault-500"]
GROUP: Final = "239.255.255.250"
DISCOVERY_PORT: Final = 3702
REQUEST_BYTES_MAX: Final = 1 << 20
TOKEN_AGE_S: Final = 300.0
_DEVICE: Final = "http://www.onvif.org/ver10/device/wsdl"
_MEDIA: Final = "http://www.onvif.org/ver10/media/wsdl"
_MEDIA2: Final = "http://www.onvif.org/ver20/media/wsdl"
_OPEN: Final = frozenset({"GetSystemDateAndTime", "GetServices", "GetCapabilities"})
_OPERATION: Final = re.compile(r"<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)")


@dataclass(frozen=True, slots=True)
class OnvifProfile:
    """One media profile of the device, and where its stream is."""

    token: str
    url: str
    codec: str = "H264"  # as ONVIF writes it: H264, H265, JPEG
    width: int = 640
    height: int = 360
    fps: int = 15
    bitrate_kbps: int = 500
    audio: str = ""


@dataclass(frozen=True, slots=True)
class OnvifSpec:
    """What the device is and how it behaves."""

    profiles: tuple[OnvifProfile, ...] = ()
    user: str = "admin"
    password: str = "secret"
    name: str = "simcam"
    clock_offset_s: float = 0.0
    media2: bool = True  # media 1 shows H.264 and JPEG alone, as its schema has no H.265
    fault: Fault = ""
    log: list[str] = field(default_factory=list)  # operations, as they were answered


class OnvifDevice:
    """Serves one device; `async with`. Port 0 takes a free one; `discoverable` joins the group on `host`."""

    def __init__(self, spec: OnvifSpec, *, host: str = "127.0.0.1", port: int = 0, discoverable: bool = False) -> None:
        self.spec = spec
        self.host = host
        self.port = port
        self._discoverable = discoverable
        self._nonces: set[str] = set()
        self._server: asyncio.Server | None = None
        self._discovery: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """HOST:PORT of its device service."""
        return f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=REQUEST_BYTES_MAX)
        self.port = int(self._server.sockets[0].getsockname()[1])
        if self._discoverable:
            loop = asyncio.get_running_loop()
            self._discovery, _ = await loop.create_datagram_endpoint(
                lambda: _Discovery(self), sock=_group_socket(self.host)
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._discovery is not None:
            self._discovery.close()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # A task that is cancelled at the end ends in silence: nobody waits for it but this device.
            with contextlib.suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError, ValueError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                    found = re.search(r"(?i)content-length:\s*(\d+)", head)
                    size = min(int(found.group(1)), REQUEST_BYTES_MAX) if found else 0
                    body = (await reader.readexactly(size)).decode("utf-8", "replace")
                    await self._answer(body, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, body: str, writer: asyncio.StreamWriter) -> None:
        match self.spec.fault:
            case "silent":
                await asyncio.Event().wait()
            case "html":
                await _send(writer, 200, "<!doctype html><html><body>Welcome<br></body></html>", "text/html")
            case "huge":
                await _send(writer, 200, "<a>" + "x" * (8 << 20) + "</a>")
            case "trickle":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while True:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            case "entities":
                await _send(writer, 200, _BOMB)
            case "fault-500":
                await _send(writer, 500, "internal error", "text/plain")
            case _:
                await _send(writer, *self.answer(body))

    # -- SOAP ---------------------------------------------------------------------------------------------------------

    def answer(self, body: str) -> tuple[int, str]:
        """(HTTP status, SOAP envelope) for a request."""
        found = _OPERATION.search(body)
        operation = found.group(1) if found else ""
        if operation not in _OPEN and not self._authorised(body):
            return 400, _fault("Sender", "ter:NotAuthorized", "Sender not Authorized")
        self.spec.log.append(operation)
        is_media2 = _MEDIA2 in body.partition("Body")[2] or f"<trt2:{operation}" in body
        match operation:
            case "GetSystemDateAndTime":
                return 200, _envelope(self._date())
            case "GetServices":
                return 200, _envelope(self._services())
            case "GetDeviceInformation":
                return 200, _envelope(
                    f"<GetDeviceInformationResponse xmlns='{_DEVICE}'><Manufacturer>Keyreel</Manufacturer>"
                    f"<Model>{escape(self.spec.name)}</Model><FirmwareVersion>1.0</FirmwareVersion>"
                    "<SerialNumber>0001</SerialNumber><HardwareId>sim</HardwareId></GetDeviceInformationResponse>"
                )
            case "GetProfiles":
                return 200, _envelope(self._profiles(is_media2))
            case "GetStreamUri":
                return self._stream(body, is_media2)
        return 500, _fault("Receiver", "ter:ActionNotSupported", "Optional Action Not Implemented")

    def _authorised(self, body: str) -> bool:
        """WS-UsernameToken: Base64(SHA-1(nonce + created + password)), fresh and never seen before."""
        fields = [re.search(rf"<(?:\w+:)?{name}[^>]*>([^<]+)<", body) for name in _TOKEN_FIELDS]
        user, digest, nonce, created = (match.group(1).strip() if match else "" for match in fields)
        try:
            made = base64.b64decode(nonce) + created.encode() + self.spec.password.encode()
            age_s = self._now().timestamp() - datetime.fromisoformat(created).timestamp()
        except ValueError:
            return False
        good = base64.b64encode(hashlib.sha1(made, usedforsecurity=False).digest()).decode() == digest
        if not good or user != self.spec.user or abs(age_s) > TOKEN_AGE_S or nonce in self._nonces:
            return False
        self._nonces.add(nonce)
        return True

    def _now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), UTC) + timedelta(seconds=self.spec.clock_offset_s)

    def _date(self) -> str:
        now = self._now()
        return (
            f"<GetSystemDateAndTimeResponse xmlns='{_DEVICE}' xmlns:tt='http://www.onvif.org/ver10/schema'>"
            "<SystemDateAndTime><tt:DateTimeType>NTP</tt:DateTimeType><tt:DaylightSavings>false</tt:DaylightSavings>"
            f"<tt:UTCDateTime><tt:Time><tt:Hour>{now.hour}</tt:Hour><tt:Minute>{now.minute}</tt:Minute>"
            f"<tt:Second>{now.second}</tt:Second></tt:Time><tt:Date><tt:Year>{now.year}</tt:Year>"
            f"<tt:Month>{now.month}</tt:Month><tt:Day>{now.day}</tt:Day></tt:Date></tt:UTCDateTime>"
            "</SystemDateAndTime></GetSystemDateAndTimeResponse>"
        )

    def _services(self) -> str:
        """Its own address is one that nobody else can reach, as with cameras behind a port forward."""
        spaces = [_DEVICE, _MEDIA, *([_MEDIA2] if self.spec.media2 else [])]
        rows = "".join(
            f"<Service><Namespace>{space}</Namespace><XAddr>http://192.0.2.1/onvif/service</XAddr></Service>"
            for space in spaces
        )
        return f"<GetServicesResponse xmlns='{_DEVICE}'>{rows}</GetServicesResponse>"

    def _profiles(self, is_media2: bool) -> str:
        rows = "".join(
            _profile(profile, is_media2) for profile in self.spec.profiles if is_media2 or profile.codec != "H265"
        )
        space = _MEDIA2 if is_media2 else _MEDIA
        return f"<GetProfilesResponse xmlns='{space}' {_TT}>{rows}</GetProfilesResponse>"

    def _stream(self, body: str, is_media2: bool) -> tuple[int, str]:
        found = re.search(r"ProfileToken>([^<]+)<", body)
        token = found.group(1) if found else ""
        profile = next((one for one in self.spec.profiles if one.token == token), None)
        if profile is None:
            return 400, _fault("Sender", "ter:NoProfile", "Profile Not Exist")
        url = escape(profile.url)
        if is_media2:
            return 200, _envelope(f"<GetStreamUriResponse xmlns='{_MEDIA2}'><Uri>{url}</Uri></GetStreamUriResponse>")
        return 200, _envelope(
            f"<GetStreamUriResponse xmlns='{_MEDIA}' {_TT}><MediaUri><tt:Uri>{url}</tt:Uri></MediaUri>"
            "</GetStreamUriResponse>"
        )


_TOKEN_FIELDS: Final = ("Username", "Password", "Nonce", "Created")
_TT: Final = "xmlns:tt='http://www.onvif.org/ver10/schema'"
_SOAP: Final = "http://www.w3.org/2003/05/soap-envelope"
_BOMB: Final = (
    '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {c} "{f"&{chr(ord(c) - 1)};" * 10}">' for c in "bcdefghijk")
    + "]><b>&k;</b>"
)


def _profile(profile: OnvifProfile, is_media2: bool) -> str:
    size = (
        f"<tt:Resolution><tt:Width>{profile.width}</tt:Width><tt:Height>{profile.height}</tt:Height></tt:Resolution>"
        f"<tt:RateControl><tt:FrameRateLimit>{profile.fps}</tt:FrameRateLimit>"
        f"<tt:BitrateLimit>{profile.bitrate_kbps}</tt:BitrateLimit></tt:RateControl>"
    )
    inner = f"<tt:Name>v</tt:Name><tt:Encoding>{profile.codec}</tt:Encoding>{size}"
    audio = f"<tt:Encoding>{profile.audio}</tt:Encoding>" if profile.audio else ""
    if is_media2:
        audio = f"<AudioEncoder token='a'>{audio}</AudioEncoder>" if audio else ""
        body = f"<Configurations><VideoEncoder token='v'>{inner}</VideoEncoder>{audio}</Configurations>"
        return f"<Profiles token='{profile.token}' fixed='true'><Name>{profile.token}</Name>{body}</Profiles>"
    audio = f"<tt:AudioEncoderConfiguration token='a'>{audio}</tt:AudioEncoderConfiguration>" if audio else ""
    return (
        f"<Profiles token='{profile.token}'><tt:Name>{profile.token}</tt:Name>"
        f"<tt:VideoEncoderConfiguration token='v'>{inner}</tt:VideoEncoderConfiguration>{audio}</Profiles>"
    )


def _envelope(body: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{_SOAP}"><s:Body>{body}</s:Body></s:Envelope>'


def _fault(code: str, subcode: str, text: str) -> str:
    return _envelope(
        f"<s:Fault xmlns:ter='http://www.onvif.org/ver10/error'><s:Code><s:Value>s:{code}</s:Value><s:Subcode>"
        f"<s:Value>{subcode}</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang='en'>{text}</s:Text></s:Reason>"
        "</s:Fault>"
    )


async def _send(
    writer: asyncio.StreamWriter, status: int, text: str, kind: str = "application/soap+xml; charset=utf-8"
) -> None:
    data = text.encode()
    head = f"HTTP/1.1 {status} Answer\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()


def _group_socket(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((GROUP, DISCOVERY_PORT))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton(host))
    return sock


class _Discovery(asyncio.DatagramProtocol):
    """Answers probes for network video transmitters."""

    def __init__(self, device: OnvifDevice) -> None:
        self._device = device
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        found = re.search(rb"MessageID[^>]*>([^<]+)<", data)
        if self._transport is None or found is None or b"NetworkVideoTransmitter" not in data:
            return
        device = self._device
        scopes = f"onvif://www.onvif.org/name/{device.spec.name} onvif://www.onvif.org/hardware/sim"
        self._transport.sendto(
            (
                f'<?xml version="1.0"?><s:Envelope xmlns:s="{_SOAP}" '
                'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
                'xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"><s:Header>'
                f"<a:RelatesTo>{found.group(1).decode('ascii', 'replace')}</a:RelatesTo></s:Header><s:Body>"
                f"<d:ProbeMatches><d:ProbeMatch><a:EndpointReference><a:Address>urn:uuid:simcam-{device.port}"
                "</a:Address></a:EndpointReference><d:Types>dn:NetworkVideoTransmitter</d:Types>"
                f"<d:Scopes>{scopes}</d:Scopes><d:XAddrs>http://{device.address}/onvif/device_service</d:XAddrs>"
                "<d:MetadataVersion>1</d:MetadataVersion></d:ProbeMatch></d:ProbeMatches></s:Body></s:Envelope>"
            ).encode(),
            addr,
        )
