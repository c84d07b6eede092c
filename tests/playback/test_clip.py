from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import os
import socket
import subprocess
from pathlib import Path

import pytest

from base.units import US, format_time
from tests.playback.conftest import T0, Node, StartNode
from tests.support import Recording, Video, video

CLIP = "/api/v1/streams/gate.main/clip.mp4"


def asked(start_s: float, end_s: float) -> str:
    return f"{CLIP}?start={format_time(T0 + round(start_s * US))}&end={format_time(T0 + round(end_s * US))}"


@pytest.fixture
async def node(start_node: StartNode, recording: Recording) -> Node:
    return await start_node(recording)


async def test_a_clip_is_one_file_with_a_strong_tag(node: Node) -> None:
    answer = await node.get(asked(2, 18))
    body = await answer.read()
    assert answer.status == 200
    assert answer.content_type == "video/mp4"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Keyreel-Start"] == format_time(T0 + 2 * US)
    assert answer.headers["Keyreel-End"] == format_time(T0 + 18 * US)
    assert answer.headers["ETag"].startswith('"')
    assert answer.headers["Content-Disposition"].startswith('inline; filename="gate.main_20260301T013002Z_')
    assert int(answer.headers["Content-Length"]) == len(body)
    assert body[4:8] == b"ftyp"
    again = await node.get(asked(2, 18))
    assert again.headers["ETag"] == answer.headers["ETag"]
    assert await again.read() == body
    download = await node.get(asked(2, 18) + "&download=true")
    assert download.headers["Content-Disposition"].startswith("attachment")


async def test_head_tells_the_size_without_a_body(node: Node) -> None:
    full = await node.get(asked(0, 20))
    head = await node.http.head(node.url(asked(0, 20)), headers={"Range": "bytes=0-9"})
    assert head.status == 200
    assert head.headers["Content-Length"] == full.headers["Content-Length"]
    assert head.headers["ETag"] == full.headers["ETag"]
    assert await head.read() == b""


async def test_every_single_range_is_a_slice_of_the_whole(node: Node) -> None:
    body = await (await node.get(asked(0, 20))).read()
    size = len(body)
    for spec, start, end in (
        ("0-0", 0, 1),
        ("100-", 100, size),
        ("-1000", size - 1000, size),
        (f"{size - 1}-{size + 100}", size - 1, size),
        ("5000-100000", 5000, min(100_001, size)),
    ):
        answer = await node.get(asked(0, 20), headers={"Range": f"bytes={spec}"})
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
        assert int(answer.headers["Content-Length"]) == end - start
        assert await answer.read() == body[start:end]


async def test_several_ranges_come_as_parts(node: Node) -> None:
    body = await (await node.get(asked(0, 20))).read()
    answer = await node.get(asked(0, 20), headers={"Range": "bytes=-10, 0-99, 2000-2999"})
    assert answer.status == 206
    raw = await answer.read()
    assert int(answer.headers["Content-Length"]) == len(raw)
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + raw, policy=email.policy.default)
    parts = [part.get_payload(decode=True) for part in message.iter_parts()]  # type: ignore[attr-defined]
    assert parts[1] == body[:100]
    assert len(parts) == 3


async def test_conditions(node: Node) -> None:
    url = asked(0, 4)
    first = await node.get(url)
    etag, size = first.headers["ETag"], len(await first.read())
    assert (await node.get(url, headers={"If-None-Match": f'"other", W/{etag}'})).status == 304
    assert (await node.http.head(node.url(url), headers={"If-None-Match": etag})).status == 304
    assert (await node.problem("GET", url, 412, headers={"If-Match": '"other"'}))["reason"] == "changed"
    ranged = {"Range": "bytes=0-9"}
    assert (await node.get(url, headers={**ranged, "If-Range": etag})).status == 206
    whole = await node.get(url, headers={**ranged, "If-Range": '"other"'})
    assert (whole.status, len(await whole.read())) == (200, size)
    assert (await node.get(url, headers={"Range": "seconds=0-1"})).status == 200


@pytest.mark.parametrize("value", ["bytes=9999999999-", "bytes=5-2", "bytes=x", "bytes=" + "0-1," * 9000])
async def test_absurd_ranges_are_refused_with_the_size(node: Node, value: str) -> None:
    async with node.http.get(node.url(asked(0, 4)), headers={"Range": value}) as answer:
        assert answer.status == 416
        assert answer.headers["Content-Range"].startswith("bytes */")
        assert answer.content_type == "application/problem+json"


async def test_bad_clips_say_what_to_change(node: Node) -> None:
    assert "not after start" in (await node.problem("GET", asked(4, 4), 400))["detail"]
    assert "not after start" in (await node.problem("GET", asked(4, 2), 400))["detail"]
    assert (
        "offset"
        in (await node.problem("GET", f"{CLIP}?start=2026-03-01T01:30:00&end=2026-03-01T01:31:00Z", 400))["detail"]
    )
    assert "timeline" in (await node.problem("GET", asked(21, 29), 404))["detail"]
    await node.problem("GET", asked(0, 4).replace("gate.main", "gate.sub"), 404)
    await node.problem("GET", asked(0, 4).replace("gate.main", "%00"), 404)


