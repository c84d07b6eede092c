"""The page in Chromium: its timeline over a hundred streams of thirty days, the API answering from memory; and how long
live pictures and a seek take with a node that records four cameras.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from base.clock import wall_us
from base.units import US, format_time, parse_time
from bench.machine import describe
from bench.sizes import scaled
from playback.timeline import ALL_SPANS_MAX
from simcam.encode import LoopSpec
from simcam.spec import CameraSpec
from tests.e2e.node import Node
from tests.playback.page import chromium, opened, recording_node

STREAMS = scaled(full=100, smoke=10)
SECONDS = scaled(full=10, smoke=2)
DAYS = 30
CAUSES = ("offline", "packet-loss", "stopped", "no-media", "crash")
STATIC = Path(__file__).resolve().parent.parent / "playback" / "static"
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
CAMERAS = ("gate", "yard", "dock", "hall")
RECORDED_S = scaled(full=60, smoke=14)
SEEKS = scaled(full=30, smoke=3)
# From the new address until every stream has its picture of the moment on screen, ms.
SEEK = """([streams, at, text]) => new Promise((done) => {
  const began = performance.now();
  const look = () => {
    const tiles = streams.map((name) => document.querySelector(`.player[data-stream="${name}"]`));
    const there = tiles.every((tile) => tile && tile.dataset.state === 'ready'
      && !tile.querySelector('video').seeking && Math.abs(Number(tile.dataset.moment) - at) < 50);
    if (there) done(performance.now() - began);
    else requestAnimationFrame(look);
  };
  location.hash = `#/playback?streams=${streams.join(',')}&at=${text}`;
  requestAnimationFrame(look);
})"""
LIVE = """() => [...document.querySelectorAll('.tile video')]
  .filter((one) => one.videoWidth && one.currentTime > 0).length"""
FRAMES = """seconds => new Promise((done) => {
  const times = [];
  const step = (time) => {
    times.push(time);
    if (time - times[0] < seconds * 1000) requestAnimationFrame(step); else done(times);
  };
  requestAnimationFrame(step);
})"""


def timelines(now_us: int) -> dict[str, list[tuple[int, int, str]]]:
    """Gaps of each stream over thirty days, as many as one answer may tell: (start, end, cause)."""
    rng = random.Random(4)
    first_us, most = now_us - DAYS * 86400 * US, ALL_SPANS_MAX // STREAMS // 3
    found = {}
    for number in range(STREAMS):
        starts = sorted(rng.randrange(first_us, now_us) for _ in range(most))
        found[f"cam{number:03}.main"] = [(at, at + rng.randrange(US, 600 * US), rng.choice(CAUSES)) for at in starts]
    return found


def stream(name: str, now_us: int) -> dict[str, Any]:
    """As GET /streams tells it."""
    figures = {
        "bitrate_bps": 4e6,
        "frame_rate": 25.0,
        "packets": 1000,
        "lost_packets": 0,
        "width": 1920,
        "height": 1080,
    }
    words = {"reason": "", "detail": "", "mime": "", "codecs": "", "codec": "h264", "audio": "", "preview": ""}
    until = {"durable_until": format_time(now_us - US), "last_frame": format_time(now_us)}
    return {"id": name, "camera": name[:-5], "quality": "main", "state": "recording", **figures, **words, **until,
            "clock_offset_ms": None}  # fmt: skip


def cut(gaps: list[tuple[int, int, str]], body: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Spans and gaps of a part, those too short for its resolution left out."""
    start_us, end_us = parse_time(body["start"]), parse_time(body["end"])
    told, spans, at_us = [], [], start_us
    for begin_us, stop_us, cause in gaps:
        if stop_us <= start_us or begin_us >= end_us or stop_us - begin_us < body["resolution"] * US:
            continue
        told.append({"start": format_time(begin_us), "end": format_time(stop_us), "cause": cause, "packets": 0})
        if begin_us > at_us:
            spans.append({"start": format_time(at_us), "end": format_time(begin_us)})
        at_us = max(at_us, stop_us)
    return [*spans, {"start": format_time(at_us), "end": format_time(min(end_us, wall_us()))}], told


async def answer(route: Any, gaps: dict[str, list[tuple[int, int, str]]]) -> None:
    """What the server would say; the page's own files as they are."""
    path = route.request.url.split("://node.invalid")[1].partition("?")[0]
    now_us = wall_us()
    recorder = {"running": True, "updated": format_time(now_us), "version": "", "workers": 1, "silent": []}
    if path == "/api/v1/streams":
        known = [stream(name, now_us) for name in gaps]
        await route.fulfill(json={"now": format_time(now_us), "recorder": recorder, "streams": known})
    elif path == "/api/v1/timeline":
        body = json.loads(route.request.post_data)
        rows = [(name, *cut(gaps[name], body)) for name in body["streams"]]
        shared = {"resolution": body["resolution"], "durable_until": format_time(now_us - US), "holds": []}
        told = [{"stream": name, "spans": spans, "gaps": holes, **shared} for name, spans, holes in rows]
        await route.fulfill(json={"start": body["start"], "end": body["end"], "timelines": told})
    elif path == "/api/v1/holds":
        await route.fulfill(json={"holds": [], "kept": []})
    elif path == "/" or path.startswith("/web/"):
        name = path.rpartition("/")[2] or "index.html"
        await route.fulfill(path=STATIC / name, content_type=TYPES[name.rpartition(".")[2]])
    else:
        await route.fulfill(status=404, json={"detail": "not in this bench", "reason": "none"})


