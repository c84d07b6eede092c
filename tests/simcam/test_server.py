from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from rtsp.auth import Authenticator
from simcam import CameraSpec, Faults, LoopSpec, SimcamServer
from simcam.stamps import parse_stamp, verify
from tests.simcam.viewer import Viewer, split_rtp

LOOP = LoopSpec(width=320, height=180, gop=15, seconds=2)
SOUND = LoopSpec(width=320, height=180, gop=15, seconds=2, audio="aac", b_frames=2)
H265 = LoopSpec(codec="h265", width=320, height=180, gop=15, seconds=2, audio="pcmu")


def fast(name: str = "gate", loop: LoopSpec = LOOP, **fields: object) -> CameraSpec:
    """One turn of the loop in a tenth of its time, then BYE."""
    return CameraSpec(name, loop, **{"rate": 10.0, "repeat": 1, **fields})  # type: ignore[arg-type]


async def until(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("loop", [LOOP, SOUND, H265], ids=["h264", "h264-b-aac", "h265-pcmu"])
async def test_every_picture_comes_once_in_order_byte_for_byte(loop: LoopSpec) -> None:
    async with SimcamServer([fast(loop=loop)]) as server, await Viewer.connect(server.url("gate")) as viewer:
        camera = server.camera("gate")
        tracks = (0, 1) if loop.audio else (0,)
        assert (await viewer.play(*tracks)).status == 200
        await viewer.until_end()
        samples = viewer.samples(loop.codec)
        assert verify(samples, loop.codec).ok
        sent = camera.sent()
        assert [picture.sample for picture in sent] == samples
        assert [picture.sequence for picture in sent] == list(range(30))
        times = [time for time, _ in viewer.units()]
        assert [time - times[0] & 0xFFFFFFFF for time in times] == [
            picture.pts_90k - sent[0].pts_90k & 0xFFFFFFFF for picture in sent
        ]
        assert not camera.damaged
        if loop.audio:
            sound = camera.loop.audio
            assert sound is not None
            skip = 4 if loop.audio == "aac" else 0
            heard = [b"".join(payloads)[skip:] for _, payloads in viewer.units(1)]
            assert heard == [sound.table.sample(n) for n in range(len(sound.table))]
        for track in tracks:
            assert viewer.reports[track][0][1] == 200, "a sender report comes first"
            assert b"\x81\xcb\x00\x01" in viewer.reports[track][-1], "a BYE comes last"


async def test_rtp_info_tells_where_the_streams_begin() -> None:
    spec = fast(loop=SOUND, first_rtp_time=0xFFFFFFF0, first_rtp_sequence=0xFFFE)
    async with SimcamServer([spec]) as server, await Viewer.connect(server.url("gate")) as viewer:
        answer = await viewer.play(0, 1)
        await viewer.until_end()
        info = dict(part.split("=") for part in answer.headers["rtp-info"].split(",")[0].split(";"))
        _, _, sequence, first, _, _ = split_rtp(viewer.packets[0][0])
        assert (int(info["seq"]), int(info["rtptime"])) == (sequence, first)
        assert sequence == 0xFFFE
        sequences = [split_rtp(packet)[2] for packet in viewer.packets[0]]
        assert sequences == [0xFFFE + n & 0xFFFF for n in range(len(sequences))]


async def test_udp_brings_the_same() -> None:
    async with SimcamServer([fast()]) as server, await Viewer.connect(server.url("gate")) as viewer:
        rtp, rtcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
        viewer.sockets += [rtp, rtcp]
        for sock in (rtp, rtcp):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        ports = f"{rtp.getsockname()[1]}-{rtcp.getsockname()[1]}"
        answer = await viewer.ask("SETUP", "/track0", {"Transport": f"RTP/AVP;unicast;client_port={ports}"})
        assert f"client_port={ports};server_port=" in answer.headers["transport"]
        await viewer.ask("PLAY")
        await viewer.until_end()
        with contextlib.suppress(BlockingIOError):
            while True:
                viewer.packets.setdefault(0, []).append(rtp.recv(65536))
        assert verify(viewer.samples(), "h264").ok
        assert [picture.sample for picture in server.camera("gate").sent()] == viewer.samples()
        assert rtcp.recv(2048)[1] == 200


async def test_two_viewers_see_the_same_pictures() -> None:
    async with SimcamServer([CameraSpec("gate", LOOP, rate=10.0)]) as server:
        async with (
            await Viewer.connect(server.url("gate")) as first,
            await Viewer.connect(server.url("gate")) as second,
        ):
            await first.play()
            await first.until_packets(10)
            await second.play()
            await second.until_packets(60)
            await first.until_packets(120)
        one, two = first.samples()[:-1], second.samples()[:-1]
        at = one.index(two[0])
        assert at > 0
        both = min(len(one) - at, len(two))
        assert one[at : at + both] == two[:both]
        stamp = parse_stamp(two[0], "h264")
        assert stamp is not None
        assert stamp.sequence % 15 == 0, "a viewer begins with a key picture"
        await until(lambda: not server.connections)


async def test_the_sequence_counts_while_nobody_watches() -> None:
    async with SimcamServer([CameraSpec("gate", LOOP, rate=20.0)]) as server:
        seen = []
        for _ in range(2):
            async with await Viewer.connect(server.url("gate")) as viewer:
                await viewer.play()
                await viewer.until_packets(20)
            report = verify(viewer.samples()[:-1], "h264")
            assert report.ok
            assert report.first is not None
            assert report.last is not None
            seen.append((report.first, report.last))
            await until(lambda: not server.connections)
            await asyncio.sleep(0.1)
        assert seen[1][0] > seen[0][1]


async def test_sender_reports_tell_the_camera_clock() -> None:
    async with SimcamServer([CameraSpec("gate", LOOP, first_rtp_time=0)]) as server:
        async with await Viewer.connect(server.url("gate")) as viewer:
            await viewer.play()
            await viewer.until_packets(4)
            server.camera("gate").step_clock(-3600)
            while len(viewer.reports[0]) < 2:
                await viewer.read()
        now = time.time()
        mapped = []
        for report in viewer.reports[0]:
            seconds, fraction, ticks = struct.unpack(">III", report[8:20])
            mapped.append((seconds - 2_208_988_800 + fraction / 2**32, ticks / 90_000))
        assert abs(mapped[0][0] - now) < 60
        assert abs(mapped[0][0] - 3600 - (mapped[1][0] - (mapped[1][1] - mapped[0][1]))) < 0.05


@pytest.mark.parametrize(("method", "status"), [("PLAY", 454), ("PAUSE", 454), ("TEARDOWN", 454), ("RECORD", 405)])
async def test_methods_without_a_session(method: str, status: int) -> None:
    async with SimcamServer([CameraSpec("gate", LOOP)]) as server, await Viewer.connect(server.url("gate")) as viewer:
        assert (await viewer.ask(method)).status == status
        assert "DESCRIBE" in (await viewer.ask("OPTIONS")).headers["public"]
        assert (await viewer.ask("GET_PARAMETER")).status == 200


async def test_unknown_paths_and_transports() -> None:
    specs = [CameraSpec("gate", LOOP, transports=("tcp",)), CameraSpec("yard/main", LOOP)]
    async with SimcamServer(specs) as server, await Viewer.connect(server.url("gate")) as viewer:
        assert (await viewer.ask("DESCRIBE", "-not")).status == 404
        assert (await viewer.ask("SETUP", "/track1", {"Transport": "RTP/AVP/TCP;interleaved=0-1"})).status == 404
        for header in ("RTP/AVP;unicast;client_port=5000-5001", "RTP/AVP;multicast", "nonsense", ""):
            assert (await viewer.ask("SETUP", "/track0", {"Transport": header})).status == 461
        choices = "RTP/AVP;unicast;client_port=5000-5001,RTP/AVP/TCP;unicast;interleaved=6-7"
        answer = await viewer.ask("SETUP", "/track0", {"Transport": choices})
        assert "interleaved=6-7" in answer.headers["transport"]
        async with await Viewer.connect(server.url("yard/main")) as other:
            assert (await other.ask("DESCRIBE")).status == 200
            assert (await other.play(0)).status == 200


async def test_pause_and_play_again() -> None:
    spec = CameraSpec("gate", LOOP, rate=10.0)
    async with SimcamServer([spec]) as server, await Viewer.connect(server.url("gate")) as viewer:
        await viewer.play()
        await viewer.until_packets(5)
        assert (await viewer.ask("PAUSE")).status == 200
        paused = len(viewer.packets[0])
        assert (await viewer.ask("GET_PARAMETER")).status == 200
        assert len(viewer.packets[0]) == paused
        assert (await viewer.ask("PLAY")).status == 200
        await viewer.until_packets(paused + 5)
        assert (await viewer.ask("TEARDOWN")).status == 200
        assert not server.camera("gate").viewers


@pytest.mark.parametrize("scheme", ["basic", "digest-md5", "digest-sha256"])
async def test_the_password_is_asked(scheme: str) -> None:
    spec = CameraSpec("gate", LOOP, user="admin", password="p@ss word", auth=scheme)  # type: ignore[arg-type]
    async with SimcamServer([spec]) as server, await Viewer.connect(server.url("gate")) as viewer:
        assert "admin:p%40ss%20word@" in server.url("gate")
        assert (await viewer.ask("OPTIONS")).status == 200
        for password, status in (("wrong", 401), ("p@ss word", 200)):
            refused = await viewer.ask("DESCRIBE")
            assert refused.status == 401
            login = Authenticator("admin", password, allow_basic=True)
            assert login.accept([refused.headers["www-authenticate"]])
            header = login.authorize("DESCRIBE", viewer.url)
            assert header is not None
            assert (await viewer.ask("DESCRIBE", "", {"Authorization": header})).status == status
        assert (await viewer.ask("PLAY")).status == 401


async def test_a_silent_viewer_is_let_go() -> None:
    spec = CameraSpec("gate", LOOP, session_timeout_s=1)
    async with SimcamServer([spec]) as server, await Viewer.connect(server.url("gate")) as viewer:
        answer = await viewer.ask("SETUP", "/track0", {"Transport": "RTP/AVP/TCP;unicast"})
        assert answer.headers["session"].endswith(";timeout=1")
        await viewer.ask("PLAY")
        await viewer.until_end()
        assert not server.camera("gate").viewers


async def test_a_camera_that_vanishes_comes_back_on_its_port() -> None:
    async with SimcamServer([CameraSpec("gate", LOOP)]) as server:
        async with await Viewer.connect(server.url("gate")) as viewer:
            await viewer.play()
            await server.go_down()
            await viewer.until_end()
        with pytest.raises(OSError, match=r"refused|failed"):
            await Viewer.connect(server.url("gate"))
        await server.come_up()
        async with await Viewer.connect(server.url("gate")) as viewer:
            assert (await viewer.play()).status == 200


async def test_an_outage_may_drop_syns_and_leave_connections_half_open() -> None:
    async with SimcamServer([CameraSpec("gate", LOOP, rate=10.0)]) as server:
        async with await Viewer.connect(server.url("gate")) as viewer:
            await viewer.play()
            await viewer.until_packets(5)
            await server.go_down("freeze")
            assert server.handshakes == 0
            with socket.socket() as caller:
                caller.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    caller.connect(("127.0.0.1", server.port))
            await server.come_up()
            async with await Viewer.connect(server.url("gate")) as second:
                await second.play()
                seen = len(viewer.packets[0])
                await second.until_packets(20)
            assert len(viewer.packets[0]) == seen, "the old connection is open and silent"
        assert not server.camera("gate").viewers


async def test_what_is_not_rtsp_gets_400_and_the_door() -> None:
    async with SimcamServer([CameraSpec("gate", LOOP)]) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await reader.read()).startswith(b"RTSP/1.0 400")
        writer.close()


