from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from base.units import US, format_time
from chunks.records import FragmentStored, StoredRecord
from tests.playback.conftest import T0, Node, StartNode
from tests.support import Recording, audio, video

HLS = "/api/v1/streams/gate.main/hls"


def between(start_s: float, end_s: float) -> dict[str, str]:
    return {"start": format_time(T0 + round(start_s * US)), "end": format_time(T0 + round(end_s * US))}


@pytest.fixture
async def node(start_node: StartNode, recording: Recording) -> Node:
    return await start_node(recording)


async def test_a_playlist_names_segments_that_may_be_kept_for_ever(node: Node) -> None:
    answer = await node.get(f"{HLS}/vod.m3u8", params=between(0, 34))
    text = await answer.text()
    assert answer.content_type == "application/vnd.apple.mpegurl"
    assert text.startswith("#EXTM3U")
    assert "#EXT-X-GAP" in text
    assert text.endswith("#EXT-X-ENDLIST\n")
    names = [line for line in text.splitlines() if line.startswith("seg-")]
    assert len(names) >= 6
    init = await node.get(f"{HLS}/init-1.mp4")
    assert (await init.read())[4:8] == b"ftyp"
    for name in names:
        segment = await node.get(f"{HLS}/{name}")
        assert "immutable" in segment.headers["Cache-Control"]
        assert (await segment.read())[4:8] == b"moof"


async def test_live_and_key_frame_playlists(node: Node) -> None:
    live = await (await node.get(f"{HLS}/live.m3u8")).text()
    assert "#EXT-X-ENDLIST" not in live
    keys = await (await node.get(f"{HLS}/iframes.m3u8", params=between(0, 20))).text()
    assert "#EXT-X-I-FRAMES-ONLY" in keys
    ranges = re.findall(r"#EXT-X-BYTERANGE:(\d+)@(\d+)\n(keys-\d+\.m4s)", keys)
    assert len(ranges) == 20
    size, first, name = ranges[3]
    answer = await node.get(f"{HLS}/{name}", headers={"Range": f"bytes={int(first)}-{int(first) + int(size) - 1}"})
    assert answer.status == 206
    assert "immutable" in answer.headers["Cache-Control"]
    assert (await answer.read())[4:8] == b"moof"


async def test_the_multivariant_playlist_names_the_others(node: Node) -> None:
    path = f"{HLS}/multivariant.m3u8"
    text = await (await node.get(path, params=between(0, 34))).text()
    (variant,) = re.findall(r"#EXT-X-STREAM-INF:(.*)\n(.*)\n", text)
    assert 'CODECS="avc1.' in variant[0]
    assert "mp4a.40.2" in variant[0]
    assert "RESOLUTION=320x192,FRAME-RATE=25.000" in variant[0]
    vod = await (await node.get(f"{HLS}/{variant[1]}")).text()
    assert vod == await (await node.get(f"{HLS}/vod.m3u8", params=between(0, 34))).text()
    peak = int(re.findall(r"^BANDWIDTH=(\d+)", variant[0])[0])
    lengths = [float(x) for x in re.findall(r"#EXTINF:([\d.]+),\nseg", vod)]
    names = [line for line in vod.splitlines() if line.startswith("seg-")]
    sizes = [len(await (await node.get(f"{HLS}/{name}")).read()) for name in names]
    assert max(8 * size / length for size, length in zip(sizes, lengths, strict=True)) <= peak
    (keys,) = re.findall(
        r'I-FRAME-STREAM-INF:BANDWIDTH=(\d+),CODECS="(avc1[^",]+)",RESOLUTION=320x192,URI="(.*)"', text
    )
    iframes = await (await node.get(f"{HLS}/{keys[2]}")).text()
    pictures = re.findall(r"#EXTINF:([\d.]+),\n#EXT-X-BYTERANGE:(\d+)@", iframes)
    assert len(pictures) == 24
    assert max(8 * int(size) / float(length) for length, size in pictures) <= int(keys[0])
    live = await (await node.get(path)).text()
    assert live.endswith("\nlive.m3u8\n")
    assert "I-FRAME" not in live
    await node.problem("GET", path, 400, params={"start": between(0, 1)["start"]})
    await node.problem("GET", path, 404, params=between(21, 29))


