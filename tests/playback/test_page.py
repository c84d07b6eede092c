"""The page in a real Chromium, against a real node that records simulated cameras."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from base.clock import wall_us
from base.units import US, format_time, parse_time
from simcam.encode import LoopSpec
from simcam.spec import CameraSpec
from tests.e2e.node import Node, until
from tests.playback.page import (
    AXE,
    IMAGES,
    LISTED_US,
    LONG_MS,
    LOOP_PICTURES,
    PHONE,
    WIDE,
    address,
    chromium,
    keep_picture,
    number_on_screen,
    number_recorded,
    opened,
    recording_node,
    settled_us,
    shows,
)

pytestmark = [pytest.mark.needs_chromium, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
FPS = 25
SHOTS = bool(os.environ.get("KEYREEL_SCREENSHOTS"))  # renews docs/images, with larger pictures
SIZE: dict[str, Any] = {"width": 960, "height": 540, "fps": FPS} if SHOTS else {"width": 320, "height": 180, "fps": FPS}
CAMERAS = [
    CameraSpec("gate", loop=LoopSpec(codec="h264", gop=25, audio="aac", **SIZE)),
    CameraSpec("yard", loop=LoopSpec(codec="h264", gop=50, profile="baseline", audio="pcmu", **SIZE)),
    CameraSpec("dock", loop=LoopSpec(codec="h264", gop=25, b_frames=2, **SIZE)),
    CameraSpec("road", loop=LoopSpec(codec="h265", gop=25, **SIZE)),
]
H264 = ["gate.main", "yard.main", "dock.main"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with recording_node(tmp_path_factory.mktemp("page") / "data", CAMERAS) as (one, _):
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    async with chromium() as one:
        yield one


async def test_the_wall_shows_live_pictures_and_says_what_cannot_play(node: Node, browser: Any) -> None:
    from playwright.async_api import expect

    async with opened(browser, node) as page:
        await expect(page.locator("#node .long")).to_have_text("4 of 4 streams recording", timeout=LONG_MS)
        for name in H264:
            tile = page.locator(".tile", has=page.get_by_text(name, exact=True))
            await expect(tile.locator(".tile-body")).to_have_attribute("data-live", "live", timeout=LONG_MS)
            moving = "v => v.videoWidth > 0 && v.currentTime > 0 && !v.paused"
            await page.wait_for_function(moving, arg=await tile.locator("video").element_handle(), timeout=LONG_MS)
        road = page.locator(".tile", has=page.get_by_text("road.main", exact=True))
        await expect(road).to_contain_text("H.265: single pictures", timeout=LONG_MS)
        await page.wait_for_function("i => i.naturalWidth > 0", arg=await road.locator("img").element_handle())
        assert "streams=dock.main,gate.main,road.main,yard.main" in await page.evaluate("location.hash")
        await road.get_by_label("Enlarge road.main").click()
        await expect(page.locator(".tile")).to_have_count(1)
        await page.keyboard.press("Escape")
        await expect(page.locator(".tile")).to_have_count(4)


async def test_a_seek_paints_the_very_picture_of_every_stream(node: Node, browser: Any) -> None:
    at_us = await settled_us(node, *H264)
    async with opened(browser, node, address("playback", *H264, at_us=at_us)) as page:
        await shows(page, *H264, moment_us=at_us)
        for moment_us in (at_us, at_us - 1_230_000, at_us - 2_013_000):
            field = page.locator("#moment")
            typed = datetime.fromtimestamp(moment_us / US, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            await field.fill(typed)
            await field.press("Enter")
            await shows(page, *H264, moment_us=moment_us)
            for stream in H264:
                assert await number_on_screen(page, stream) == await number_recorded(node, stream, moment_us)


async def test_keys_step_by_picture_and_by_key_frame(node: Node, browser: Any) -> None:
    at_us = await settled_us(node, "gate.main") + 20_000
    async with opened(browser, node, address("playback", "gate.main", at_us=at_us, span_s=60)) as page:
        await shows(page, "gate.main", moment_us=at_us)
        number = await number_on_screen(page, "gate.main")
        for key, wanted in (
            ("ArrowRight", 1),
            ("ArrowRight", 2),
            ("ArrowLeft", 1),
            ("ArrowLeft", 0),
            ("ArrowLeft", -1),
        ):
            await page.keyboard.press(key)
            await shows(page, "gate.main")
            assert await number_on_screen(page, "gate.main") == (number + wanted) % LOOP_PICTURES
        await page.keyboard.press("Shift+ArrowLeft")
        await shows(page, "gate.main")
        assert await number_on_screen(page, "gate.main") % 25 == 0
        await page.keyboard.press("Shift+ArrowRight")
        await shows(page, "gate.main")
        assert await number_on_screen(page, "gate.main") % 25 == 0


async def test_a_clip_is_marked_downloaded_and_right(node: Node, browser: Any, tmp_path: Path) -> None:
    from playwright.async_api import expect

    at_us = await settled_us(node, "gate.main")
    async with opened(browser, node, address("playback", "gate.main", at_us=at_us - 3 * US, span_s=60)) as page:
        await shows(page, "gate.main")
        await page.keyboard.press("i")
        await page.locator("#moment").fill("+3s")
        await page.locator("#moment").press("Enter")
        await shows(page, "gate.main", moment_us=at_us)
        await page.keyboard.press("o")
        link = page.locator(".download")
        await expect(link).to_contain_text("kB", timeout=LONG_MS)
        async with page.expect_download() as download:
            await link.click()
        assert (await download.value).suggested_filename.startswith("gate.main_")
        await (await download.value).save_as(tmp_path / "clip.mp4")
    probe = ["ffprobe", "-v", "error", "-show_entries", "format=duration:stream=codec_name", "-of", "json"]
    found = await asyncio.to_thread(subprocess.run, [*probe, tmp_path / "clip.mp4"], capture_output=True, check=True)
    told = json.loads(found.stdout)
    assert {stream["codec_name"] for stream in told["streams"]} == {"h264", "aac"}
    assert float(told["format"]["duration"]) == pytest.approx(3, abs=0.1)


async def test_h265_is_said_and_shown_as_pictures(node: Node, browser: Any) -> None:
    from playwright.async_api import expect

    at_us = await settled_us(node, "road.main")
    async with opened(browser, node, address("playback", "road.main", at_us=at_us)) as page:
        await shows(page, "road.main")
        await expect(page.locator(".player")).to_contain_text("H.265: single pictures")
        assert await page.locator(".player img").evaluate("i => i.naturalWidth") == SIZE["width"]


async def test_where_nothing_is_recorded_the_page_says_so_while_others_go_on(node: Node, browser: Any) -> None:
    from playwright.async_api import expect

    told = await node.streams()
    first_us = parse_time(told["gate.main"]["durable_until"]) - 3600 * US
    async with opened(browser, node, address("playback", "gate.main", at_us=first_us)) as page:
        await expect(page.locator(".player")).to_contain_text("Nothing recorded here", timeout=LONG_MS)


async def test_the_timeline_chooses_by_pointer_and_zooms_by_wheel_and_key(node: Node, browser: Any) -> None:
    from playwright.async_api import expect

    async with opened(browser, node, "#/playback?streams=gate.main") as page:
        await expect(page.locator("#go-live")).to_have_attribute("aria-pressed", "true")
        await page.locator("#timeline").click(position={"x": 700, "y": 60})
        await expect(page.locator("#go-live")).to_have_attribute("aria-pressed", "false")
        await page.wait_for_function("() => location.hash.includes('at=')")
        assert "UTC+07:00" in await page.locator("#timeline").get_attribute("aria-valuetext")
        span = "() => Number(new URLSearchParams(location.hash.split('?')[1]).get('span'))"
        before = await page.evaluate(span)
        await page.locator("#timeline").hover(position={"x": 700, "y": 60})
        await page.mouse.wheel(0, -300)
        await page.wait_for_function(f"before => ({span})() < before", arg=before)
        wheeled = await page.evaluate(span)
        await page.keyboard.press("-")
        await page.wait_for_function(f"before => ({span})() > before", arg=wheeled)


async def test_a_stream_that_is_no_more_is_said_and_hinders_nobody(node: Node, browser: Any) -> None:
    from playwright.async_api import expect

    at_us = await settled_us(node, "gate.main")
    async with opened(browser, node, address("playback", "gate.main", "nobody.main", at_us=at_us)) as page:
        await shows(page, "gate.main", moment_us=at_us)
        await expect(page.locator('.player[data-stream="nobody.main"]')).to_contain_text(
            "nobody.main';", timeout=LONG_MS
        )
        shown_us = 1000 * float(await page.locator('.player[data-stream="gate.main"]').get_attribute("data-moment"))
        assert 0 <= at_us - shown_us <= US / FPS + 1000


async def test_a_mark_is_dragged_on_the_ruler(node: Node, browser: Any) -> None:
    at_us = await settled_us(node, "gate.main")
    marked = f"&in={format_time(at_us - 20 * US)}&out={format_time(at_us)}"
    async with opened(
        browser, node, address("playback", "gate.main", at_us=at_us - 5 * US, span_s=60) + marked
    ) as page:
        box = await page.locator("#timeline").bounding_box()
        from_x = box["x"] + box["width"] * 35 / 60  # the view's middle is the moment, the mark is 5 s after it
        await page.mouse.move(from_x, box["y"] + 6)
        await page.mouse.down()
        await page.mouse.move(from_x + box["width"] / 60, box["y"] + 6, steps=4)
        await page.mouse.up()
        moved = "() => (Date.parse(new URLSearchParams(location.hash.split('?')[1]).get('out')) - %f) / 1000"
        await page.wait_for_function(f"() => Math.abs(({moved % (at_us / 1000)})() - 1) < 0.2", timeout=LONG_MS)


async def test_hovering_shows_time_cause_and_a_picture(node: Node, browser: Any) -> None:
    from playwright.async_api import expect

    at_us = await settled_us(node, "gate.main")
    async with opened(browser, node, address("playback", "gate.main", at_us=at_us, span_s=10)) as page:
        await shows(page, "gate.main")
        row = await page.locator(".tl-name", has_text="gate.main").bounding_box()
        box = await page.locator("#timeline").bounding_box()
        await page.mouse.move(box["x"] + box["width"] / 2 + 20, row["y"] + row["height"] / 2)
        hover = page.locator(".hover")
        shown = datetime.fromtimestamp(at_us / US, UTC) + timedelta(hours=7)
        await expect(hover.locator("b")).to_contain_text(shown.strftime("%Y-%m-%d %H:%M"))
        await expect(hover.locator("img")).to_be_visible(timeout=LONG_MS)
        assert await hover.locator("img").evaluate("i => i.naturalWidth") == 192
        await page.mouse.move(5, 5)
        await expect(hover).to_have_count(0)


async def test_both_languages_and_colours_stay_chosen(node: Node, browser: Any) -> None:
    from playwright.async_api import expect

    async with opened(browser, node) as page:
        await page.get_by_role("button", name="Tiếng Việt").click()
        await page.get_by_role("button", name="Màu sáng").click()
        await page.reload()
        await expect(page.locator("html")).to_have_attribute("lang", "vi")
        await expect(page.locator("html")).to_have_attribute("data-theme", "light")
        await expect(page.get_by_role("link", name="Xem lại").first).to_be_visible()


async def test_old_addresses_lead_to_the_same_moment(node: Node, browser: Any) -> None:
    at_us = await settled_us(node, "gate.main")
    async with opened(browser, node, f"#stream=gate.main&at={format_time(at_us)}&s=60") as page:
        await shows(page, "gate.main", moment_us=at_us)


@pytest.mark.needs_web
async def test_axe_has_no_serious_finding(node: Node, browser: Any) -> None:
    """On every page, in both colours, wide and on a phone; what checks is put in around the content policy."""
    at_us = await settled_us(node, "gate.main")
    for colours, size in (("dark", WIDE), ("light", PHONE)):
        async with opened(browser, node, bypass_csp=True, color_scheme=colours, viewport=size) as page:
            await page.evaluate(AXE.read_text())
            marked = f"&in={format_time(at_us - US)}&out={format_time(at_us)}"
            places = ["#/wall?streams=gate.main,road.main", f"{address('playback', 'gate.main', at_us=at_us)}{marked}"]
            for place in (*places, "#/cameras", "#/storage"):
                await page.evaluate("place => { location.hash = place; }", place)
                await page.wait_for_selector(f".page-{place[2:].partition('?')[0]} > *:not(.empty)")
                found = await page.evaluate("async () => (await axe.run()).violations")
                serious = [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found
                           if one["impact"] in ("serious", "critical")]  # fmt: skip
                assert serious == [], (place, colours)


async def test_four_streams_stay_in_step(node: Node, browser: Any) -> None:
    at_us = await settled_us(node, *H264) - 3 * US
    streams = [*H264, "road.main"]  # the last one as a preview, made on the way
    async with opened(browser, node, address("playback", *streams, at_us=at_us)) as page:
        await shows(page, *streams)
        await page.keyboard.press("Space")
        in_step = """streams => {
          const times = streams.map((name) => {
            const tile = document.querySelector(`.player[data-stream="${name}"]`);
            const video = [...tile.querySelectorAll('video')].find((one) => !one.hidden && !one.paused);
            return video && tile.dataset.state === 'ready' ? video.currentTime : NaN;
          });
          return Math.max(...times) - Math.min(...times);
        }"""

        async def a_second_in_step() -> bool:
            apart = []
            for _ in range(10):
                apart.append(await page.evaluate(in_step, streams))
                await page.wait_for_timeout(100)
            return bool(max(apart) <= 1 / FPS)

        await until(a_second_in_step, 20, "a second in which no stream is a picture away from another")
        await page.keyboard.press("k")
        await expect_moment_of_all(page, streams)


async def expect_moment_of_all(page: Any, streams: list[str]) -> None:
    """Standing still, all show the same moment, to a picture."""
    await shows(page, *streams)
    moments = "() => [...document.querySelectorAll('.player')].map((tile) => Number(tile.dataset.moment))"
    found = await page.evaluate(moments)
    assert max(found) - min(found) <= 1000 / FPS + 1


async def test_backward_shows_key_frames_in_falling_order(node: Node, browser: Any) -> None:
    at_us = await settled_us(node, "gate.main")
    async with opened(browser, node, address("playback", "gate.main", at_us=at_us, span_s=60)) as page:
        await shows(page, "gate.main", moment_us=at_us)
        await page.keyboard.press("j")
        tile = "document.querySelector('.player').dataset"
        seen = []
        for _ in range(2):
            before = seen[-1] if seen else at_us / 1000 + 1
            await page.wait_for_function(
                f"before => {tile}.mode === 'trick' && {tile}.state === 'ready' && Number({tile}.moment) < before",
                arg=before, timeout=LONG_MS,
            )  # fmt: skip
            seen.append(float(await page.evaluate(f"{tile}.moment")))
        await page.wait_for_timeout(100)
        assert await number_on_screen(page, "gate.main") % 25 == 0
        await page.keyboard.press("k")
        await shows(page, "gate.main")


async def test_live_comes_by_hls_where_no_websocket_gets_through(node: Node, browser: Any) -> None:
    from playwright.async_api import expect

    async with opened(browser, node, "#/cameras") as page:
        await page.route_web_socket("**/live", lambda socket: socket.close())
        await page.evaluate("location.hash = '#/wall?streams=gate.main'")
        await expect(page.locator('.tile-body[data-live="live"]')).to_have_attribute("data-way", "hls", timeout=LONG_MS)
        began = await page.evaluate("document.querySelector('video').currentTime")
        await page.wait_for_function(
            "t => document.querySelector('video').currentTime > t + 1", arg=began, timeout=LONG_MS
        )


async def test_the_wall_is_arranged_and_the_arrangement_kept(node: Node, browser: Any) -> None:
    from playwright.async_api import expect

    async with opened(browser, node, "#/wall?streams=gate.main,yard.main") as page:
        names = page.locator(".tile .tile-name")
        await expect(names).to_have_text(["gate.main", "yard.main"])
        await page.locator(".tile").first.drag_to(page.locator(".tile").last)
        await expect(names).to_have_text(["yard.main", "gate.main"])
        await page.locator(".tile").first.focus()
        await page.keyboard.press("Alt+ArrowRight")
        await expect(names).to_have_text(["gate.main", "yard.main"])
        page.on("dialog", lambda dialog: dialog.accept("entrance"))
        await page.get_by_role("button", name="Save layout").click()
        await page.get_by_role("button", name="Streams").click()
        await page.get_by_role("checkbox", name="dock.main").check()
        await expect(names).to_have_text(["gate.main", "yard.main", "dock.main"])
        await page.get_by_label("Layouts").select_option("entrance")
        await expect(names).to_have_text(["gate.main", "yard.main"])


async def test_a_hold_is_placed_on_the_marked_range(node: Node, browser: Any) -> None:
    from playwright.async_api import expect

    at_us = await settled_us(node, "gate.main")
    marked = f"&in={format_time(at_us - US)}&out={format_time(at_us)}"
    async with opened(browser, node, address("playback", "gate.main", at_us=at_us) + marked) as page:
        await page.get_by_role("button", name="Hold…").click()
        await page.get_by_label("Who").fill("Lan")
        await page.get_by_label("Why").fill("theft at the gate")
        await page.get_by_role("button", name="Place the hold").click()
        await expect(page.locator(".hold [role=status]")).to_contain_text("is placed", timeout=LONG_MS)
    status, told = await node.get("/holds")
    assert status == 200
    assert [(one["owner"], one["start"], one["streams"]) for one in told["holds"]] == [
        ("Lan", format_time(at_us - US), ["gate.main"])
    ]


async def test_a_gap_shows_its_cause_while_the_others_go_on(node: Node, browser: Any) -> None:
    from playwright.async_api import expect

    async def switch(enabled: bool) -> None:
        _, register = await node.get("/cameras")
        (yard,) = [one for one in register["cameras"] if one["id"] == "yard"]
        async with aiohttp.ClientSession() as http:
            body = {"id": "yard", "main": yard["main"], "enabled": enabled}
            async with http.post(f"{node.base}/cameras", json=body) as answer:
                assert answer.status == 200

    async def stopped() -> bool:
        return (await node.streams())["yard.main"]["state"] != "recording"

    await switch(enabled=False)
    await until(stopped, 20, "yard is not recorded")
    gap_us = wall_us() + US
    async with opened(browser, node, "#/wall?streams=yard.main,gate.main") as page:
        yard = page.locator(".tile", has=page.get_by_text("yard.main", exact=True))
        await expect(yard).to_contain_text("disabled", timeout=LONG_MS)
        await expect(page.locator('.tile-body[data-live="live"]').first).to_be_visible(timeout=LONG_MS)

        async def long_enough() -> bool:
            return wall_us() > gap_us + 3 * US

        await until(long_enough, 10, "an absence of some seconds")

        async def both_again() -> bool:
            told = await node.streams()
            safe_us = min(parse_time(told[name]["durable_until"]) for name in ("gate.main", "yard.main"))
            return safe_us > gap_us + LISTED_US

        await switch(enabled=True)
        await until(both_again, 40, "both are recorded again")
        place = address("playback", "gate.main", "yard.main", at_us=gap_us)
        await page.evaluate("place => { location.hash = place; }", place)
        yard = page.locator('.player[data-stream="yard.main"]')
        await expect(yard).to_contain_text("recording was stopped", timeout=LONG_MS)
        await shows(page, "gate.main", moment_us=gap_us)
        await page.keyboard.press("Space")
        seen = """async () => {
          const tile = (name) => document.querySelector(`.player[data-stream="${name}"]`);
          const video = tile('gate.main').querySelector('video'), since = video.currentTime;
          while (video.currentTime < since + 0.5) await new Promise(requestAnimationFrame);
          return [tile('gate.main').dataset.state, tile('yard.main').dataset.state];
        }"""
        assert await page.evaluate(seen) == ["ready", "gap"]


async def test_pages_fit_wide_and_on_a_phone(node: Node, browser: Any, tmp_path: Path) -> None:
    """Nothing sticks out sideways; with KEYREEL_SCREENSHOTS set the pictures of the documents are made anew."""
    from playwright.async_api import expect

    at_us = await settled_us(node, *H264)
    streams = ("gate.main", "yard.main", "dock.main", "road.main")
    marked = f"&in={format_time(at_us - 12 * US)}&out={format_time(at_us + 2 * US)}"
    playback = address("playback", *streams, at_us=at_us, span_s=120) + marked
    for name, place, size, colours, language in (
        ("wall", address("wall", *streams), WIDE, "dark", "en-GB"),
        ("playback", playback, WIDE, "dark", "en-GB"),
        ("playback-light", playback, WIDE, "light", "vi-VN"),
        ("playback-phone", address("playback", "gate.main", at_us=at_us, span_s=120), PHONE, "dark", "vi-VN"),
        ("wall-phone", address("wall", *streams), PHONE, "light", "en-GB"),
    ):
        async with opened(browser, node, place, viewport=size, color_scheme=colours, locale=language) as page:
            if "at=" in place:
                await shows(page, "gate.main")
            elif name.startswith("wall"):
                await page.wait_for_function(
                    "() => document.querySelectorAll('[data-live=live]').length === 3", timeout=LONG_MS
                )
            assert await page.evaluate("document.documentElement.scrollWidth") <= size["width"]
            controls = "[...document.querySelectorAll('.transport > *')]"
            cut = f"() => {controls}.some((one) => one.offsetWidth + 1 < one.scrollWidth)"
            assert not await page.evaluate(cut), f"{name}: a control is cut off"
            await expect(page.locator("dialog:not([open]):visible")).to_have_count(0)
            picture = await page.screenshot()
            keep_picture(picture, (IMAGES if SHOTS else tmp_path) / f"page-{name}.webp")


async def test_the_token_is_asked_for_once(browser: Any, tmp_path: Path) -> None:
    from playwright.async_api import expect

    (tmp_path / "token").write_text("a-token-of-some-length\n")
    node = Node(tmp_path / "data", f'[api]\ntoken_file = "{tmp_path / "token"}"\n')
    await node.start()
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{node.base}/streams") as answer:
            assert answer.status == 401
        async with opened(browser, node) as page:
            await page.get_by_role("textbox", name="Token").fill("wrong")
            await page.get_by_role("button", name="Open").click()
            await expect(page.locator("dialog .problem")).not_to_be_empty()
            await page.get_by_role("textbox", name="Token").fill("a-token-of-some-length")
            await page.get_by_role("button", name="Open").click()
            await expect(page.locator("#node .long")).to_have_text("0 of 0 streams recording", timeout=LONG_MS)
    finally:
        node.kill()


async def test_the_page_goes_on_when_the_node_comes_back(node: Node, browser: Any) -> None:
    from playwright.async_api import expect

    async with opened(browser, node, "#/wall?streams=gate.main") as page:
        live = page.locator('.tile-body[data-live="live"]')
        await expect(live).to_have_count(1, timeout=LONG_MS)
        at_us = await settled_us(node, "gate.main")
        recorded = await page.context.new_page()
        await recorded.goto(page.url.partition("#")[0] + address("playback", "gate.main", at_us=at_us))
        await shows(recorded, "gate.main", moment_us=at_us)
        node.kill()
        await recorded.keyboard.press("ArrowRight")  # what is here stays usable
        await shows(recorded, "gate.main", moment_us=at_us + US // FPS)
        await recorded.locator("#moment").fill("-1h")
        await recorded.locator("#moment").press("Enter")
        await expect(recorded.locator(".player")).to_contain_text("No answer", timeout=LONG_MS)
        await expect(page.locator("#node")).to_contain_text("No answer", timeout=LONG_MS)
        await expect(page.locator(".tile")).to_contain_text("trying again", timeout=LONG_MS)
        await node.start()
        await expect(page.locator("#node .long")).to_have_text("4 of 4 streams recording", timeout=30_000)
        await recorded.locator("#moment").fill("+1h")
        await recorded.locator("#moment").press("Enter")
        await shows(recorded, "gate.main", moment_us=at_us)
        await expect(live).to_have_count(1, timeout=30_000)
        began = await page.evaluate("document.querySelector('video').currentTime")
        await page.wait_for_function(
            "since => document.querySelector('video').currentTime > since + 0.5", arg=began, timeout=LONG_MS
        )