# Faults


async def test_loss_is_told_to_the_log() -> None:
    async with SimcamServer([fast(faults=Faults(loss=0.1))]) as server:
        async with await Viewer.connect(server.url("gate")) as viewer:
            await viewer.play()
            await viewer.until_end()
        sent = {picture.sequence: picture for picture in server.camera("gate").sent()}
        arrived = {picture.sample for picture in sent.values() if picture.sample in viewer.samples()}
        assert len(arrived) < len(sent)
        assert all(picture.damaged == (picture.sample not in arrived) for picture in sent.values())


async def test_no_key_picture_ever() -> None:
    async with SimcamServer([fast(faults=Faults(key_frames=False))]) as server:
        async with await Viewer.connect(server.url("gate")) as viewer:
            await viewer.play()
            await viewer.until_end()
        assert len(viewer.units()) == 28
        assert not any(picture.key for picture in server.camera("gate").sent())


async def test_joined_in_the_middle_of_a_picture() -> None:
    async with SimcamServer([fast(payload_max=200, faults=Faults(join="cut"))]) as server:
        async with await Viewer.connect(server.url("gate")) as viewer:
            await viewer.play()
            await viewer.until_end()
        first = split_rtp(viewer.packets[0][0])[5]
        assert first[0] & 0x1F == 28
        assert not first[1] & 0x80, "the first packet is no start of a fragmented NAL unit"
        assert server.camera("gate").damaged == {0}


