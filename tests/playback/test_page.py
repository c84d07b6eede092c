"""The page in a real Chromium, against a real node that records simulated cameras."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.node import Node

pytestmark = [pytest.mark.needs_chromium, pytest.mark.slow]
CAMERAS = [
    CameraSpec("gate", loop=LoopSpec(codec="h264", width=320, height=180, gop=15, audio="aac")),
    CameraSpec("yard", loop=LoopSpec(codec="h264", width=320, height=180, gop=15, profile="baseline", audio="pcmu")),
    CameraSpec("road", loop=LoopSpec(codec="h265", width=320, height=180, gop=15)),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
MOVES = "since => { const v = document.querySelector('video'); return v.videoWidth > 0 && v.currentTime > since; }"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    one = Node(tmp_path / "data")
    async with SimcamServer(CAMERAS) as server:
        await one.start()
        for spec in CAMERAS:
            await asyncio.to_thread(one.keyreel, "camera", "add", spec.name, server.url(spec.name))
        await one.recording(*(f"{spec.name}.main" for spec in CAMERAS))
        try:
            yield one
        finally:
            if one.process is not None:
                one.kill()


@pytest.fixture
async def page(node: Node) -> AsyncIterator[Any]:
    """A page that fails the test when a script fails or anything outside the node is asked for."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if not ours(request.url, node) else None)
        await page.goto(f"http://127.0.0.1:{node.port}/")
        yield page
        await browser.close()
        assert wrong == []


def ours(url: str, node: Node) -> bool:
    return url.startswith((f"http://127.0.0.1:{node.port}/", f"blob:http://127.0.0.1:{node.port}/"))


async def choose(page: Any, stream: str) -> None:
    await page.click(f'.streams li[data-name="{stream}"] button')


async def test_the_page_shows_live_and_plays_and_downloads_a_minute(node: Node, page: Any, tmp_path: Path) -> None:
    from playwright.async_api import expect

    await expect(page.locator("#node")).to_have_text("3 of 3 streams recording", timeout=20_000)
    assert await page.locator(".streams .name").all_inner_texts() == ["gate.main", "road.main", "yard.main"]
    for stream in ("yard.main", "gate.main"):
        await choose(page, stream)
        await expect(page.locator("#badge")).to_have_text("LIVE", timeout=20_000)
        began = await page.evaluate("document.querySelector('video').currentTime")
        await page.wait_for_function(MOVES, arg=began + 0.5, timeout=20_000)
    await page.screenshot(path=str(tmp_path / "live.png"))

    await page.click("#go-recording")
    await page.wait_for_function(MOVES, arg=0.5, timeout=20_000)
    assert "at=" in await page.evaluate("location.hash")
    assert await page.evaluate("document.querySelector('video').duration") <= 60.5
    await expect(page.locator("#note")).to_be_hidden()
    await page.screenshot(path=str(tmp_path / "recording.png"))

    async with page.expect_download() as download:
        await page.click("#download")
    saved = tmp_path / "clip.mp4"
    await (await download.value).save_as(saved)
    assert (await download.value).suggested_filename.startswith("gate.main_")
    probe = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "stream=codec_name", "-of", "csv=p=0"]
    found = await asyncio.to_thread(subprocess.run, [*probe, str(saved)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "h264"


async def test_h265_is_said_and_shown_as_pictures(page: Any) -> None:
    from playwright.async_api import expect

    await choose(page, "road.main")
    await expect(page.locator("#note")).to_contain_text("cannot play H.265", timeout=20_000)
    await expect(page.locator("#badge")).to_contain_text("Picture of", timeout=20_000)
    await page.wait_for_function("() => document.getElementById('still').naturalWidth === 320", timeout=20_000)
    await page.click("#go-recording")
    await expect(page.locator("#download")).to_have_attribute("aria-disabled", "false")
    await page.wait_for_function("() => document.getElementById('still').naturalWidth === 320", timeout=20_000)


async def test_the_timeline_chooses_by_pointer_and_keyboard(page: Any) -> None:
    from playwright.async_api import expect

    await choose(page, "gate.main")
    await expect(page.locator("#badge")).to_have_text("LIVE", timeout=20_000)
    await page.click("#now")
    await page.focus("#timeline")
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator("#go-recording")).to_have_attribute("aria-pressed", "true")
    before = await page.evaluate("location.hash")
    await page.click("#timeline", position={"x": 100, "y": 50})
    await page.wait_for_function("before => location.hash !== before", arg=before)
    await expect(page.locator("#note")).to_contain_text("Nothing was recorded here", timeout=20_000)
    assert await page.locator("#timeline").get_attribute("aria-valuetext")


async def test_the_page_goes_on_when_the_node_comes_back(node: Node, page: Any) -> None:
    from playwright.async_api import expect

    await choose(page, "gate.main")
    await expect(page.locator("#badge")).to_have_text("LIVE", timeout=20_000)
    node.kill()
    await expect(page.locator("#node")).to_contain_text("No answer", timeout=20_000)
    await node.start()
    await expect(page.locator("#node")).to_have_text("3 of 3 streams recording", timeout=30_000)
    await expect(page.locator("#badge")).to_have_text("LIVE", timeout=30_000)
    began = await page.evaluate("document.querySelector('video').currentTime")
    await page.wait_for_function(MOVES, arg=began + 0.5, timeout=20_000)
