"""What a node records over RTSP is exported while it records, and each second is proved by the node's own ledger."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from base.units import US, format_time, parse_time
from evidence.files import read_ledger
from evidence.ledger import Chunk, Head
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.e2e.node import Node, until

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
CONFIG = "[recorder]\nchunk_s = 10\n[evidence]\nhead_s = 1\n"
STREAM = "gate.main"


async def test_a_package_made_while_it_records_is_authentic(node: Callable[..., Node], tmp_path: Path) -> None:
    async with SimcamServer([CameraSpec("gate", loop=LOOP)]) as server:
        one = node(config=CONFIG)
        await one.start()
        await asyncio.to_thread(one.keyreel, "camera", "add", "gate", server.url("gate"))
        await one.recording(STREAM)

        def roots() -> list[Chunk]:
            """Those that a signature covers."""
            entries = list(read_ledger(one.data / "ledger" / STREAM))
            signed = max((entry.number for entry in entries if isinstance(entry.content, Head)), default=-1)
            return [one.content for one in entries if isinstance(one.content, Chunk) and one.number < signed]

        async def proven() -> bool:
            return bool(found := roots()) and found[-1].end_us - found[0].start_us > 4 * US

        await until(proven, 60, f"some seconds are signed; {one.log_tail()}")
        start_us, end_us = roots()[0].start_us + US, roots()[-1].end_us - US
        target = tmp_path / "case.zip"
        times = ("--start", format_time(start_us), "--end", format_time(end_us))
        words = ("--case", "7/2026", "--reason", "theft", "--stream", STREAM, *times, "--to", str(target), "--json")
        await asyncio.to_thread(one.keyreel, "export", "create", *words)
        command = [sys.executable, "-m", "keyreel", "verify", str(target), "--data", str(one.data), "--json"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        report = json.loads(done.stdout)
        assert done.returncode == 0, report["findings"]
        assert report["verdict"] == "authentic"
        (stream,) = report["streams"]
        assert set(stream["seconds"]) == {"authentic"}
        assert parse_time(stream["ranges"][0]["start"]) <= start_us + 10
        assert parse_time(stream["ranges"][-1]["end"]) >= end_us - 10
        held = json.loads((await asyncio.to_thread(one.keyreel, "hold", "list", "--all", "--json")).stdout)["holds"]
        assert [hold["case"] for hold in held] == ["7/2026"]