async def test_a_stall_sends_nothing_and_ends() -> None:
    async with SimcamServer([CameraSpec("gate", LOOP, rate=10.0)]) as server:
        camera = server.camera("gate")
        async with await Viewer.connect(server.url("gate")) as viewer:
            await viewer.play()
            await viewer.until_packets(5)
            camera.control({"stall": "1"})
            before = camera.sequence
            await until(lambda: camera.sequence > before + 10)
            assert (await viewer.ask("SET_PARAMETER", "", {}, b"stall: 0\r\n")).status == 200
            await viewer.until_packets(len(viewer.packets[0]) + 10)
        report = verify(viewer.samples()[:-1], "h264")
        assert report.missing_pictures >= 10
        assert not report.mismatches


async def test_parameter_sets_change_in_mid_stream() -> None:
    async with SimcamServer([CameraSpec("gate", LOOP, rate=10.0)]) as server:
        camera = server.camera("gate")
        async with await Viewer.connect(server.url("gate")) as viewer:
            await viewer.play()
            await viewer.until_packets(10)
            assert (await viewer.ask("SET_PARAMETER", "", {}, b'switch: {"width": 640}\r\n')).status == 200
            await viewer.until_packets(60)
        samples = viewer.samples()[:-1]
        assert verify(samples, "h264").ok
        assert [p.sample for p in camera.sent()][: len(samples)] == samples
        assert len({nal for s in samples for nal in (s[4 : 4 + int.from_bytes(s[:4], "big")],) if nal[0] == 0x67}) == 2
        times = [time for time, _ in viewer.units()]
        steps = {b - a & 0xFFFFFFFF for a, b in pairwise(times)}
        assert steps == {6000}


