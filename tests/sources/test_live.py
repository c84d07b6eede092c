"""Live media by av from real servers on loopback: what arrives is what was sent, and every failure has its reason."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import support
from support import made
from webcams import MULTIPART, Answer, film, jpeg, multipart, says, web

from base.clock import monotonic_us
from base.errors import CameraError
from native.sink import CollectSink
from sources.live import AvSource, missing_protocol

SECONDS = 4
COUNT = SECONDS * 25


async def received(source: AvSource, count: int) -> tuple[CollectSink, CollectSink, str]:
    """Open and play until `count` pictures came or the source ended; (video, audio, how it ended)."""
    video, audio = CollectSink(), CollectSink()
    try:
        presentation = await source.open()
        await source.play({track.index: (video, audio)[track.index] for track in presentation.tracks})
        run = asyncio.ensure_future(source.run())
        async with asyncio.timeout(30):
            while len(video.units) < count and not run.done():
                await asyncio.sleep(0.02)
        if run.done():
            await run
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        return video, audio, ""
    except CameraError as error:
        return video, audio, error.reason
    finally:
        await source.close()


def source(url: str, **fields: Any) -> AvSource:
    return AvSource(url, connect_timeout_s=3.0, media_timeout_s=fields.pop("media_timeout_s", 3.0), **fields)


@pytest.mark.parametrize(
    ("form", "kind", "codec"),
    [("flv", "video/x-flv", "h264"), ("mpegts", "video/mp2t", "h264"), ("mpegts", "video/mp2t", "h265")],
)
async def test_over_http(tmp_path: Path, form: str, kind: str, codec: str) -> None:
    file = tmp_path / "film"
    hashes = made(file, form, support.video(codec, COUNT), support.audio("aac", SECONDS))
    async with web(film(file.read_bytes(), kind, hold=False)) as place:
        live = source(f"http://{place}/live")
        video, audio, ended = await received(live, COUNT + 1)
    assert ended == "ended"
    assert len(video.units) == COUNT
    if form == "flv":
        assert [hashlib.sha256(data).hexdigest() for _, _, data, _, _ in video.units] == hashes
    else:  # but for the access unit delimiters that the muxer adds
        sent = [support.nals(sample) for _, sample, _ in support.video(codec, COUNT).pictures]
        kinds = {"h264": (lambda head: head & 31, 9), "h265": (lambda head: head >> 1 & 63, 35)}
        kind_of, delimiter = kinds[codec]
        got = [[nal for nal in support.nals(data) if kind_of(nal[0]) != delimiter] for _, _, data, _, _ in video.units]
        assert got == sent
    times = [time for time, *_ in video.units]
    assert [b - a for a, b in pairwise(times)] == [3600] * (COUNT - 1)
    assert [data for _, _, data, _, _ in audio.units] == support.audio("aac", SECONDS).frames
    sound = [time for time, *_ in audio.units]
    assert [b - a for a, b in pairwise(sound)] == [1024] * (len(sound) - 1)
    stats = live.tracks_stats
    assert (stats[0].packets, stats[0].malformed_packets, stats[1].packets) == (COUNT, 0, len(sound))


async def test_what_a_server_sends_first_is_dated_back(tmp_path: Path) -> None:
    """Two seconds come in a burst: their arrival is that of a live stream, so wall time is right from the start."""
    file = tmp_path / "film"
    made(file, "flv", support.video("h264", COUNT))
    async with web(film(file.read_bytes(), "video/x-flv")) as place:
        began_us = monotonic_us()
        video, _, _ = await received(source(f"http://{place}/live"), COUNT)
    assert len(video.units) == COUNT
    first, last = video.units[0], video.units[COUNT // 2 - 10]
    apart_us = (last[0] - first[0]) * 100 // 9
    assert last[1] - first[1] == pytest.approx(apart_us, abs=2)
    assert first[1] < began_us + 200_000 or apart_us < 1_000_000


async def test_mpeg_ts_by_udp(tmp_path: Path) -> None:
    file = tmp_path / "film"
    made(file, "mpegts", support.video("h264", COUNT))
    data = file.read_bytes()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.connect(("127.0.0.1", port))
            while True:  # nobody listens yet: the first film may be lost, the next begins with its tables again
                for at in range(0, len(data), 1316):
                    with contextlib.suppress(OSError):
                        out.send(data[at : at + 1316])
                    await asyncio.sleep(0.002)

    sender = asyncio.ensure_future(send())
    video, _, ended = await received(source(f"udp://127.0.0.1:{port}", media_timeout_s=10), COUNT)
    sender.cancel()
    assert ended == ""
    pictures = [sample for _, sample, _ in support.video("h264", COUNT).pictures]
    kept = {
        b"".join(len(nal).to_bytes(4, "big") + nal for nal in support.nals(data) if nal[0] & 31 != 9)
        for _, _, data, _, _ in video.units
    }
    assert len(kept & set(pictures)) > COUNT // 2


@pytest.mark.needs_ffmpeg
@pytest.mark.parametrize("scheme", ["rtmp", "http"])
async def test_from_an_independent_server(tmp_path: Path, scheme: str) -> None:
    if wrong := missing_protocol(scheme):
        pytest.fail(wrong)
    file = tmp_path / "film.flv"
    hashes = made(file, "flv", support.video("h264", COUNT), support.audio("aac", SECONDS))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"{scheme}://127.0.0.1:{port}/live/gate"
    command = ["ffmpeg", "-v", "error", "-re", "-i", str(file), "-c", "copy", "-f", "flv", "-listen", "1", url]
    server = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL)
    try:
        video = CollectSink()
        for _ in range(50):  # until ffmpeg listens
            video, _, ended = await received(source(url, media_timeout_s=10), COUNT)
            if ended != "unreachable":
                break
            await asyncio.sleep(0.1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.kill()
        await server.wait()
    digests = [hashlib.sha256(data).hexdigest() for _, _, data, _, _ in video.units]
    assert digests == hashes[: len(digests)]
    assert len(digests) > COUNT // 2


async def test_mjpeg_is_refused_with_advice() -> None:
    async with web(film(multipart(jpeg()), MULTIPART)) as place:
        live = source(f"http://{place}/video.mjpg")
        with pytest.raises(CameraError, match=r"MJPEG.*RTSP") as caught:
            await live.open()
        await live.close()
    assert caught.value.reason == "codec"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (says("200 OK", "text/html", b"<html>a page</html>" * 100), "protocol"),
        (says("404 Not Found", "text/html"), "not-found"),
        (says("401 Unauthorized", "text/html"), "unauthorized"),
        (says("200 OK", "video/x-flv", b"FLV\1\5\0\0\0\x09\0\0\0\0" + b"\x17" * 5000), "protocol"),
        (says("200 OK", "application/x-mpegurl", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"), "protocol"),
    ],
)
async def test_what_is_no_stream(answer: Answer, reason: str) -> None:
    async with web(answer) as place:
        live = source(f"http://{place}/live?token=s3cret")
        with pytest.raises(CameraError) as caught:
            await live.open()
        await live.close()
    assert caught.value.reason in (reason, "codec")
    assert "s3cret" not in str(caught.value)


async def test_silence_before_and_after(tmp_path: Path) -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with web(silent) as place:
        live = AvSource(f"http://{place}/live", connect_timeout_s=0.5, media_timeout_s=0.5)
        with pytest.raises(CameraError) as caught:
            await live.open()
        await live.close()
    assert caught.value.reason == "timeout"
    file = tmp_path / "film"
    made(file, "flv", support.video("h264", COUNT))
    async with web(film(file.read_bytes()[:-5000], "video/x-flv")) as place:
        video, _, ended = await received(source(f"http://{place}/live", media_timeout_s=1.0), COUNT + 1)
    assert ended == "stalled"
    assert len(video.units) > COUNT // 2


async def test_nobody_there_and_passwords() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for scheme in ("http", "rtmp"):
        with pytest.raises(CameraError) as caught:
            await source(f"{scheme}://127.0.0.1:{port}/live").open()
        assert caught.value.reason == "unreachable"
    with pytest.raises(CameraError, match="--allow-basic") as caught:
        await source(f"http://admin:s3cret@127.0.0.1:{port}/live").open()
    assert caught.value.reason == "basic-refused"
    assert "s3cret" not in str(caught.value)


async def test_a_protocol_that_is_not_here() -> None:
    if not missing_protocol("srt"):
        return  # this av has SRT; then nothing is refused
    with pytest.raises(CameraError, match="no SRT") as caught:
        await source("srt://127.0.0.1:9000").open()
    assert caught.value.reason == "unsupported"


async def test_closed_before_it_played(tmp_path: Path) -> None:
    file = tmp_path / "film"
    made(file, "flv", support.video("h264", COUNT))
    async with web(film(file.read_bytes(), "video/x-flv")) as place:
        live = source(f"http://{place}/live")
        await live.open()
        await live.close()
        await live.close()
        assert live.tracks_stats == {}


async def test_a_slow_reader_holds_the_sender(tmp_path: Path) -> None:
    """The event loop does not come to drain: the queue stays within its bound, and nothing is lost."""
    import sources.live

    file = tmp_path / "film"
    made(file, "flv", support.video("h264", COUNT))
    video = CollectSink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources.live, "QUEUE_PACKETS_MAX", 16)
        async with web(film(file.read_bytes(), "video/x-flv", at_once=1.0, hold=False)) as place:
            live = source(f"http://{place}/live")
            await live.open()
            drain, live._drain = live._drain, lambda: None  # type: ignore[method-assign]
            await live.play({0: video})
            run = asyncio.ensure_future(live.run())
            async with asyncio.timeout(20):
                while len(live._queue) < 16:
                    await asyncio.sleep(0.01)
            live._drain = drain  # type: ignore[method-assign]
            while not run.done():
                assert len(live._queue) <= 16
                drain()
                await asyncio.sleep(0.01)
            with pytest.raises(CameraError) as caught:
                await run
            await live.close()
    assert caught.value.reason == "ended"
    assert len(video.units) == COUNT
