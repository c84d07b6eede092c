"""The page outlives its node."""

from __future__ import annotations

from pathlib import Path

import pytest

from simcam.encode import LoopSpec
from simcam.spec import CameraSpec
from tests.playback.page import chromium, opened, recording_node

LONG_MS = 30_000


@pytest.mark.at_length
@pytest.mark.needs_chromium
async def test_cameras_and_storage_go_on_when_the_node_comes_back(tmp_path: Path) -> None:
    from playwright.async_api import expect

    gate = CameraSpec("gate", loop=LoopSpec(codec="h264", width=320, height=180, gop=15))
    async with (
        recording_node(tmp_path / "data", [gate]) as (node, _),
        chromium() as browser,
        opened(browser, node, "#/storage") as page,
    ):
        volume = page.locator(".cards article")
        await expect(volume).to_have_count(1, timeout=LONG_MS)
        node.kill()
        await expect(page.get_by_role("alert").first).to_contain_text("No answer", timeout=LONG_MS)
        await expect(volume).to_have_count(1)
        await node.start()
        await expect(page.get_by_role("alert")).to_have_count(0, timeout=LONG_MS)
        await page.get_by_role("link", name="Cameras", exact=True).click()
        await expect(page.locator(".camera-row")).to_contain_text("recording", timeout=LONG_MS)
