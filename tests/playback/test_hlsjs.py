"""HLS as people's pages play it: hls.js in a real Chromium, on a stored range and on a growing recording."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from base.units import US, format_time
from chunks.records import Gap, GapCause
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.conftest import HLS_JS
from tests.e2e.node import Node as RecordingNode
from tests.e2e.node import until
from tests.playback.conftest import T0, StartNode
from tests.support import Recording

pytestmark = [pytest.mark.needs_chromium, pytest.mark.needs_hlsjs]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
]
# What went wrong is kept in `errors`; hls.js mends much by itself, and a clean stream gives it nothing to mend.
PLAY = """async ([url, from, options]) => {
  document.body.innerHTML = '<video muted></video>';
  const video = document.querySelector('video'), hls = new Hls(options);
  window.errors = []; window.hls = hls;
  hls.on(Hls.Events.ERROR, (_, data) => window.errors.push(data.details));
  hls.loadSource(url); hls.attachMedia(video);
  await new Promise((done, failed) => {
    video.oncanplay = done; setTimeout(() => failed(new Error('not playable: ' + window.errors)), 20000); });
  if (from) video.currentTime = from;
  await video.play();
}"""
# hls.js' player of key frames beside the first one; the number in the bars of what it shows (tests.support).
SCRUB = """async (time) => {
  const video = document.createElement('video'), keys = window.hls.createIFramePlayer();
  video.muted = true; document.body.append(video); keys.attachMedia(video);
  keys.on(Hls.Events.ERROR, (_, data) => window.errors.push('key frames: ' + data.details));
  keys.loadMediaAt(time);
  await new Promise((done, failed) => {
    const look = setInterval(() => {
      if (video.readyState >= 2 && !video.seeking) { clearInterval(look); done(); } }, 50);
    setTimeout(() => failed(new Error('no key frame: ' + window.errors)), 20000); });
  const canvas = document.createElement('canvas'); canvas.width = 320; canvas.height = 192;
  const context = canvas.getContext('2d'); context.drawImage(video, 0, 0);
  const row = context.getImageData(0, 96, 320, 1).data;
  return [...Array(10).keys()].reduce((sum, bar) => sum + (row[4 * (bar * 32 + 16)] > 128) * 2 ** bar, 0);
}"""
AT = "() => ({time: document.querySelector('video').currentTime, errors: window.errors})"
WALL = "() => window.hls.playingDate && window.hls.playingDate.getTime()"


@pytest.fixture
async def tab() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield await browser.new_page(bypass_csp=True)  # the JSON page it starts from allows nothing
        await browser.close()


async def play(tab: Any, base: str, path: str, start_s: float = 0.0, **options: object) -> None:
    """Open a page of the node's own origin, and play a playlist in it."""
    await tab.goto(f"{base}/healthz")
    await tab.evaluate(HLS_JS.read_text())
    await tab.evaluate(PLAY, [path, start_s, options])


async def reaches(tab: Any, time_s: float) -> list[str]:
    """Wait until so much was played; what went wrong till then."""
    await tab.wait_for_function(f"document.querySelector('video').currentTime >= {time_s}", timeout=30_000)
    found = await tab.evaluate(AT)
    return list(found["errors"])


async def test_a_range_plays_across_its_gap(start_node: StartNode, recording: Recording, tab: Any) -> None:
    node = await start_node(recording)
    base = node.server.url.rstrip("/")
    query = f"start={format_time(T0)}&end={format_time(T0 + 34 * US)}"
    path = f"/api/v1/streams/gate.main/hls/vod.m3u8?{query}"
    await play(tab, base, path)
    assert set(await reaches(tab, 2)) <= {"fragGap"}, "a declared gap is told, nothing else"
    played_ms = await tab.evaluate(WALL)
    assert played_ms == pytest.approx(T0 / 1000 + 2000, abs=1000), "the wall clock of the playlist is the recording's"
    await tab.evaluate("() => { document.querySelector('video').currentTime = 33; }")
    await reaches(tab, 33.5)
    assert await tab.evaluate(WALL) == pytest.approx(T0 / 1000 + 33_500, abs=1000), "after the gap too"


@pytest.mark.parametrize("known", [True, False])
async def test_a_damaged_segment_is_passed_over(
    start_node: StartNode, recording: Recording, tab: Any, known: bool
) -> None:
    """Told as a gap it is never asked for; met while playing it is an error, and the next playlist tells it."""
    victim = recording.fragments()[5]
    with recording.chunk_paths()[0].open("r+b") as file:
        file.seek(victim.offset + 900)
        file.write(bytes(100))
    if known:
        with recording.index.write() as transaction:
            transaction.apply([Gap(recording.stream_id, victim.start_us, victim.end_us, GapCause.DAMAGE)])
    base = (await start_node(recording)).server.url.rstrip("/")
    path = f"/api/v1/streams/gate.main/hls/vod.m3u8?start={format_time(T0)}&end={format_time(T0 + 20 * US)}"
    if not known:
        await play(tab, base, path)
        await tab.wait_for_function("window.errors.includes('fragLoadError')", timeout=30_000)
    await play(tab, base, path)
    assert "fragLoadError" not in await reaches(tab, 9)


async def test_key_frames_are_found_by_the_multivariant_playlist(
    start_node: StartNode, recording: Recording, tab: Any
) -> None:
    node = await start_node(recording)
    query = f"start={format_time(T0)}&end={format_time(T0 + 20 * US)}"
    await play(tab, node.server.url.rstrip("/"), f"/api/v1/streams/gate.main/hls/multivariant.m3u8?{query}")
    assert await reaches(tab, 2) == []
    level = await tab.evaluate(
        "() => (({width, videoCodec, audioCodec}) => [width, videoCodec, audioCodec])(hls.levels[0])"
    )
    assert level[0] == 320
    assert level[1].startswith("avc1.")
    assert level[2] == "mp4a.40.2"
    assert await tab.evaluate(SCRUB, 7.2) == 75, "the key frame at 7 s, of pictures that begin anew at 4 s"
    assert (await tab.evaluate(AT))["errors"] == []


async def test_a_growing_recording_is_followed_with_low_latency(tmp_path: Any, tab: Any) -> None:
    loop = LoopSpec(codec="h264", width=320, height=180, gop=15)
    node = RecordingNode(tmp_path / "data")
    async with SimcamServer([CameraSpec("gate", loop=loop)]) as server:
        await node.start()
        try:
            await asyncio.to_thread(node.keyreel, "camera", "add", "gate", server.url("gate"))
            await node.recording("gate.main")
            base = f"http://127.0.0.1:{node.port}"

            async def is_told() -> bool:
                return (await node.get("/streams/gate.main/hls/live.m3u8"))[0] == 200

            await until(is_told, 30, "a first finished segment")
            await play(tab, base, "/api/v1/streams/gate.main/hls/live.m3u8", lowLatencyMode=True)
            began = (await tab.evaluate(AT))["time"]
            errors = await reaches(tab, began + 5)
            assert set(errors) <= {"bufferStalledError"}, "it may wait at the live edge"
            behind_s = await tab.evaluate("() => window.hls.latency")
            assert 0 < behind_s < 6, "parts are played, not only whole segments of 4 s"
        finally:
            await node.stop()
