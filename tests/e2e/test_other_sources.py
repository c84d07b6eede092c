"""Cameras that are not RTSP in a real node: recorded byte for byte and at the right time, or refused with advice."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import support
from node import Node, until
from support import made
from webcams import MULTIPART, film, jpeg, multipart, web

from base.units import parse_time

SECONDS = 8
BURST = 0.25  # of the film comes at once, as servers send what they have
PIECES = 20
pytestmark = pytest.mark.slow


async def test_flv_is_recorded_and_mjpeg_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "film.flv"
    hashes = made(file, "flv", support.video("h264", SECONDS * 25), support.audio("aac", SECONDS))
    piece_s = SECONDS * (1 - BURST) / PIECES
    ended_s: list[float] = []
    live = film(file.read_bytes(), "video/x-flv", at_once=BURST, piece_s=piece_s)

    async def told(writer: asyncio.StreamWriter) -> None:
        asyncio.get_running_loop().call_later(SECONDS * (1 - BURST), lambda: ended_s.append(time.time()))
        await live(writer)

    node = Node(tmp_path / "data", "[rtsp]\nmedia_timeout_s = 3\n")
    async with web(told) as flv, web(film(multipart(jpeg()), MULTIPART)) as pictures:
        await asyncio.to_thread(node.keyreel, "camera", "add", "gate", f"http://{flv}/live.flv")
        await asyncio.to_thread(node.keyreel, "camera", "add", "old", f"http://{pictures}/video.mjpg")
        await node.start()
        try:
            streams = {}

            async def both() -> bool:
                streams.update(await node.streams())
                return streams["old.main"]["state"] == "backing-off" and len(ended_s) > 0

            await until(both, 60, f"both cameras judged; {node.log_tail()}")
            assert streams["old.main"]["reason"] == "codec"
            assert "RTSP" in streams["old.main"]["detail"]
            assert streams["gate.main"]["audio"] == "aac"
        finally:
            await node.stop()
    stored = [hashlib.sha256(sample).hexdigest() for sample in node.samples("gate.main")]
    assert len(stored) > SECONDS * 25 * BURST
    assert stored[: len(hashes)] == hashes[: len(stored)]
    first_us = parse_time((await asyncio.to_thread(spans, node))[0]["start"])
    assert abs(first_us / 1e6 - (ended_s[0] - SECONDS)) < 1.0, "the burst was taken for live"


def spans(node: Node) -> list[dict[str, str]]:
    import json

    done = node.keyreel("timeline", "gate.main", "--json")
    found: list[dict[str, str]] = json.loads(done.stdout)["spans"]
    return found
