"""What a camera says in words: RTSP messages, their headers, SDP, challenges; and RTCP."""

from __future__ import annotations

import contextlib

from base.errors import CameraError, ConfigError
from base.media import StreamConfig
from chunks import codecs
from native.fragment import FragmentBuilder
from native.sink import Sink
from rtsp import rtcp as rtcp_packets
from rtsp.auth import Authenticator, DigestChallenge, check_basic, parse_challenges
from rtsp.headers import parse_public, parse_rtp_info, parse_session, parse_transport
from rtsp.message import Headers, Message, MessageParser, Request
from rtsp.sdp import TRACKS_MAX, Track, parse
from rtsp.track import PlayingTrack
from rtsp.url import parse_url
from tests.fuzz.feed import Feed, cuts

_HEAD_MAX, _BODY_MAX, _FRAME_MAX = 600, 600, 65_539


def _messages(parts: list[bytes]) -> tuple[str, list[Message], list[tuple[int, bytes]]]:
    frames: list[tuple[int, bytes]] = []
    found: list[Message] = []
    parser = MessageParser(
        head_bytes_max=_HEAD_MAX, body_bytes_max=_BODY_MAX, on_interleaved=lambda at, part: frames.append((at, part))
    )
    try:
        for part in parts:
            found += parser.feed(part)
            assert parser.pending_bytes <= max(_HEAD_MAX + 4 + len(part), _BODY_MAX, _FRAME_MAX)
    except CameraError as error:
        return error.reason, found, frames
    return "", found, frames


def message(data: bytes) -> None:
    """One byte at a time gives the messages that any other cut gives; what is read can be written and read again."""
    feed = Feed(data)
    seed, stream = feed.u(1), feed.rest()
    single = _messages(cuts(stream, 0))
    pieces = _messages(cuts(stream, seed))
    assert pieces[0] == single[0]
    assert pieces[2] == single[2] or single[0]
    assert pieces[1] == single[1] or single[0]  # a refusal takes the messages of its own read with it
    for told in single[1]:
        _write_again(told)


def _write_again(told: Message) -> None:
    again = MessageParser().feed(told.encode())
    assert len(again) == 1
    assert type(again[0]) is type(told)
    assert again[0].body == told.body
    if isinstance(told, Request):
        assert (again[0].method, again[0].url) == (told.method, told.url)  # type: ignore[union-attr]
    else:
        assert again[0].status == told.status  # type: ignore[union-attr]


def sdp(data: bytes) -> None:
    """The answer to DESCRIBE: what may be recorded can be received, and stored or refused for its codec."""
    try:
        shown = parse(data, "rtsp://camera/live")
    except CameraError:
        return
    assert len(shown.tracks) <= TRACKS_MAX
    for track in shown.tracks:
        _play(track)
    for kind in ("video", "audio"):
        shown.first(kind)  # type: ignore[arg-type]


def _play(track: Track) -> None:
    playing = PlayingTrack(track, Sink(), udp=track.index & 1 == 1)
    playing.receiver.push(b"\x80\x60\0\1\0\0\0\1\0\0\0\1\x65\x80", 1)
    playing.report_block(2)
    playing.end()
    video, audio = track.video, track.audio
    if video is not None:
        FragmentBuilder(video.codec, lambda _: None, parameter_sets=(*video.vps, *video.sps, *video.pps)).finish()
    try:
        if video is not None:
            codecs.sample_entry(video, in_band=True)
            codecs.codec_string(StreamConfig(video))
        if audio is not None:
            assert audio.rate_hz > 0
            codecs.sample_entry(audio, in_band=True)
            codecs.codec_string(audio)
    except CameraError:
        pass


def headers(data: bytes) -> None:
    """Values of single headers, challenges of both sides, and URLs; what we answer is one line."""
    value = data.decode("utf-8", "replace").replace("\r", " ").replace("\n", " ").replace("\0", "")
    reply, session = parse_transport(value), parse_session(value)
    assert all(0 <= n <= 255 for n in reply.interleaved or ())
    assert all(0 <= n <= 65535 for n in reply.server_ports or ())
    assert session is None or 2 <= session.timeout_s <= 86_400
    for info in parse_rtp_info(value):
        assert all(n is None or 0 <= n < 1 << 32 for n in (info.sequence, info.rtp_time, info.ssrc))
    parse_public(value)
    parse_challenges(value)
    client = Authenticator("ünder", 'pass"word', allow_basic=True)
    try:
        client.accept([value])
        answer = client.authorize("DESCRIBE", "rtsp://camera/live") or ""
        Headers([("Authorization", answer)])
    except CameraError:
        pass
    for qop in (False, True):
        DigestChallenge("realm", qop=qop, nonce="n").check(value, "DESCRIBE", "user", "word")
    check_basic(value, "user", "word")
    with contextlib.suppress(ConfigError):
        assert parse_url(value).host


def rtcp(data: bytes) -> None:
    """Compound packets; no more is found than fits."""
    found = rtcp_packets.parse(data)
    assert len(found) <= len(data) // 4
    for report in found:
        if isinstance(report, rtcp_packets.SenderReport):
            assert report.ntp_unix_us is None or -(1 << 52) < report.ntp_unix_us < 1 << 53
    feed = Feed(data)
    blocks = [
        rtcp_packets.ReportBlock(feed.u(4), feed.u(1), feed.s(5), feed.u(5), feed.u(5), feed.u(4), feed.u(5))
        for _ in range(feed.u(1) % 40)
    ]
    packet = rtcp_packets.receiver_report(feed.u(4), blocks, feed.rest().decode("latin-1"))
    assert len(packet) % 4 == 0
    assert rtcp_packets.parse(packet) == []