async def test_a_blocking_reload_answers_when_the_part_is_there(node: Node, recording: Recording) -> None:
    path = f"{HLS}/live.m3u8"
    text = await (await node.get(path)).text()
    number = int(re.findall(r"MEDIA-SEQUENCE:(\d+)", text)[0]) + text.count("#EXTINF")
    assert await (await node.get(path, params={"_HLS_msn": number - 1})).text() == text
    parts = text.rpartition("#EXTINF")[2].count("#EXT-X-PART:")
    waiting = asyncio.create_task(node.get(path, params={"_HLS_msn": number, "_HLS_part": parts}))
    await asyncio.sleep(0)
    await asyncio.to_thread(recording.add, video(), audio(), start_us=T0 + 40 * US, seal=False)
    await asyncio.to_thread(recording.flush)
    async with asyncio.timeout(20):
        later = await (await waiting).text()
    assert int(re.findall(r"MEDIA-SEQUENCE:(\d+)", later)[0]) + later.count("#EXTINF") > number
    assert later.endswith('.m4s"\n'), "the next part is hinted"
    await node.problem("GET", path, 400, params={"_HLS_msn": number + 50})
    await node.problem("GET", path, 400, params={"_HLS_part": 1})


async def test_a_hinted_part_is_sent_when_it_is_stored(
    node: Node, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: list[StoredRecord] = []
    monkeypatch.setattr(recording, "_commit", later.extend)  # written, and not yet told to the index
    await asyncio.to_thread(recording.add, video(), audio(), start_us=T0 + 40 * US, repeat=3, seal=False)
    await asyncio.to_thread(recording.flush)
    stored = [i for i, record in enumerate(later) if isinstance(record, FragmentStored)]
    with recording.index.write() as transaction:
        transaction.apply(later[: stored[-2]])
    text = await (await node.get(f"{HLS}/live.m3u8")).text()
    (hinted,) = re.findall(r'PRELOAD-HINT:TYPE=PART,URI="([^"]+)"', text)
    waiting = asyncio.create_task(node.get(f"{HLS}/{hinted}"))
    async with asyncio.timeout(20):
        while not node.context.live.held:
            await asyncio.sleep(0.01)
        assert not waiting.done()
        with recording.index.write() as transaction:
            transaction.apply(later[stored[-2] :])
        answer = await waiting
    assert answer.status == 200
    assert (await answer.read())[4:8] == b"moof"


@pytest.mark.parametrize(
    "name",
    [
        "seg-1-0-0.m4s", "seg-0000000099-0443082150.m4s", "seg-9999999999-0000000001.m4s", "init-77.mp4", "x",
        "seg--1.m4s", "keys-0000000077.m4s", "keys-1.m4s", "keys-.m4s", "keys-9999999999.m4s",
        "part-9999999999-000000000001.m4s", "cut-0000000001-000000000000-9999999999-000000000001.m4s",
    ],
)  # fmt: skip
async def test_unknown_segments_are_problems(node: Node, name: str) -> None:
    assert (await node.problem("GET", f"{HLS}/{name}", 404))["detail"]


async def test_empty_and_bad_ranges_are_problems(node: Node) -> None:
    for call in ("vod.m3u8", "iframes.m3u8"):
        assert "timeline" in (await node.problem("GET", f"{HLS}/{call}", 404, params=between(21, 29)))["detail"]
        await node.problem("GET", f"{HLS}/{call}", 400, params=between(4, 4))
        await node.problem("GET", f"{HLS}/{call}", 400)


@pytest.mark.needs_ffmpeg
async def test_ffmpeg_plays_the_playlist(node: Node, tmp_path: Path) -> None:
    query = "&".join(f"{key}={value}" for key, value in between(0, 20).items())
    url = node.url(f"{HLS}/vod.m3u8?{query}")
    command = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-show_entries"]
    command += ["stream=nb_read_frames", "-of", "csv=p=0", "-i", url]
    probe: Any = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert int(probe.stdout.strip().split("\n")[0].rstrip(",")) == 500, probe.stderr


async def test_a_picture_says_its_exact_time(node: Node) -> None:
    answer = await node.get("/api/v1/streams/gate.main/frame.jpg", params={"at": format_time(T0 + 3_010_000)})
    assert answer.content_type == "image/jpeg"
    assert answer.headers["Keyreel-Time"] == format_time(T0 + 3 * US)
    assert (await answer.read())[:3] == b"\xff\xd8\xff"
    newest = await node.get("/api/v1/streams/gate.main/frame.jpg")
    assert newest.headers["Keyreel-Time"] == format_time(T0 + 34 * US - US // 25)
    path = "/api/v1/streams/gate.main/frame.jpg"
    await node.problem("GET", path, 404, params={"at": format_time(T0 - US)})
    await node.problem("GET", path, 400, params={"at": "2026-03-01T01:30:00"})
