"""The client against simulated cameras, against hostile peers of a few lines each, and against another server."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest

from base.errors import CameraError, ConfigError
from native.sink import CollectSink, Sink
from rtsp.client import RtspClient
from rtsp.message import MessageParser, Request
from rtsp.rtcp import receiver_report
from simcam import CameraSpec, LoopSpec, SimcamServer
from simcam.encode import make_loop
from simcam.faults import Faults
from simcam.files import load_loop
from tests.simcam.test_peers import certificate  # noqa: F401

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus"
SMALL: dict[str, Any] = {"width": 320, "height": 180, "gop": 15, "seconds": 2}
LOOPS = {
    "h264-pcmu": LoopSpec(**SMALL, profile="baseline", audio="pcmu"),
    "h264-b-frames-aac": LoopSpec(**SMALL, profile="high", b_frames=2, audio="aac"),
    "h264-slices-opus": LoopSpec(**SMALL, slices=3, audio="opus"),
    "h265-pcma": LoopSpec(**SMALL, codec="h265", audio="pcma"),
    "h265-b-frames-l16": LoopSpec(**SMALL, codec="h265", b_frames=2, audio="l16"),
}
PLAIN = LoopSpec(**SMALL)
Transport = Literal["tcp", "udp"]


async def until(what: Callable[[], bool], deadline_s: float = 10.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not what():
            await asyncio.sleep(0.01)


async def record(url: str, **options: Any) -> tuple[RtspClient, dict[int, CollectSink], CameraError]:
    """Everything the camera sends until it ends the session."""
    client = RtspClient(url, **options)
    try:
        presentation = await client.open()
        sinks = {t.index: CollectSink(length_prefix=t.kind == "video") for t in presentation.tracks}
        await client.play(sinks)
        with pytest.raises(CameraError) as caught:
            await client.run()
    finally:
        await client.close()
    return client, sinks, caught.value


async def failure(url: str, **options: Any) -> CameraError:
    options = {"connect_timeout_s": 2.0, "response_timeout_s": 2.0, "media_timeout_s": 2.0, **options}
    client = RtspClient(url, **options)

    async def session() -> None:
        presentation = await client.open()
        await client.play({presentation.tracks[0].index: CollectSink()})
        await client.run()

    with pytest.raises(CameraError) as caught:
        await session()
    await client.close()
    assert "secret" not in str(caught.value)
    return caught.value


def samples(sink: CollectSink) -> list[bytes]:
    return [unit[2] for unit in sink.units]


# --- what good cameras send ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("name", LOOPS)
async def test_every_picture_and_frame_arrives_as_it_was_sent(name: str, transport: Transport) -> None:
    loop = await asyncio.to_thread(make_loop, LOOPS[name])
    spec = CameraSpec("gate", LOOPS[name], repeat=2, rate=8.0, donl="h265" in name)
    async with SimcamServer([spec]) as server:
        client, sinks, error = await record(server.url("gate"), transport=transport)
        sent = server.camera("gate").sent()
    assert error.reason == "ended"
    assert samples(sinks[0]) == [picture.sample for picture in sent]
    assert {unit[3] for unit in sinks[0].units} == {1}
    times = [unit[0] - sinks[0].units[0][0] for unit in sinks[0].units]
    assert times == [picture.pts_90k - sent[0].pts_90k for picture in sent]
    assert loop.audio is not None
    turn = [loop.audio.table.sample(i) for i in range(len(loop.audio.table))]
    assert samples(sinks[1]) == 2 * turn
    assert all(s.lost_packets == s.malformed_packets == 0 for s in client.tracks_stats.values())


async def test_metadata_is_taken_and_counted() -> None:
    async with SimcamServer([CameraSpec("gate", PLAIN, metadata=True)]) as server:
        client = RtspClient(server.url("gate"))
        presentation = await client.open()
        await client.play({track.index: Sink() for track in presentation.tracks})
        await until(lambda: client.tracks_stats[presentation.tracks[-1].index].packets > 0)
        await client.close()
    assert [track.kind for track in presentation.tracks] == ["video", "metadata"]


@pytest.mark.needs_corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason="footage is kept beside the project; not here")
async def test_real_footage_arrives_byte_for_byte() -> None:
    for path in [*sorted(CORPUS.glob("h264/*")), *sorted(CORPUS.glob("signed/*.mp4"))]:
        loop = await asyncio.to_thread(load_loop, path)
        rate = loop.video.duration_ticks / 90_000 / 0.3
        async with SimcamServer([CameraSpec("gate", path, repeat=1, rate=rate)]) as server:
            _, sinks, _ = await record(server.url("gate"))
        assert samples(sinks[0]) == [loop.video.table.sample(n) for n in range(len(loop.video.table))], path.name
        assert {unit[3] for unit in sinks[0].units} == {1}, path.name


@pytest.mark.parametrize("marker", ["always", "never"])
async def test_markers_that_mean_nothing_do_no_harm(marker: str) -> None:
    spec = CameraSpec("gate", LOOPS["h264-slices-opus"], repeat=1, rate=8.0, faults=Faults(marker=marker))
    async with SimcamServer([spec]) as server:
        _, sinks, _ = await record(server.url("gate"))
        sent = [picture.sample for picture in server.camera("gate").sent()]
    assert samples(sinks[0])[: len(sent) - 1] == sent[:-1]


async def test_garbage_between_frames_costs_nothing() -> None:
    spec = CameraSpec("gate", PLAIN, repeat=2, rate=8.0, faults=Faults(garbage=0.5))
    async with SimcamServer([spec]) as server:
        client, sinks, _ = await record(server.url("gate"))
        assert samples(sinks[0]) == [picture.sample for picture in server.camera("gate").sent()]
    assert client.tracks_stats[0].lost_packets == 0


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_lost_packets_never_make_a_complete_picture(transport: Transport) -> None:
    spec = CameraSpec("gate", PLAIN, repeat=4, rate=8.0, faults=Faults(loss=0.05))
    async with SimcamServer([spec]) as server:
        client, sinks, _ = await record(server.url("gate"), transport=transport)
        sent = server.camera("gate").sent()
    whole = {picture.sample for picture in sent if not picture.damaged}
    complete = [unit[2] for unit in sinks[0].units if unit[3] & 1]
    assert client.tracks_stats[0].lost_packets > 0
    assert len(complete) > len(whole) // 2
    assert set(complete) <= whole


async def test_udp_puts_packets_in_order() -> None:
    spec = CameraSpec("gate", PLAIN, repeat=3, rate=4.0, faults=Faults(reorder=0.05, duplicate=0.05))
    async with SimcamServer([spec]) as server:
        client, sinks, _ = await record(server.url("gate"), transport="udp")
        assert samples(sinks[0]) == [picture.sample for picture in server.camera("gate").sent()]
    stats = client.tracks_stats[0]
    assert stats.lost_packets == 0
    assert stats.reordered_packets > 0
    assert stats.duplicate_packets > 0


async def test_the_camera_s_clock_comes_from_its_sender_reports() -> None:
    async with SimcamServer([CameraSpec("gate", PLAIN, repeat=1, rate=1.0)]) as server:
        client, sinks, _ = await record(server.url("gate"))
        sent = server.camera("gate").sent()
    report = client.sender_report(0)
    assert report is not None
    first_us = report[0] + (sinks[0].units[0][0] - report[1]) * 100 // 9
    assert abs(first_us - sent[0].sent_us) < 500_000


# --- passwords ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["digest-md5", "digest-sha256", "basic"])
async def test_the_right_password_is_taken_and_a_wrong_one_named(scheme: Any) -> None:
    spec = CameraSpec("gate", PLAIN, repeat=1, rate=20.0, user="us:er", password="sec/ret@", auth=scheme)
    async with SimcamServer([spec]) as server:
        _, sinks, _ = await record(server.url("gate"), allow_basic=True)
        assert len(sinks[0].units) == 30
        wrong = server.url("gate").replace("sec%2Fret%40", "my-secret")
        assert (await failure(wrong, allow_basic=True)).reason == "unauthorized"
        assert (await failure(server.url("gate", credentials=False))).reason == "unauthorized"


async def test_basic_in_clear_is_refused_and_inside_tls_taken(certificate: tuple[Path, Path]) -> None:  # noqa: F811
    spec = CameraSpec("gate", PLAIN, repeat=1, rate=20.0, user="u", password="secret", auth="basic")
    async with SimcamServer([spec]) as server:
        assert (await failure(server.url("gate"))).reason == "basic-refused"
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    async with SimcamServer([spec], tls=tls) as server:
        assert (await failure(server.url("gate"))).reason == "tls"
        _, sinks, _ = await record(server.url("gate"), tls_verify=False)
        assert samples(sinks[0]) == [picture.sample for picture in server.camera("gate").sent()]


# --- what bad cameras send ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (Faults(describe_status=404), "not-found"),
        (Faults(describe_status=403), "forbidden"),
        (Faults(describe_status=503), "refused"),
        (Faults(describe_status=302, location="rtsp://u:secret@other/x"), "refused"),
        (Faults(not_rtsp=True), "not-rtsp"),
        (Faults(sdp_bytes=10 << 20), "too-large"),
        (Faults(sdp_codec="H266"), "codec"),
        (Faults(answer_bytes_per_s=20), "timeout"),
        (Faults(answer_delay_s=60), "timeout"),
        (Faults(stall=True), "stalled"),
    ],
)
async def test_each_fault_has_its_reason(faults: Faults, reason: str) -> None:
    async with SimcamServer([CameraSpec("gate", PLAIN, faults=faults)]) as server:
        error = await failure(server.url("gate"), response_timeout_s=0.7, media_timeout_s=0.7)
    assert error.reason == reason


async def test_a_camera_that_vanishes_or_falls_silent() -> None:
    async with SimcamServer([CameraSpec("gate", PLAIN, rate=4.0)]) as server:
        for event, reason in [({"drop": ""}, "ended"), ({"bye": ""}, "ended"), ({"stall": "true"}, "stalled")]:
            client = RtspClient(server.url("gate"), media_timeout_s=0.7)
            await client.open()
            await client.play({0: CollectSink()})
            running = asyncio.ensure_future(client.run())
            async with asyncio.timeout(10):
                while client.tracks_stats[0].packets < 5:
                    await asyncio.sleep(0.01)
            server.camera("gate").control(event)
            with pytest.raises(CameraError) as caught:
                await running
            assert caught.value.reason == reason
            await client.close()


async def test_unreachable_places() -> None:
    assert (await failure("rtsp://name.invalid/x")).reason == "unreachable"
    assert (await failure("rtsp://127.0.0.1:1/x")).reason == "unreachable"


@pytest.mark.parametrize("url", ["http://u:secret@cam/", "rtsp:///x", "cam", "rtsp://cam:99999/", "rtsp://[::1/"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RtspClient(url)
    assert "secret" not in str(caught.value)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def peer(handler: Handler) -> AsyncIterator[str]:
    """A server of one handler; its URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"


