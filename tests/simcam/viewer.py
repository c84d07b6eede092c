"""A viewer written from the RFCs alone, so that what simcam sends is judged by code that shares nothing with it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from dataclasses import dataclass, field
from typing import Self


def split_rtp(packet: bytes) -> tuple[int, int, int, int, int, bytes]:
    """Marker, payload type, sequence, timestamp, SSRC, payload."""
    first, second, sequence, time, ssrc = struct.unpack(">BBHII", packet[:12])
    assert first == 0x80
    return second >> 7, second & 0x7F, sequence, time, ssrc, packet[12:]


def unpack_h264(payloads: list[bytes]) -> list[bytes]:
    nals: list[bytes] = []
    for payload in payloads:
        kind = payload[0] & 0x1F
        if kind == 24:
            at = 1
            while at < len(payload):
                size = int.from_bytes(payload[at : at + 2], "big")
                nals.append(payload[at + 2 : at + 2 + size])
                at += 2 + size
        elif kind == 28:
            if payload[1] & 0x80:
                nals.append(bytes([payload[0] & 0xE0 | payload[1] & 0x1F]))
            nals[-1] += payload[2:]
        else:
            nals.append(payload)
    return nals


def unpack_h265(payloads: list[bytes], donl: bool = False) -> tuple[list[bytes], list[int]]:
    """NAL units, and their decoding order numbers when they carry some."""
    nals: list[bytes] = []
    order: list[int] = []
    for payload in payloads:
        kind = payload[0] >> 1 & 0x3F
        at = 2
        if kind == 48:
            while at < len(payload):
                if donl and at == 2:
                    order.append(int.from_bytes(payload[at : at + 2], "big"))
                    at += 2
                elif donl:
                    order.append(order[-1] + payload[at] + 1 & 0xFFFF)
                    at += 1
                size = int.from_bytes(payload[at : at + 2], "big")
                nals.append(payload[at + 2 : at + 2 + size])
                at += 2 + size
            continue
        if kind == 49:
            at = 3
            if payload[2] & 0x80:
                nals.append(bytes([payload[0] & 0x81 | (payload[2] & 0x3F) << 1, payload[1]]))
                if donl:
                    order.append(int.from_bytes(payload[3:5], "big"))
                    at = 5
            nals[-1] += payload[at:]
            continue
        if donl:
            order.append(int.from_bytes(payload[2:4], "big"))
            at = 4
        nals.append(payload[:2] + payload[at:])
    return nals, order


def sample(nals: list[bytes]) -> bytes:
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Viewer:
    """One RTSP connection. `packets` and `reports` hold what came, by interleaved channel or UDP track."""

    url: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    session: str = ""
    cseq: int = 0
    packets: dict[int, list[bytes]] = field(default_factory=dict)
    reports: dict[int, list[bytes]] = field(default_factory=dict)
    garbage_bytes: int = 0
    sockets: list[socket.socket] = field(default_factory=list)

    @classmethod
    async def connect(cls, url: str, tls: ssl.SSLContext | None = None) -> Self:
        match = re.fullmatch(r"rtsps?://(?:[^@]*@)?\[?([^\]]+?)\]?:(\d+)/.*", url)
        assert match
        reader, writer = await asyncio.open_connection(match[1], int(match[2]), ssl=tls, limit=32 << 20)
        return cls(re.sub(r"//[^@/]*@", "//", url), reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for sock in self.sockets:
            sock.close()
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def send(self, method: str, tail: str = "", headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.cseq += 1
        lines = [f"{method} {self.url}{tail} RTSP/1.0", f"CSeq: {self.cseq}"]
        lines += [f"Session: {self.session}"] if self.session else []
        lines += [f"Content-Length: {len(body)}"] if body else []
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def ask(
        self, method: str, tail: str = "", headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        self.send(method, tail, headers, body)
        while True:
            answer = await self.read()
            if answer is not None:
                assert answer.headers.get("cseq") == str(self.cseq)
                if "session" in answer.headers:
                    self.session = answer.headers["session"].partition(";")[0]
                return answer

    async def read(self) -> Answer | None:
        """An answer, or None after one interleaved frame was kept; IncompleteReadError at the end."""
        first = await self.reader.readexactly(1)
        while first not in b"$R":
            self.garbage_bytes += 1
            first = await self.reader.readexactly(1)
        if first == b"$":
            channel, size = struct.unpack(">BH", await self.reader.readexactly(3))
            kept = self.reports if channel % 2 else self.packets
            kept.setdefault(channel // 2, []).append(await self.reader.readexactly(size))
            return None
        head = (first + await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(head[0].split()[1]), headers, body)

    async def set_up(self, *tracks: int) -> None:
        for track in tracks:
            header = {"Transport": f"RTP/AVP/TCP;unicast;interleaved={2 * track}-{2 * track + 1}"}
            answer = await self.ask("SETUP", f"/track{track}", header)
            assert answer.status == 200

    async def play(self, *tracks: int) -> Answer:
        await self.set_up(*(tracks or (0,)))
        return await self.ask("PLAY")

    async def until_end(self) -> None:
        """Keeps frames until the server closes the connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                await self.read()

    async def until_packets(self, count: int, track: int = 0) -> None:
        while len(self.packets.get(track, ())) < count:
            await self.read()

    def units(self, track: int = 0) -> list[tuple[int, list[bytes]]]:
        """(timestamp, payloads) per run of packets with one timestamp, in the order they came."""
        units: list[tuple[int, list[bytes]]] = []
        for packet in self.packets.get(track, []):
            _, _, _, time, _, payload = split_rtp(packet)
            if not units or units[-1][0] != time:
                units.append((time, []))
            units[-1][1].append(payload)
        return units

    def samples(self, codec: str = "h264") -> list[bytes]:
        """Pictures as MP4 samples."""
        unpack = unpack_h264 if codec == "h264" else lambda payloads: unpack_h265(payloads)[0]
        return [sample(unpack(payloads)) for _, payloads in self.units()]
