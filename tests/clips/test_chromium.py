"""Clips in the browser people use, which keeps its own rules for edit lists, sample entries and sound."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from support import T0, Recording, audio, video

from base.units import US
from clips import hls
from clips.live import LiveTail
from clips.mp4 import ClipFile
from clips.plan import plan
from clips.segments import find_segments

pytestmark = pytest.mark.needs_chromium

PAGE = '<!doctype html><video id="video"></video><canvas id="canvas" width="320" height="192"></canvas>'
OPEN = """async (url) => {
  const video = document.getElementById('video');
  const loaded = new Promise((done, failed) => {
    video.onloadeddata = done; video.onerror = () => failed(new Error(video.error.message)); });
  video.src = url;
  await loaded;
  return video.duration;
}"""
SEEK = """async (time) => {
  const video = document.getElementById('video');
  const drawn = new Promise(done => video.requestVideoFrameCallback((now, frame) => done(frame.mediaTime)));
  const sought = new Promise(done => { video.onseeked = done; });
  video.currentTime = time;
  await sought;
  const shown = await Promise.race([drawn, new Promise(done => setTimeout(() => done(null), 300))]);
  const context = document.getElementById('canvas').getContext('2d', {willReadFrequently: true});
  context.drawImage(video, 0, 0, 320, 192);
  const row = context.getImageData(0, 96, 320, 1).data;
  let number = 0;
  for (let bar = 0; bar < 10; bar++) if (row[(bar * 32 + 16) * 4] > 128) number |= 1 << bar;
  return number;
}"""
TONE = """async (from) => {
  const video = document.getElementById('video');
  const audio = new AudioContext(); await audio.resume();
  const analyser = audio.createAnalyser(); analyser.fftSize = 256;
  audio.createMediaElementSource(video).connect(analyser); analyser.connect(audio.destination);
  const sought = new Promise(done => { video.onseeked = done; });
  video.currentTime = from; await sought;
  const wave = new Float32Array(256);
  await video.play();
  return await new Promise(done => {
    const look = setInterval(() => {
      analyser.getFloatTimeDomainData(wave);
      if (Math.max(...wave) > 0.2 || video.ended) { clearInterval(look); done(video.currentTime); }
    }, 5);
  });
}"""


@pytest.fixture
async def browser_page() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"],
            ignore_default_args=["--mute-audio"],
        )
        yield await browser.new_page()
        await browser.close()


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """Serves tmp_path/served, and a page to play in, over HTTP."""
    app = web.Application()
    (tmp_path / "served").mkdir()

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    app.router.add_get("/", page)
    app.router.add_static("/served", tmp_path / "served")
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_clip_over_every_border_plays(
    recording: Recording, tmp_path: Path, browser_page: Any, address: str
) -> None:
    """B-frames, chunk borders, an absence of 3 s, another configuration after it; sound in step."""
    recording.add(video(b_frames=2), audio(tone_from_s=99), chunk_s=2)
    recording.add(video(first=100, profile="baseline"), audio(), start_us=T0 + 7 * US, chunk_s=2)
    recording.flush()
    with recording.index.read() as snapshot:
        made = ClipFile(plan(snapshot, recording.store, recording.stream_id, T0 + 1_320_000, T0 + 10 * US))
    (tmp_path / "served" / "clip.mp4").write_bytes(b"".join(map(bytes, made.read(0, made.size))))
    await browser_page.goto(address)
    assert await browser_page.evaluate(OPEN, "/served/clip.mp4") == pytest.approx(8.68 - 0.009, abs=0.001)
    seen = {}
    for at_s in (1.0, 0.01, 2.65, 4.0, 5.66, 5.70, 6.7, 8.66):
        seen[at_s] = await browser_page.evaluate(SEEK, at_s)
    assert seen == {1.0: 58, 0.01: 33, 2.65: 99, 4.0: 99, 5.66: 99, 5.70: 100, 6.7: 125, 8.66: 174}
    assert await browser_page.evaluate(TONE, 4.5) == pytest.approx(5.68, abs=0.15)


STREAM = """async ([url, mime]) => {
  const video = document.getElementById('video');
  const source = new MediaSource();
  video.src = URL.createObjectURL(source);
  await new Promise(done => { source.onsourceopen = done; });
  if (!MediaSource.isTypeSupported(mime)) return 'refused ' + mime;
  const buffer = source.addSourceBuffer(mime);
  const data = await (await fetch(url)).arrayBuffer();
  await new Promise((done, failed) => {
    buffer.onupdateend = done; buffer.onerror = () => failed(new Error(video.error && video.error.message));
    buffer.appendBuffer(data); });
  source.endOfStream();
  const start = buffer.buffered.start(0);
  const sought = new Promise(done => { video.onseeked = done; });
  video.currentTime = start; await sought;
  return [buffer.buffered.length, buffer.buffered.end(0) - start, start];
}"""


async def test_g711_is_heard_through_media_source_extensions(
    recording: Recording, tmp_path: Path, browser_page: Any, address: str
) -> None:
    recording.add(video(), audio("pcmu", rate_hz=8000, tone_from_s=2.0), fragment_90k=45_000)
    recording.flush()
    parts = LiveTail(recording.index, recording.store, recording.stream_id).poll()
    with recording.index.read() as snapshot:
        found = find_segments(snapshot, recording.stream_id, T0, T0 + 4 * US)
        segment = hls.file(snapshot, recording.store, recording.stream_id, found.name(0))
    (tmp_path / "served" / "all.mp4").write_bytes(parts[0].data + segment)
    await browser_page.goto(address)
    ranges, length_s, start_s = await browser_page.evaluate(STREAM, ["/served/all.mp4", parts[0].mime])
    assert ranges == 1
    assert length_s == pytest.approx(4.0, abs=0.4)
    assert await browser_page.evaluate(TONE, start_s + 1.0) - start_s == pytest.approx(2.0, abs=0.2)
