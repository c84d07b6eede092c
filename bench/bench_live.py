"""How far a live view is behind its camera: from a picture's stamp to its arrival at a WebSocket client.

A simulated camera, a recorder and playback as processes of their own. A picture arrives with its fragment, so the
oldest picture of each fragment is behind most: that one is told, and the newest beside it.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.figures import spread_ms
from bench.harness import cameras, recorder, status_when_recording
from bench.machine import describe
from bench.served import Served
from bench.sizes import scaled
from simcam.stamps import STAMP_UUID

SECONDS = scaled(full=30, smoke=3)
CAMERAS = scaled(full=20, smoke=2)  # recorded at the same time
STAMP = re.compile(re.escape(STAMP_UUID) + rb"[0-9a-f]{16}([0-9a-f]{16})")


async def watch(port: int, stream: str) -> tuple[list[float], list[float]]:
    """Seconds behind of the oldest and the newest picture of each fragment that came, but for the first second's.

    A view begins with what was recorded since the last key frame.
    """
    oldest, newest = [], []
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{port}/api/v1/streams/{stream}/live", max_msg_size=0) as socket,
    ):
        began_s = time.monotonic()
        async for message in socket:
            now_us, passed_s = time.time_ns() // 1000, time.monotonic() - began_s
            if message.type is aiohttp.WSMsgType.BINARY and passed_s > 1:
                sent_us = [int(found, 16) for found in STAMP.findall(message.data)]
                if sent_us:
                    oldest.append((now_us - min(sent_us)) / 1e6)
                    newest.append((now_us - max(sent_us)) / 1e6)
            if passed_s > SECONDS:
                break
    return oldest, newest


@pytest.mark.parametrize("fragment_ms", [500, 100])
def bench_live(benchmark: Any, tmp_path: Path, fragment_ms: int) -> None:
    """Budget: ≤ 1 s behind at the default fragment length, ≤ 300 ms with short fragments."""
    data = tmp_path / "data"
    simcam, urls = cameras(CAMERAS, 4_000_000)
    process = recorder(data, urls, fragment_ms=fragment_ms)
    try:
        status_when_recording(data, CAMERAS)
        served = Served(data)
        try:
            seen = benchmark.pedantic(lambda: asyncio.run(watch(served.port, "cam0.main")), rounds=1)
        finally:
            served.stop()
    finally:
        for one in (process, simcam):
            one.send_signal(signal.SIGINT)
            one.wait(60)
    benchmark.extra_info.update(
        {
            "fragment_ms": fragment_ms,
            "fragments": len(seen[0]),
            "oldest picture, p50 / p99": spread_ms(seen[0]),
            "newest picture, p50 / p99": spread_ms(seen[1]),
            "machine": describe(),
        }
    )