async def test_a_change_of_codec_ends_the_session() -> None:
    async with SimcamServer([CameraSpec("gate", LOOP)]) as server:
        async with await Viewer.connect(server.url("gate")) as viewer:
            await viewer.play()
            await viewer.until_packets(3)
            server.camera("gate").switch(H265)
            await viewer.until_end()
        async with await Viewer.connect(server.url("gate")) as viewer:
            assert b"H265/90000" in (await viewer.ask("DESCRIBE")).body
            await viewer.play()
            await viewer.until_packets(20)
        assert verify(viewer.samples("h265")[:-1], "h265").ok


async def test_events_by_set_parameter() -> None:
    async with SimcamServer([CameraSpec("gate", LOOP, rate=10.0, first_rtp_time=0)]) as server:
        async with await Viewer.connect(server.url("gate")) as viewer:
            await viewer.play()
            await viewer.until_packets(5)
            assert (await viewer.ask("SET_PARAMETER", "", {}, b"jump_time: 100\r\njump_sequence: 7\r\n")).status == 200
            await viewer.until_packets(len(viewer.packets[0]) + 5)
            heads = [split_rtp(packet) for packet in viewer.packets[0]]
            assert max(b[3] - a[3] for a, b in pairwise(heads)) == 100 * 90_000 + 6000
            assert max(b[2] - a[2] & 0xFFFF for a, b in pairwise(heads)) == 8
            for wrong in (b"nonsense: 1\r\n", b"jump_time: soon\r\n", b"switch: {}x\r\n", b"switch: /no/such.mp4\r\n"):
                assert (await viewer.ask("SET_PARAMETER", "", {}, wrong)).status == 451
            viewer.send("SET_PARAMETER", "", {}, b"drop: 1\r\n")
            await viewer.until_end()
        assert server.camera("gate").sessions == 1


async def test_answers_can_be_wrong_in_many_ways() -> None:
    specs = [
        CameraSpec("moved", LOOP, faults=Faults(describe_status=302, location="rtsp://127.0.0.1/x")),
        CameraSpec("jpeg", LOOP, faults=Faults(sdp_codec="JPEG")),
        CameraSpec("huge", LOOP, faults=Faults(sdp_bytes=2_000_000)),
        CameraSpec("late", LOOP, faults=Faults(answer_delay_s=0.2)),
        CameraSpec("slow", LOOP, faults=Faults(answer_bytes_per_s=2000)),
        CameraSpec("bare", LOOP, parameter_sets=False),
    ]
    async with SimcamServer(specs) as server:
        answers = {}
        for name in server.cameras:
            async with await Viewer.connect(server.url(name)) as viewer:
                begun = time.monotonic()
                answers[name] = await viewer.ask("DESCRIBE")
                took_s = time.monotonic() - begun
                assert took_s >= {"late": 0.2, "slow": 0.2}.get(name, 0.0)
        assert (answers["moved"].status, answers["moved"].headers["location"]) == (302, "rtsp://127.0.0.1/x")
        assert b"JPEG/90000" in answers["jpeg"].body
        assert 1_990_000 < len(answers["huge"].body) <= 2_000_000
        assert b"sprop" in answers["slow"].body
        assert b"sprop" not in answers["bare"].body
        server.camera("bare").faults.not_rtsp = True
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"OPTIONS {server.url('bare')} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"SSH-")
        writer.close()


async def test_a_viewer_who_does_not_read_is_dropped_and_counted() -> None:
    heavy = LoopSpec(width=320, height=180, fps=25, gop=50, seconds=1, bitrate_bps=60_000_000, padded=True)
    async with SimcamServer([CameraSpec("gate", heavy, rate=25.0)]) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        url = server.url("gate")
        writer.write(f"SETUP {url}/track0 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;unicast\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        session = head.split("Session: ")[1].split(";")[0]
        writer.write(f"PLAY {url} RTSP/1.0\r\nCSeq: 2\r\nSession: {session}\r\n\r\n".encode())
        await until(lambda: server.camera("gate").overruns == 1, 30)
        await until(lambda: not server.connections)
        writer.close()