SDP = b"v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:a\r\n"


class Script:
    """A camera that answers by method: a value is sent with the request's CSeq, and recorded."""

    def __init__(self, **answers: bytes) -> None:
        self.answers = {
            "OPTIONS": b"RTSP/1.0 200 OK\r\nPublic: GET_PARAMETER\r\n\r\n",
            "DESCRIBE": b"RTSP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(SDP) + SDP,
            "SETUP": b"RTSP/1.0 200 OK\r\nSession: 1;timeout=2\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n\r\n",
            "PLAY": b"RTSP/1.0 200 OK\r\n\r\n", "GET_PARAMETER": b"RTSP/1.0 200 OK\r\n\r\n",
            "TEARDOWN": b"RTSP/1.0 200 OK\r\n\r\n", **answers,
        }  # fmt: skip
        self.requests: list[Request] = []
        self.frames: list[tuple[int, bytes]] = []
        self.writer: asyncio.StreamWriter | None = None
        self.closed = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        parser = MessageParser(on_interleaved=lambda channel, data: self.frames.append((channel, data)))
        while data := await reader.read(65536):
            for message in parser.feed(data):
                if isinstance(message, Request):
                    self.requests.append(message)
                    answer = self.answers.get(message.method, b"")
                    number = b"CSeq: " + message.headers.get("CSeq").encode() + b"\r\n"
                    writer.write(re.sub(rb"(RTSP/1.0 [^\r]*\r\n)", rb"\1" + number, answer, count=1))
        self.closed.set()

    def methods(self) -> list[str]:
        return [request.method for request in self.requests]


