"""First inputs, made by the product's own writers, so that a fuzzer starts inside the formats and not at their door."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Iterable

from native import keyblock
from native.fragment import FragmentBuilder
from native.moof import Fragment
from native.packetize import RtpStream, UnitTable
from rtsp.auth import DigestChallenge
from rtsp.message import Headers, Message, Request, Response
from rtsp.rtcp import ReportBlock, receiver_report
from tests.fuzz.chunks import HEADER, SPS

PPS = b"\x68\xcb\x83\xcb\x20"
H265_VPS = bytes.fromhex("40010c01ffff01600000030090000003000003001e959809")
H265_SPS = bytes.fromhex("42010101600000030090000003000003001ea0280c5965a4932a")
H265_PPS = bytes.fromhex("4401c172b46240")
UNITS = {
    "h264": [[SPS, PPS, b"\x65\x88" + bytes(range(90))], [b"\x41\x9a" + b"\x55" * 40], [b"\x06\x05x", b"\x01\x9abc"]],
    "h265": [[H265_VPS, H265_SPS, H265_PPS, b"\x26\x01\xaf" + bytes(90)], [b"\x02\x01\xd0" + b"\x55" * 40]],
    "aac": [[b"\x21" * 60], [b"\x21\x1a" * 150]],
    "pcmu": [[b"\x7f" * 160]],
}


def _blob(data: bytes) -> bytes:
    return bytes([len(data)]) + data if len(data) < 254 else b"\xfe" + struct.pack(">H", len(data)) + data


def _packets(codec: str, payload_max: int = 64, **options: bool) -> list[bytes]:
    table = UnitTable(codec, UNITS[codec])
    stream = RtpStream(96, 7, 1, payload_max=payload_max, **options)
    return [packet for i in range(len(table)) for packet in stream.pack_list(table, i, i * 3600)]


def _sent(codec: str, head: bytes, *, raw: bool = False, **options: bool) -> bytes:
    """Packets as tests.fuzz.packets.sent reads them."""
    out, time = head, 0
    for packet in _packets(codec, **options):
        now = int.from_bytes(packet[4:8], "big")
        control = 32 if raw else (packet[1] >> 7) | (2 if now != time else 0)
        out += bytes([control]) + _blob(packet if raw else packet[12:])
        time = now
    return out


def _samples(codec: str) -> list[bytes]:
    table = UnitTable(codec, UNITS[codec])
    return [table.sample(i) for i in range(len(table))]


def _stream(codec: str = "h264", *, audio: bool = False, gap: int = 3600) -> tuple[bytes, bytes]:
    """(whole fragments, their table records) of a chunk with HEADER in front."""
    made: list[Fragment] = []
    builder = FragmentBuilder(codec, made.append, audio_rate_hz=8000 if audio else 0, fragment_90k=20_000)
    for i in range(24):
        samples = _samples(codec)
        builder.push_video(90_000 + i * gap, i * 40_000, samples[0 if i % 12 == 0 else 1])
        if audio:
            builder.push_audio(i * 320, i * 40_000, bytes(32 + i % 2))
    builder.finish()
    at, data, records = len(HEADER), b"", b""
    seed = zlib.crc32(b"")  # read_fragment seeds with the opening's own; the walk does not ask
    for number, fragment in enumerate(made, 1):
        length = fragment.prepare(
            number=number, stream_id=1, sequence=2, video_base_90k=0, audio_base=0, wall_us=number, end_us=number + 1,
            seed=seed,
        )  # fmt: skip
        data += fragment.to_bytes(at)
        records += fragment.table_record(at)
        at += length
    return data, records


def _keyblock() -> Iterable[bytes]:
    for count, step in ((1, 1), (5, 2_000_000), (64, 2_000_123)):
        frames = [(1_700_000_000_000_000 + i * step, 800 + i * 70_001 + i * i) for i in range(count)]
        ((start_us, block),) = keyblock.extend(9, 0, b"", frames)
        row = b"\0\0\0\1" + start_us.to_bytes(8, "big")
        opened = b"\7" * 4 + start_us.to_bytes(8, "little") + block
        numbers = struct.pack(">qqI", start_us, start_us + step, step)
        yield numbers + b"\1" + _blob(row) + _blob(opened) + b"\4" + block
        yield numbers + b"\0\0" + block


def sdp_text(codec: str, config: str = "1408") -> bytes:
    """An answer to DESCRIBE of a camera with picture, sound and metadata."""
    encoded = [base64.b64encode(nal).decode() for nal in (SPS, PPS, H265_VPS, H265_SPS, H265_PPS)]
    fmtp = f"packetization-mode=1;profile-level-id=42C00B;sprop-parameter-sets={encoded[0]},{encoded[1]}"
    if codec == "H265":
        fmtp = f"sprop-vps={encoded[2]}; sprop-sps={encoded[3]}; sprop-pps={encoded[4]}; sprop-max-don-diff=0"
    lengths = "sizelength=13;indexlength=3;indexdeltalength=3"
    lines = [
        "v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=Gate", "t=0 0", "a=control:*", "a=range:npt=now-",
        "m=video 0 RTP/AVP 96", f"a=rtpmap:96 {codec}/90000", f"a=fmtp:96 {fmtp}", "a=control:track1",
        "m=audio 0 RTP/AVP 97", "a=rtpmap:97 MPEG4-GENERIC/16000/1",
        f"a=fmtp:97 streamtype=5;mode=AAC-hbr;config={config};{lengths}",
        "a=control:track2", "m=audio 0 RTP/AVP 0", "a=control:rtsp://camera/live/track3",
        "m=application 0 RTP/AVP 98", "a=rtpmap:98 vnd.onvif.metadata/90000", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


_HEADERS = (
    "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=1A2B3C4D;mode=\"PLAY\"",
    "RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001;source=192.0.2.1",
    "12345678;timeout=60",
    "url=rtsp://camera/live/track1;seq=17;rtptime=-1,url=rtsp://camera/a,b;c/track2;seq=18;rtptime=90000;ssrc=1F",
    "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER",
    'Digest realm="gate", nonce="n\\"1", algorithm=SHA-256-sess, qop="auth,auth-int", opaque="o", Basic realm="x"',
    "Basic dXNlcjp3b3Jk",
    DigestChallenge("gate", nonce="n").header(stale=True),
    "rtsp://user:p%40ss@[2001:db8::1]:8554/live?channel=1&sub=0",
    "rtsps://camera/ä b",
)  # fmt: skip


def _messages() -> list[Message]:
    digest = Headers([("CSeq", "2"), ("WWW-Authenticate", DigestChallenge("gate", nonce="n").header())])
    return [
        Response(401, "Unauthorized", digest),
        Response(200, "OK", Headers([("CSeq", "3"), ("Content-Type", "application/sdp")]), sdp_text("H264")[:200]),
        Request("ANNOUNCE", "rtsp://camera/live", Headers([("CSeq", "4"), ("Session", "1;timeout=60")]), b"v=0\r\n"),
        Request("TEARDOWN", "*"),
    ]


def _framing() -> Iterable[bytes]:
    packets = [packet[:1] + bytes([packet[1] & 0x80 | 96]) + packet[2:] for packet in _packets("h264")]
    frames = [struct.pack(">BBH", 0x24, 0, len(packet)) + packet for packet in packets]
    frames.append(b"$\1\0\x1c\x80\xc8\0\6" + bytes(24))
    frames.append(b"$\2\0\x14\x80\0\0\1" + bytes(16))
    texts = [message.encode() for message in _messages()]
    yield b"\7\0" + b"".join(frames)
    yield b"\3\0" + texts[0] + b"".join(frames[:3]) + texts[1] + frames[3] + b"noise$" + b"".join(frames[4:]) + texts[3]
    yield b"\5\1" + b"".join(frames[:2]) + b"\xff" * 40 + b"".join(frames[2:])


def _rtcp() -> Iterable[bytes]:
    sender = struct.pack(">BBHIIIIII", 0x80, 200, 6, 7, 3_900_000_000, 1 << 31, 90_000, 5, 500)
    yield sender + struct.pack(">BBHI", 0x81, 203, 1, 7)
    yield receiver_report(1, [ReportBlock(7, 1, -3, 70_000, 5, 6, 7)], "keyreel@node") + sender


def _seis() -> Iterable[bytes]:
    crypto = b"\1\x0b" + bytes.fromhex("0609608648016503040201") + b"\0\0\0"
    for version, fixed in ((1, 8), (2, 16)):
        general = bytes((version, 25, 12, 0, 0)) + b"\1\xdc" * (fixed // 2) + b"\0\0\0\7\0\2" + bytes(range(64))
        tags = [(4, crypto), (1, general), (2, b"\1" + bytes(64)), (5, b"\1\1a\1b\1c"), (3, b"\1\0\4sign\1\1")]
        body = b"".join(bytes((tag,)) + struct.pack(">H", len(value)) + value for tag, value in tags)
        yield b"\0\1\0" + body
        yield b"\1\1\x40" + body.replace(b"\0\0\0", b"\0\0\3\0")
    yield b"\0\1\x80" + b"\6\0\x0c\1\0-----BEGIN" + b"\3\0\7\1\0\4sign"


def _parameters() -> Iterable[bytes]:
    yield b"\0" + b"".join(
        map(_blob, (SPS, PPS, b"\x67\x64\0\x1f\xac\xd9@P\5\xbb\1\x10\0\0\3\0\x10\0\0\3\3 \xf1\x83\x19`"))
    )
    yield b"\1" + b"".join(map(_blob, (H265_VPS, H265_SPS, H265_PPS)))


def _builder() -> Iterable[bytes]:
    for i, codec in enumerate(("h264", "h265")):
        for options in (b"\0\0\0", b"\1\0\0\2", b"\0\1\1"):
            body = b"".join(
                bytes([2 | (32 if n else 0)]) + _blob(sample) + (b"\1" + _blob(b"\x21" * 30) if options[0] else b"")
                for n, sample in enumerate(_samples(codec) * 3)
            )
            yield bytes([i]) + options + body + b"\0\1"


_MAKE: dict[str, Callable[[], Iterable[bytes]]] = {
    "rtp_video": lambda: [
        _sent("h264", b"\0\0\0\0\0\0"), _sent("h264", b"\0\2\0\0\1\2", raw=True), _sent("h265", b"\1\0\0\0\0\0"),
        _sent("h265", b"\1\3\1\1\2\1", donl=True), _sent("h264", b"\0\1\0\2\3\0", aggregate=False),
    ],
    "rtp_audio": lambda: [
        _sent("aac", b"\0\0\0\0\0\0"), _sent("aac", b"\0\1\0\0\1\1", raw=True), _sent("pcmu", b"\1\1\0\0\0\0"),
    ],
    "framing": _framing,
    "round_trip": lambda: [
        bytes([codec, size, 1]) + b"\0" * (codec == 1) + b"".join(b"\0" + _blob(b"\3" * n) + b"\0" for n in (5, 250))
        for codec in range(3) for size in (0, 3)
    ],
    "builder": _builder,
    "units": lambda: [
        bytes([i, 0]) + form for i, codec in enumerate(("h264", "h265")) for unit in UNITS[codec][:1]
        for form in (b"".join(b"\0\0\0\1" + nal for nal in unit), _samples(codec)[0])
    ],
    "table": lambda: [_stream()[1], _stream(audio=True)[1], _stream("h265", gap=3601)[1]],
    "chunk": lambda: [_stream()[0], _stream(audio=True)[0], HEADER],
    "parameters": _parameters,
    "keyblock": _keyblock,
    "sei": _seis,
    "message": lambda: [b"\5" + b"".join(m.encode() for m in _messages()), b"\2$\0\0\4abcd" + _messages()[0].encode()],
    "sdp": lambda: [sdp_text("H264"), sdp_text("H265", "1780000088")],
    "headers": lambda: [text.encode() for text in _HEADERS],
    "rtcp": _rtcp,
}  # fmt: skip


def seeds(target: str) -> list[bytes]:
    """The first inputs of one target."""
    return list(_MAKE[target]())