@pytest.mark.needs_ffmpeg
async def test_ffmpeg_counts_the_pictures_asked_for(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(await (await node.get(asked(8, 34))).read())
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time", "-of", "csv=p=0"]
    shown = subprocess.run([*command, str(path)], capture_output=True, check=True, text=True).stdout.split()
    assert len(shown) == 12 * 25 + 4 * 25
    assert float(shown[300].rstrip(",")) - float(shown[299].rstrip(",")) == pytest.approx(10.04, abs=0.01)


async def test_clips_at_a_time_are_bounded(start_node: StartNode, recording: Recording) -> None:
    node = await start_node(recording, clips_max=1)
    with node.context.clips.hold():
        answer = await node.http.get(node.url(asked(0, 4)))
        assert answer.status == 503
        assert answer.headers["Retry-After"]
    assert (await node.get(asked(0, 4))).status == 200


async def test_damage_breaks_the_answer_off_and_is_left_out_next_time(node: Node, recording: Recording) -> None:
    good = await (await node.get(asked(0, 9.9))).read()
    path = recording.chunk_paths()[0]
    data = bytearray(path.read_bytes())
    spot = len(data) // 2
    data[spot] ^= 1
    path.write_bytes(data)
    with pytest.raises(Exception, match="payload"):
        await (await node.get(asked(0, 9.9))).read()
    answer = await node.get(asked(0, 9.9))
    body = await answer.read()
    assert answer.status == 200
    assert 0 < len(body) < len(good)


async def test_a_vanished_reader_frees_its_place(node: Node) -> None:
    address = node.server.address
    with socket.create_connection(address) as plain:
        plain.sendall(f"GET {asked(0, 20)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await asyncio.to_thread(plain.recv, 100)
    await settled(node)


async def test_a_reader_who_takes_nothing_is_cut_off(start_node: StartNode, tmp_path: Path) -> None:
    big = Recording(tmp_path / "big", "gate.main")
    sample = (1 << 21).to_bytes(4, "big") + b"\x65" + bytes((1 << 21) - 1)
    big.add(Video(video().config, 25, [(i * 3600, sample, True) for i in range(25)]))
    big.flush()
    node = await start_node(big, stall_s=0.2)
    reader, writer = await asyncio.open_connection(*node.server.address, limit=1024)
    writer.write(f"GET {asked(0, 4)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await settled(node)
    writer.close()
    big.close()


async def test_a_reader_below_the_least_rate_is_cut_off(start_node: StartNode, tmp_path: Path) -> None:
    """It takes something all the time, but too little."""
    big = Recording(tmp_path / "big", "gate.main")
    sample = (1 << 21).to_bytes(4, "big") + b"\x65" + bytes((1 << 21) - 1)
    big.add(Video(video().config, 25, [(i * 3600, sample, True) for i in range(25)]))
    big.flush()
    node = await start_node(big, stall_s=0.5, clip_bytes_s_min=1 << 30)
    reader, writer = await asyncio.open_connection(*node.server.address, limit=1024)
    writer.write(f"GET {asked(0, 4)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    taken = 0
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(4096):
            taken += len(data)
            await asyncio.sleep(0.005)
    assert 0 < taken < 25 << 21
    await settled(node)
    writer.close()
    big.close()


async def test_a_hung_volume_is_an_error_and_others_go_on(start_node: StartNode, recording: Recording) -> None:
    """Opening a FIFO that nobody writes to hangs as a dead disk does."""
    node = await start_node(recording, hung_s=0.3, read_threads=1)
    path = recording.chunk_paths()[0]
    kept = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    try:
        for _ in range(2):
            assert "not answered" in (await node.problem("GET", asked(0, 4), 503))["detail"]
        assert (
            await node.get(f"/api/v1/streams/gate.main/hls/vod.m3u8{asked(0, 20).partition(CLIP)[2]}")
        ).status == 200
        assert (await node.get("/api/v1/streams")).status == 200
    finally:
        os.close(os.open(path, os.O_RDWR))
        path.unlink()
        path.write_bytes(kept)
    async with asyncio.timeout(20):
        while (await node.get(asked(0, 4))).status != 200:
            await asyncio.sleep(0.05)


async def settled(node: Node) -> None:
    """Wait until no clip is being sent."""
    async with asyncio.timeout(20):
        while node.context.clips.held:
            await asyncio.sleep(0.02)


async def test_fragments_come_without_a_length(node: Node) -> None:
    answer = await node.get(asked(2, 18) + "&format=fmp4")
    body = await answer.read()
    assert answer.status == 200
    assert answer.content_type == "video/mp4"
    assert "Content-Length" not in answer.headers
    assert answer.headers["Keyreel-Start"] == format_time(T0 + 2 * US)
    assert answer.headers["Content-Disposition"].startswith('inline; filename="gate.main_20260301T013002Z_')
    assert body[4:8] == b"ftyp"
    assert body.count(b"moof") >= 16
    head = await node.http.head(node.url(asked(2, 18) + "&format=fmp4"))
    assert (head.status, await head.read()) == (200, b"")


async def test_one_track_alone_is_smaller_and_has_its_own_tag(node: Node) -> None:
    both = await node.get(asked(2, 18))
    pictures = await node.get(asked(2, 18) + "&tracks=video")
    assert pictures.headers["ETag"] != both.headers["ETag"]
    assert int(pictures.headers["Content-Length"]) < int(both.headers["Content-Length"])
    assert (await pictures.read()).count(b"soun") == 0


async def test_what_does_not_go_together_is_refused(node: Node) -> None:
    for more in ("&format=avi", "&tracks=subtitles", "&transcode=h264&tracks=video", "&transcode=h264&format=fmp4"):
        assert (await node.problem("GET", asked(2, 18) + more, 400))["reason"] == "bad-query"
