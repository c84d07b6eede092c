"""The pages Cameras and Storage in a real Chromium, against a real node that records simulated cameras.

With KEYREEL_SCREENSHOTS set the pictures of docs/images are made anew.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from base.clock import wall_us
from base.history import Batch, HistoryWriter, Reading, StateRow, VolumeReading, history_path
from base.units import US
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.node import Node, free_port, until
from tests.playback.page import AXE, IMAGES, chromium, keep_picture, opened

pytestmark = [pytest.mark.needs_chromium, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
LOOP = LoopSpec(codec="h264", width=320, height=180, fps=25, gop=25, audio="aac")
CAMERAS = [
    CameraSpec("gate", loop=LOOP, user="viewer", password="secret-word"),
    CameraSpec("yard", loop=LOOP),
    CameraSpec("dock", loop=LOOP),
]
LONG_MS = 20_000
SHOTS = bool(os.environ.get("KEYREEL_SCREENSHOTS"))
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True}


@dataclass
class Place:
    """A node with cameras of its own and one address where nobody answers."""

    node: Node
    server: SimcamServer

    def registered(self, camera: str) -> bool:
        return any(line.split()[:1] == [camera] for line in self.node.keyreel("camera", "list").stdout.splitlines())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    node = Node(tmp_path_factory.mktemp("upkeep") / "data")
    async with SimcamServer(CAMERAS) as server:
        await node.start()
        try:
            for name, url, *more in (
                ("gate", server.url("gate"), "--note", "Cổng chính, nhìn ra đường"),
                ("yard", server.url("yard"), "--record", "demand"),
                ("mast", f"rtsp://127.0.0.1:{free_port()}/main"),
            ):
                await asyncio.to_thread(node.keyreel, "camera", "add", name, url, *more)
            await node.recording("gate.main")
            yield Place(node, server)
        finally:
            if node.process is not None:
                node.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    async with chromium() as one:
        yield one


async def picture(page: Any, name: str) -> None:
    if SHOTS:
        keep_picture(await page.screenshot(), IMAGES / f"{name}.webp")


async def no_serious_finding(page: Any) -> None:
    """By axe-core, which `make webtools` brings."""
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("async () => (await axe.run()).violations")
    wrong = [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found]
    assert [one for one, told in zip(wrong, found, strict=True) if told["impact"] in ("serious", "critical")] == []


async def fits_its_width(page: Any) -> None:
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_cameras_are_found_by_state_and_by_text(place: Place, browser: Any) -> None:
    from playwright.async_api import expect

    async with opened(browser, place.node, "#/cameras") as page:
        rows = page.locator(".camera-row")
        await expect(rows).to_have_count(3, timeout=LONG_MS)
        await expect(rows.nth(0)).to_contain_text("recording", timeout=LONG_MS)
        await expect(rows.nth(0)).to_contain_text("320 × 180", timeout=LONG_MS)
        await expect(rows.nth(2)).to_contain_text("standing by", timeout=LONG_MS)
        await page.get_by_role("button", name="In trouble 1").click()
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("mast")
        assert await page.evaluate("location.hash") == "#/cameras?state=trouble"
        await page.get_by_role("button", name="All 3").click()
        await page.get_by_role("searchbox").fill("nhìn ra")
        await expect(rows).to_have_count(1)
        await expect(rows.get_by_role("link", name="Watch gate")).to_have_attribute(
            "href", "#/playback?streams=gate.main"
        )
    async with opened(browser, place.node, "#/cameras?q=mast") as page:
        await expect(page.locator(".camera-row")).to_have_count(1, timeout=LONG_MS)


async def test_a_camera_is_tested_added_changed_and_removed(place: Place, browser: Any) -> None:
    from playwright.async_api import expect

    async with opened(browser, place.node, "#/cameras", viewport={"width": 1280, "height": 900}) as page:
        await page.get_by_role("button", name="Add", exact=True).click()
        dialog = page.get_by_role("dialog")
        await dialog.locator("[name=id]").fill("gate")
        await dialog.locator("[name=main]").fill("rtsp://127.0.0.1/other")
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog.locator("form .problem")).to_contain_text("gate is registered already", timeout=LONG_MS)
        await dialog.locator("[name=id]").fill("dock")
        await dialog.locator("[name=main]").fill(place.server.url("nobody"))
        await dialog.get_by_role("button", name="Test connection").click()
        await expect(dialog.locator(".answer")).to_contain_text("no such path on the camera", timeout=LONG_MS)
        await dialog.locator("[name=main]").fill(place.server.url("dock"))
        await dialog.get_by_role("button", name="Test connection").click()
        answer = dialog.locator(".answer.good")
        await expect(answer).to_contain_text("320 × 180, avc1.", timeout=LONG_MS)
        for text in ("h264, aac", "DESCRIBE 200", "every 1 s", "as the node's"):
            await expect(answer).to_contain_text(text)
        await answer.scroll_into_view_if_needed()
        await picture(page, "camera-test")
        await dialog.get_by_role("button", name="Save").click()
        row = page.locator(".camera-row", has_text="dock")
        await expect(row).to_contain_text("recording", timeout=LONG_MS)

        await page.get_by_role("button", name="Change gate").click()
        assert "***@127.0.0.1" in await dialog.locator("[name=main]").input_value()
        await dialog.locator("[name=note]").fill("by the gate")
        await dialog.get_by_role("button", name="Save").click()
        await expect(page.locator(".camera-row", has_text="by the gate")).to_contain_text("recording")
        assert "secret-word" not in await page.content()

        await page.get_by_role("button", name="Change dock").click()
        await dialog.locator("[name=main]").fill("ftp://127.0.0.1/")
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog.locator("form .problem")).to_contain_text("rtsp://")
        await dialog.get_by_role("button", name="Remove").click()
        await dialog.get_by_role("button", name="Yes, remove").click()
        await expect(row).to_have_count(0)
    assert not await asyncio.to_thread(place.registered, "dock")


async def test_how_a_camera_came_and_went(place: Place, browser: Any) -> None:
    from playwright.async_api import expect

    now_us = wall_us()
    hours = (
        (30, "recording", ""),
        (9, "offline", "unreachable"),
        (8.5, "recording", ""),
        (3, "offline", "unauthorized"),
    )
    rows = [("gate.main", StateRow(now_us - round(ago * 3600 * US), *told)) for ago, *told in hours]
    HistoryWriter(history_path(place.node.data), 9).add(Batch(states=rows), now_us)
    async with opened(browser, place.node, "#/cameras") as page:
        strip = page.locator(".camera-row", has_text="gate").locator(".strip")
        await expect(strip).to_have_attribute("aria-label", "Last 24 h: recorded 85.4 %, 2 absences", timeout=LONG_MS)
        mast = page.locator(".camera-row", has_text="mast").locator(".strip rect.s-offline")
        await expect(mast).to_have_count(1, timeout=LONG_MS)
        await picture(page, "cameras")
        await page.get_by_role("button", name="Change gate").click()
        past = page.get_by_role("dialog").locator(".past")
        await expect(past).to_contain_text("no connection: wrong user or password")
        await expect(past).to_contain_text("30 min")
        assert await page.evaluate("location.hash") == "#/cameras?camera=gate"
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_wrong_rows_are_shown_and_two_thousand_scroll_well(place: Place, browser: Any, tmp_path: Path) -> None:
    from playwright.async_api import expect

    good = "".join(f"cam{i:04d},rtsp://10.2.{i // 250}.{i % 250}/main,no,Phường {i % 30}\n" for i in range(2000))
    bad = (
        "cam9,ftp://10.0.0.1/,no,\nCam,rtsp://10.0.0.1/,no,\ngate,rtsp://10.0.0.9/,no,\ncam7,rtsp://10.0.0.1/,maybe,\n"
    )
    (tmp_path / "bad.csv").write_text("id,main,enabled,note\n" + good[:400] + "\n" + bad)
    (tmp_path / "good.csv").write_text("\ufeffid,main,enabled,note\n" + good)
    async with opened(browser, place.node, "#/cameras") as page:
        await expect(page.locator(".camera-row")).to_have_count(3, timeout=LONG_MS)
        await page.get_by_role("button", name="Import CSV").click()
        dialog = page.get_by_role("dialog")
        await dialog.locator("[type=file]").set_input_files(tmp_path / "bad.csv")
        await expect(dialog.locator(".row-wrong")).to_have_count(4, timeout=LONG_MS)
        await expect(dialog.locator(".row-exists")).to_contain_text("registered otherwise already: main, enabled, note")
        for text in ("rtsp://", "'maybe' is not yes or no", "is not allowed"):
            await expect(dialog).to_contain_text(text)
        await expect(dialog.get_by_role("button", name="Register")).to_be_disabled()
        await picture(page, "cameras-import")
        await dialog.locator("[type=file]").set_input_files(tmp_path / "good.csv")
        await dialog.get_by_role("button", name="Register 2000 cameras").click()
        await expect(dialog).to_contain_text("2000 cameras are registered", timeout=LONG_MS)
        await dialog.locator(".actions").get_by_role("button", name="Close").click()
        await expect(page.get_by_role("button", name="All 2003")).to_be_visible(timeout=LONG_MS)
        rows = page.locator(".camera-row")
        assert await rows.count() < 60
        for share, text in ((1.0, "yard"), (0.0, "cam0000"), (0.5, "cam")):
            await page.locator(".rows").evaluate("(box, share) => { box.scrollTop = box.scrollHeight * share; }", share)
            await expect(rows.filter(has_text=text).first).to_be_visible(timeout=LONG_MS)
            assert await rows.count() < 60
        await page.get_by_role("searchbox").fill("10.2.3.7/")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("cam0757")


def remember_a_day(node: Node, volume: str, free_bytes: int) -> None:
    """A day of readings, so that the plots of docs/images have something to show; busy hours, one slow disk."""
    now_s = wall_us() // US
    writer = HistoryWriter(history_path(node.data), 9)
    for step_s, count in ((10, 358), (300, 287)):
        batch = Batch()
        for i in range(count):
            at_s = now_s // step_s * step_s - (count - 1 - i) * step_s
            phase = at_s % 86_400 / 86_400 * 2 * math.pi
            rate = 1e6 + 0.2e6 * math.sin(phase) + 2e4 * math.sin(i * 1.7)
            slow = 1 + 6 * math.exp(-(((i - count * 0.62) / (count * 0.03)) ** 2))
            free = free_bytes + round(1e6 * step_s * (count - i))
            told = {volume: VolumeReading(rate, (9 + 2 * math.sin(i)) * slow, round(2e5 * slow), free)}
            lost = 3 if slow > 5 else 0
            batch.readings.append(
                (step_s, at_s, 9, Reading(step_s, rate, 2, lost, 4 + 3 * math.sin(i * 0.9) ** 2, told))
            )
        writer.add(batch, now_s * US)
    writer.close()


async def test_storage_says_how_it_is_and_how_it_was(place: Place, browser: Any) -> None:
    from playwright.async_api import expect

    async def measured() -> bool:
        _, body = await place.node.get("/history")
        return any(body["ingest_bytes_s"])

    await until(measured, 30, "a reading of ten seconds")
    if SHOTS:
        _, body = await place.node.get("/volumes")
        remember_a_day(place.node, body["volumes"][0]["id"], body["volumes"][0]["free_bytes"])
    async with opened(browser, place.node, "#/storage", viewport={"width": 1280, "height": 1000}) as page:
        alarms = page.locator(".alarms")
        await expect(alarms).to_contain_text("Streams without pictures (1): not reachable", timeout=LONG_MS)
        await expect(alarms).to_contain_text("mast.main")
        volume = page.locator(".cards article")
        await expect(volume).to_contain_text(str(place.node.data / "media"))
        await expect(volume.locator(".forecast")).not_to_be_empty()
        plots = page.locator(".plot")
        await expect(plots).to_have_count(8)
        await picture(page, "storage")
        box = page.get_by_role("slider", name="Comes in from cameras")
        assert "M" in (await box.locator("path").get_attribute("d") or "")
        await box.focus()
        seen = {await box.get_attribute("aria-valuetext")}
        for _ in range(3):
            await page.keyboard.press("ArrowLeft")
            seen.add(await box.get_attribute("aria-valuetext"))
        assert len(seen) >= 3, "each step reads another moment"
        await page.get_by_role("button", name="Last day").click()
        await expect(page.get_by_role("slider", name="Longest sync")).to_have_attribute("aria-valuemax", "287")
        assert await page.evaluate("location.hash") == "#/storage?span=day"
        await expect(page.get_by_text("Every chunk is in it.")).to_be_visible()
        await page.locator(".plots").scroll_into_view_if_needed()
        await picture(page, "storage-day")


@pytest.mark.needs_web
@pytest.mark.parametrize("colours", ["dark", "light"])
async def test_both_pages_suit_phone_vietnamese_and_screen_reader(place: Place, browser: Any, colours: str) -> None:
    from playwright.async_api import expect

    options = {**PHONE, "locale": "vi-VN", "color_scheme": colours, "bypass_csp": True}
    async with opened(browser, place.node, "#/cameras?q=gate", **options) as page:
        await expect(page.locator(".camera-row")).to_contain_text("đang ghi", timeout=LONG_MS)
        await fits_its_width(page)
        await no_serious_finding(page)
        if colours == "light":
            await picture(page, "cameras-phone")
        await page.get_by_role("button", name="Sửa gate").click()
        await expect(page.get_by_role("dialog")).to_contain_text("Bảy ngày qua")
        await no_serious_finding(page)
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Nhập CSV").click()
        await no_serious_finding(page)
        await page.keyboard.press("Escape")
        await page.get_by_role("link", name="Lưu trữ").click()
        await expect(page.locator(".plot")).to_have_count(8, timeout=LONG_MS)
        await expect(page.locator(".alarms")).to_contain_text("Luồng không có hình")
        await fits_its_width(page)
        await no_serious_finding(page)
        if colours == "light":
            await picture(page, "storage-phone")