SILENT = b""


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"OPTIONS": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, "not-rtsp"),
        ({"OPTIONS": os.urandom(64).replace(b"R", b"r") + b"\0"}, "not-rtsp"),
        ({"OPTIONS": b"RTSP/1.0 200 OK\r\nX: " + b"y" * (1 << 20)}, "too-large"),
        ({"OPTIONS": b"RTSP/1.0 501 No\r\n\r\n", "DESCRIBE": b"RTSP/1.0 454 No\r\n\r\n"}, "refused"),
        ({"DESCRIBE": b"RTSP/1.0 200 OK\r\n\r\n"}, "protocol"),
        ({"DESCRIBE": b"RTSP/1.0 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"}, "too-large"),
        ({"DESCRIBE": b"RTSP/1.0 401 No\r\n\r\n"}, "unauthorized"),
        ({"DESCRIBE": SILENT}, "timeout"),
        ({"SETUP": b"RTSP/1.0 461 No\r\n\r\n"}, "refused"),
        ({"SETUP": b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP;server_port=1-2\r\n\r\n"}, "protocol"),
        ({"SETUP": b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP/TCP;interleaved=7-7\r\n\r\n"}, "protocol"),
        ({"PLAY": b"RTSP/1.0 200 OK\r\n\r\n" + b"\xff" * (2 << 20)}, "protocol"),
        ({"PLAY": b"RTSP/1.0 200 OK\r\n\r\n" + b"TEARDOWN rtsp://x RTSP/1.0\r\nCSeq: 9\r\n\r\n"}, "ended"),
        ({"PLAY": b"RTSP/1.0 200 OK\r\n\r\nRTSP/1.0 200 OK\r\nContent-Length: x\r\n\r\n"}, "protocol"),
    ],
)
async def test_each_odd_answer_has_its_reason(answers: dict[str, bytes], reason: str) -> None:
    async with peer(Script(**answers)) as url:
        error = await failure(url.replace("//", "//u:secret@"), response_timeout_s=0.5)
    assert error.reason == reason


def redirect(location: str) -> bytes:
    return f"RTSP/1.0 302 Moved\r\nLocation: {location}\r\n\r\n".encode()


async def test_a_redirect_is_followed_on_the_camera_s_own_host() -> None:
    spec = CameraSpec("gate", PLAIN, repeat=1, rate=20.0, user="u", password="secret", auth="digest")
    async with SimcamServer([spec]) as server:
        script = Script(DESCRIBE=redirect(server.url("gate", credentials=False)))
        async with peer(script) as url:
            _, sinks, _ = await record(url.replace("//", "//u:secret@"))
        assert samples(sinks[0]) == [picture.sample for picture in server.camera("gate").sent()]
        assert script.methods() == ["OPTIONS", "DESCRIBE"]
        assert script.closed.is_set()


async def test_a_redirect_in_a_circle_to_nowhere_or_to_another_host_is_refused() -> None:
    script = Script()
    async with peer(script) as url:
        for location in (url, "", "http://127.0.0.1/", "rtsp://localhost/x"):
            script.answers["DESCRIBE"] = redirect(location)
            assert (await failure(url)).reason == "refused"
        assert script.methods().count("DESCRIBE") == 4 + 3
        assert "declare the camera with that address" in str(await failure(url))


async def test_a_session_is_kept_alive_and_ended_in_order() -> None:
    script = Script()
    async with peer(script) as url:
        client = RtspClient(url)
        await client.open()
        await client.play({0: CollectSink()})
        running = asyncio.ensure_future(client.run())
        await until(lambda: "GET_PARAMETER" in script.methods())
        script.answers["GET_PARAMETER"] = b"RTSP/1.0 501 Not Implemented\r\n\r\n"
        await until(lambda: script.methods().count("OPTIONS") == 2)
        running.cancel()
        await asyncio.wait([running])
        await client.close()
        await client.close()
        await script.closed.wait()
    assert script.methods()[-1] == "TEARDOWN"
    assert all(r.headers.get("Session") == "1" for r in script.requests[3:])


async def test_a_lost_session_ends_the_run() -> None:
    async with peer(Script(GET_PARAMETER=b"RTSP/1.0 454 Session Not Found\r\n\r\n")) as url:
        assert (await failure(url, media_timeout_s=10)).reason == "ended"


async def test_a_camera_that_does_not_answer_teardown_is_left_after_a_second() -> None:
    script = Script(TEARDOWN=SILENT)
    async with peer(script) as url:
        client = RtspClient(url)
        await client.open()
        await client.play({0: CollectSink()})
        async with asyncio.timeout(5):
            await client.close()
            await script.closed.wait()


async def test_media_before_the_answer_to_play_and_requests_of_the_server() -> None:
    packet = b"\x80\xe0\0\1\0\0\0\0\0\0\0\x07\x65\x88\x80"
    early = b"$\0" + len(packet).to_bytes(2, "big") + packet
    script = Script(PLAY=early + b"OPTIONS * RTSP/1.0\r\nCSeq: 77\r\n\r\nRTSP/1.0 200 OK\r\n\r\n")
    script.answers["PLAY"] = early + script.answers["PLAY"][len(early) :]
    async with peer(script) as url:
        client = RtspClient(url)
        await client.open()
        sink = CollectSink()
        await client.play({0: sink})
        client.flush()
        assert samples(sink) == [b"\0\0\0\3\x65\x88\x80"]
        await client.close()
        assert samples(sink) == [b"\0\0\0\3\x65\x88\x80"]


async def test_receiver_reports_are_sent() -> None:
    packets = b"".join(b"$\0\0\x0f\x80\xe0" + n.to_bytes(2, "big") + bytes(7) + b"\x07\x65\x88\x80" for n in (1, 2, 5))
    sender_report = b"$\1\0\x1c\x80\xc8\0\6\0\0\0\7" + bytes([0xEB, 1, 2, 3, 4, 5, 6, 7]) + bytes(12)
    script = Script(PLAY=b"RTSP/1.0 200 OK\r\n\r\n" + packets + sender_report)
    async with peer(script) as url:
        client = RtspClient(url)
        await client.open()
        await client.play({0: CollectSink()})
        await until(lambda: client.sender_report(0) is not None)
        running = asyncio.ensure_future(client.run())
        await until(lambda: len(script.frames) > 0)
        running.cancel()
        await asyncio.wait([running])
        await client.close()
    channel, report = script.frames[0]
    assert channel == 1
    assert report[8:12] == b"\0\0\0\7"
    assert report[12] == 2 * 256 // 5
    assert report[13:20] == b"\0\0\2\0\0\0\5"
    assert report[24:28] == bytes([2, 3, 4, 5])
    assert len(receiver_report(1, [], "x")) % 4 == 0


async def test_a_camera_that_asks_and_never_reads_is_cut() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        while not writer.is_closing():
            writer.write(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n" * 1000)
            await writer.drain()

    async with peer(flood) as url:
        assert (await failure(url, response_timeout_s=20)).reason == "protocol"


async def test_answers_nobody_asked_for_change_nothing() -> None:
    stray = b"RTSP/1.0 401 No\r\nCSeq: 99\r\n\r\nRTSP/1.0 454 No\r\nCSeq: 98\r\n\r\n"
    script = Script()
    script.answers["OPTIONS"] += stray
    script.answers["PLAY"] += stray
    async with peer(script) as url:
        assert (await failure(url, media_timeout_s=0.2)).reason == "stalled"


async def test_tls_with_a_peer_that_has_none() -> None:
    async with SimcamServer([CameraSpec("gate", PLAIN)]) as server:
        assert (await failure(server.url("gate").replace("rtsp:", "rtsps:"))).reason == "tls"


async def test_an_error_of_ours_comes_out_of_run_as_it_is() -> None:
    script = Script()
    async with peer(script) as url:
        client = RtspClient(url)
        await client.open()
        await client.play({0: CollectSink()})

        def broken(channel: int, data: bytes) -> None:
            raise RuntimeError("a bug")

        client._on_report = broken  # type: ignore[assignment, method-assign]
        running = asyncio.ensure_future(client.run())
        assert script.writer is not None
        script.writer.write(b"$\1\0\x08\x80\xc9\0\1abcd")
        with pytest.raises(RuntimeError, match="a bug"):
            await running
        await client.close()


async def test_failures_leave_no_socket_and_no_memory_behind() -> None:
    async def fail() -> None:
        async with SimcamServer([CameraSpec("gate", PLAIN, faults=Faults(stall=True))]) as server:
            for transport in ("tcp", "udp"):
                await failure(server.url("gate"), transport=transport, media_timeout_s=0.05)

    await fail()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await fail()
    gc.collect()
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


# --- another server -----------------------------------------------------------------------------------------------

GST_SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(); server.set_address("127.0.0.1"); server.set_service("0")
for name, launch in {
    "h264": "videotestsrc num-buffers=30 ! video/x-raw,width=320,height=240,framerate=15/1 ! x264enc key-int-max=10"
            " ! rtph264pay name=pay0 pt=96",
    "h265": "videotestsrc num-buffers=30 ! video/x-raw,width=320,height=240,framerate=15/1 ! x265enc key-int-max=10"
            " ! rtph265pay name=pay0 pt=96 audiotestsrc num-buffers=80 ! alawenc ! rtppcmapay name=pay1",
}.items():
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch("( " + launch + " )")
    server.get_mount_points().add_factory("/" + name, factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


@pytest.fixture(scope="module")
def gst_port() -> Iterator[int]:
    process = subprocess.Popen(
        ["/usr/bin/python3", "-c", GST_SERVER], stdout=subprocess.PIPE, stderr=sys.stderr, text=True
    )
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.kill()
    process.wait()


@pytest.mark.needs_gst
@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", ["h264", "h265"])
async def test_another_server_s_streams_are_whole(codec: str, transport: Transport, gst_port: int) -> None:
    client, sinks, error = await record(f"rtsp://127.0.0.1:{gst_port}/{codec}", transport=transport)
    assert error.reason == "ended"
    assert [unit[3] for unit in sinks[0].units] == [1] * 30
    assert client.tracks_stats[0].lost_packets == 0
    times = sorted(unit[0] for unit in sinks[0].units)
    assert {b - a for a, b in pairwise(times)} <= {5999, 6000, 6001}