async def drive() -> dict[str, Any]:
    """Zoom in and out and drag for some seconds; frames, and what the page's thread spent."""
    from playwright.async_api import async_playwright

    gaps = timelines(wall_us())
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = await browser.new_page(viewport={"width": 1920, "height": 1080})
        await page.route("http://node.invalid/**", lambda route: answer(route, gaps))
        await page.goto(f"http://node.invalid/#/playback?streams=cam000.main&span={DAYS * 86400}")
        await page.wait_for_function(f"() => document.querySelectorAll('.tl-name').length === {STREAMS}")
        first_ms = await page.evaluate("performance.now()")
        cdp = await page.context.new_cdp_session(page)
        await cdp.send("Performance.enable")
        box = await page.locator("#timeline").bounding_box()
        await page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 80)
        before = await spent(cdp)
        frames = asyncio.create_task(page.evaluate(FRAMES, SECONDS))
        turn = 0
        while not frames.done():
            await page.mouse.wheel(0, -60 if turn // 40 % 2 == 0 else 60)
            turn += 1
        times = await frames
        after = await spent(cdp)
        await browser.close()
    apart = sorted(b - a for a, b in pairwise(times))
    return {
        "streams": STREAMS,
        "first rows after, ms": round(first_ms),
        "frames a second": round((len(times) - 1) / (times[-1] - times[0]) * 1000, 1),
        "p50 / p99 between frames, ms": f"{apart[len(apart) // 2]:.1f} / {apart[len(apart) * 99 // 100]:.1f}",
        "script a frame, ms": round((after - before) * 1000 / len(times), 2),
    }


async def spent(cdp: Any) -> float:
    """Seconds of script in the page so far."""
    told = await cdp.send("Performance.getMetrics")
    return float(next(one["value"] for one in told["metrics"] if one["name"] == "ScriptDuration"))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium not found")
def bench_page(benchmark: Any) -> None:
    """Budget: 60 frames a second while zooming over a hundred streams; ≤ 300 kB of script; first rows ≤ 1 s."""
    figures = benchmark.pedantic(lambda: asyncio.run(drive()), rounds=1)
    scripts = sum(path.stat().st_size for path in STATIC.glob("*.js"))
    benchmark.extra_info.update(figures, script_kb=round(scripts / 1000), machine=describe())


async def seconds_of(node: Node, seconds: int) -> tuple[int, int]:
    """From when to when all cameras are recorded, finished segments alone."""
    while True:
        found = [(await node.get(f"/streams/{name}.main/timeline", start=format_time(wall_us() - 3600 * US),
                                 end=format_time(wall_us())))[1] for name in CAMERAS]  # fmt: skip
        first_us = max(parse_time(one["spans"][0]["start"]) for one in found)
        last_us = min(parse_time(one["durable_until"]) for one in found) - 8 * US
        if last_us - first_us > (seconds - 10) * US:
            return first_us, last_us
        await asyncio.sleep(0.5)


async def seek(folder: Path) -> dict[str, Any]:
    """Live pictures after opening the page, then seeks of four streams to random moments."""
    loop = LoopSpec(width=1280, height=720, fps=25, gop=50, bitrate_bps=2_000_000)
    rng, streams = random.Random(5), [f"{name}.main" for name in CAMERAS]
    cameras = [CameraSpec(name, loop=loop) for name in CAMERAS]
    async with recording_node(folder / "data", cameras) as (node, _), chromium() as browser:
        first_us, last_us = await seconds_of(node, RECORDED_S)
        async with opened(browser, node, f"#/wall?streams={','.join(streams)}") as page:
            await page.wait_for_function(f"() => ({LIVE})() === {len(streams)}")
            live_ms = await page.evaluate("performance.now()")
            heap = await page.evaluate("performance.memory.usedJSHeapSize")
            taken = []
            for _ in range(SEEKS + 1):
                at_us = rng.randrange(first_us, last_us)
                taken.append(await page.evaluate(SEEK, [streams, at_us / 1000, format_time(at_us)]))
            grown = await page.evaluate("performance.memory.usedJSHeapSize") - heap
    taken = sorted(taken[1:])
    return {
        "live of four streams after, ms": round(live_ms),
        "seek of four streams, p50 / p95, ms": f"{taken[len(taken) // 2]:.0f} / {taken[len(taken) * 95 // 100]:.0f}",
        "heap grown, MB": round(grown / 1e6, 1),
    }


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium not found")
def bench_page_seek(benchmark: Any, tmp_path: Path) -> None:
    """Budget: live ≤ 2 s after opening; a seek paints its pictures ≤ 300 ms."""
    figures = benchmark.pedantic(lambda: asyncio.run(seek(tmp_path)), rounds=1)
    benchmark.extra_info.update(figures, machine=describe())
