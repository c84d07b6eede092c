"""What the page's tests share: a node that records simulated cameras, a real Chromium, and pictures read back."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
from numpy.typing import NDArray

from base.clock import wall_us
from base.units import US, format_time, parse_time
from simcam.draw import _GLYPHS, _text
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import parse_stamp
from tests.e2e.node import Node, until

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "playback" / "web" / "node_modules" / "axe-core" / "axe.min.js"
IMAGES = ROOT / "docs" / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
DIGITS = "0123456789"
LOOP_PICTURES = 250  # 10 s of 25 a second
LONG_MS = 20_000
LISTED_US = 7 * US  # HLS lists a segment of 4 s when the next one has begun
NEEDED_US = LISTED_US + 4 * US
READY = """([names, moment]) => names.every((name) => {
  const tile = document.querySelector(`.player[data-stream="${name}"]`);
  return tile && tile.dataset.state === 'ready' && (!moment || Math.abs(Number(tile.dataset.moment) - moment) < 1000);
})"""


@asynccontextmanager
async def recording_node(data: Path, cameras: list[CameraSpec]) -> AsyncIterator[tuple[Node, SimcamServer]]:
    """A node that records these cameras, each with something durable."""
    node = Node(data)
    async with SimcamServer(cameras) as server:
        await node.start()
        try:
            async with aiohttp.ClientSession() as http:
                for spec in cameras:
                    body = {"id": spec.name, "main": server.url(spec.name)}
                    async with http.post(f"{node.base}/cameras", json=body) as answer:
                        assert answer.status == 201, await answer.text()
            await node.recording(*(f"{spec.name}.main" for spec in cameras))
            yield node, server
        finally:
            if node.process is not None:
                node.kill()


def ours(url: str, node: Node) -> bool:
    """Whether a request stays on the node."""
    return url.startswith((f"http://127.0.0.1:{node.port}/", f"blob:http://127.0.0.1:{node.port}/"))


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """A browser."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def opened(browser: Any, node: Node, address: str = "", **options: Any) -> AsyncIterator[Any]:
    """A page of the node; fails when a script fails or anything outside the node is asked for."""
    usual = {"viewport": WIDE, "timezone_id": "Asia/Ho_Chi_Minh", "locale": "en-GB", "color_scheme": "dark"}
    context = await browser.new_context(**{**usual, **options})
    page = await context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if not ours(request.url, node) else None)
    await page.goto(f"http://127.0.0.1:{node.port}/{address}")
    try:
        yield page
    finally:
        await context.close()
    assert wrong == []


# What a video element shows, as a PNG of its own size.
GRAB = """stream => {
  const tile = document.querySelector(`.player[data-stream="${stream}"]`);
  const shown = [...tile.querySelectorAll('video, img')]
    .find((one) => !one.hidden && (one.videoWidth || one.naturalWidth));
  const canvas = document.createElement('canvas');
  canvas.width = shown.videoWidth || shown.naturalWidth;
  canvas.height = shown.videoHeight || shown.naturalHeight;
  canvas.getContext('2d').drawImage(shown, 0, 0);
  return canvas.toDataURL('image/png').split(',')[1];
}"""


async def number_on_screen(page: Any, stream: str) -> int:
    """The picture number that is burned into what the page shows of a stream."""
    png = base64.b64decode(await page.evaluate(GRAB, stream))
    with av.open(io.BytesIO(png)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="gray")
    return burned_number(picture)


def burned_number(luma: NDArray[np.uint8]) -> int:
    """The picture number of a simulated camera's picture: five digits after the clock in the second line."""
    scale = max(luma.shape[0] // 160, 1)
    top, left, found = 4 + 10 * scale, 4, ""
    for at in range(10, 15):  # "mm:ss.mmm nnnnn"
        y, x = top + scale, left + (2 + 6 * at) * scale
        seen = luma[y : y + 7 * scale, x : x + 5 * scale].astype(float)
        found += min(DIGITS, key=lambda digit: float(np.abs(seen - _glyph(digit, scale)).sum()))
    return int(found)


def _glyph(digit: str, scale: int) -> NDArray[np.float64]:
    assert digit in _GLYPHS
    return _text(digit, scale)[scale : 8 * scale, 2 * scale : 7 * scale].astype(float)


def keep_picture(png: bytes, path: Path) -> None:
    """Keep a screenshot as WebP, as small as it may be and still be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(io.BytesIO(png)) as container, av.open(path, "w", format="webp") as out:
        picture = next(container.decode(video=0))
        stream = out.add_stream("libwebp", rate=1, options={"quality": "82"})
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "bgra"
        out.mux(stream.encode(picture.reformat(format="bgra")))
        out.mux(stream.encode(None))


def address(page: str, *streams: str, at_us: int | None = None, span_s: float | None = None) -> str:
    words = [f"streams={','.join(streams)}"]
    words += [f"at={format_time(at_us)}"] if at_us is not None else []
    words += [f"span={span_s}"] if span_s is not None else []
    return f"#/{page}?{'&'.join(words)}"


async def shows(page: Any, *streams: str, moment_us: int | None = None) -> None:
    """Wait until these streams have the picture of the moment on screen."""
    await page.wait_for_function(READY, arg=[list(streams), moment_us and moment_us / 1000], timeout=LONG_MS)
    await page.wait_for_timeout(250)  # the exact picture is asked for once nothing moves


async def number_recorded(node: Node, stream: str, at_us: int) -> int:
    """The number of the picture of a moment: the last one that PyAV decodes of a clip up to it, or by its stamp."""
    query = {"start": format_time(at_us - US), "end": format_time(at_us + 1), "tracks": "video"}
    status, clip = await node.get(f"/streams/{stream}/clip.mp4", **query)
    assert status == 200
    with av.open(io.BytesIO(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        stamp = parse_stamp(bytes(packets[-1]), "h264")
        container.seek(0)
        *_, last = container.decode(video=0)
    number = burned_number(last.to_ndarray(format="gray"))
    assert stream == "dock.main" or (stamp and stamp.sequence % LOOP_PICTURES == number), "stamps are in decoding order"
    return number


async def settled_us(node: Node, *streams: str) -> int:
    """A moment that every stream has, with some seconds around it."""
    now_us = wall_us()
    query = {"start": format_time(now_us - 3600 * US), "end": format_time(now_us)}

    async def enough() -> int | None:
        found = [(await node.get(f"/streams/{name}/timeline", **query))[1] for name in streams]
        first_us = max(parse_time(one["spans"][-1]["start"]) for one in found)
        last_us = min(parse_time(one["durable_until"]) for one in found)
        return last_us - LISTED_US if last_us - first_us > NEEDED_US else None

    return int(await until(enough, 30, f"some seconds of {streams}"))
