"""A disk that is too slow for all: what is left out, what it is called, how much memory it takes, and that it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from base.units import parse_time
from chunks.path import parse_chunk_path
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import StampReport, verify
from tests.e2e.node import Node, chunk_samples, until

MBIT = 1_000_000
USUAL = LoopSpec(codec="h264", width=320, height=180, gop=15, bitrate_bps=MBIT, padded=True)  # a GOP is a second
HEAVY = LoopSpec(codec="h264", width=320, height=180, gop=15, bitrate_bps=20 * MBIT, padded=True)
CAMERAS = {"high": "high", "usual": "normal", "hog": "normal", "low": "low"}  # camera → priority
QUEUE_BYTES = RECEIVE_BYTES = 16 << 20
CONFIG = f"""
[recorder]
queue_bytes_max = {QUEUE_BYTES}
receive_bytes_max = {RECEIVE_BYTES}
pre_record_bytes_max = {1 << 20}
[[volumes]]
path = "{{bad}}"
"""


@dataclass
class Stored:
    """What of a camera was stored, and what its timeline says."""

    report: StampReport
    gaps: list[tuple[int, int, str]]


def recorder_pid(node: Node) -> int:
    return int(json.loads(node.keyreel("status", "--json").stdout)["recorder"]["pid"])


def memory(node: Node) -> tuple[int, int]:
    """(resident bytes, most there ever were) of the recorder process."""
    text = Path(f"/proc/{recorder_pid(node)}/status").read_text()
    return tuple(int(re.findall(rf"{key}:\s+(\d+) kB", text)[0]) << 10 for key in ("VmRSS", "VmHWM"))  # type: ignore


async def dropped(node: Node) -> dict[str, int]:
    return {name: stream["dropped_gops"] for name, stream in (await node.streams()).items()}


def stored(node: Node, folder: Path, camera: str) -> Stored:
    paths = sorted((folder / f"{camera}.main").glob("*/*.mp4"), key=lambda path: parse_chunk_path(path).sequence)
    line = json.loads(node.keyreel("timeline", f"{camera}.main", "--json").stdout)
    gaps = [(parse_time(gap["start"]), parse_time(gap["end"]), gap["cause"]) for gap in line["gaps"]]
    return Stored(verify([sample for path in paths for sample in chunk_samples(path)], "h264"), gaps)


def judge(one: Stored, sent: dict[int, int]) -> None:
    """No picture is spoilt, and each missing one lies in a declared gap; `sent`: sequence → time, µs."""
    report = one.report
    assert (report.mismatches, report.duplicates, report.out_of_order, report.unstamped) == ([], [], [], 0)
    assert {cause for _, _, cause in one.gaps} <= {"overload"}
    for first, last in report.missing:
        for sequence in range(first, last + 1):
            at_us = sent.get(sequence)  # a camera that nobody watches counts on, and sends nothing
            assert at_us is None or any(a - 200_000 <= at_us <= b + 200_000 for a, b, _ in one.gaps), (
                sequence,
                one.gaps,
            )


async def shows_it(node: Node, volume: Path) -> None:
    """The alarm is in the API, the metrics, the command, the log; the streams say why they are not recorded."""
    _, body = await node.get("/overloads")
    (episode,) = body["overloads"]
    assert body["active"]
    assert (episode["cause"], episode["path"], episode["end"]) == ("disk", str(volume), None)
    assert episode["streams"] >= 2
    low = (await node.streams())["low.main"]
    assert (low["state"], low["reason"]) == ("waiting", "overload"), low
    assert f"overload: disk of {volume}" in (await asyncio.to_thread(node.keyreel, "status")).stdout


async def test_a_slow_disk(node: Callable[..., Node], tmp_path: Path, disk: Callable[[str], None]) -> None:
    """Three priorities and one camera of twenty times the bit rate: who goes first, what is told, and that it ends."""
    bad = tmp_path / "bad"
    bad.mkdir()
    specs = [CameraSpec(name, loop=HEAVY if name == "hog" else USUAL) for name in CAMERAS]
    async with SimcamServer(specs) as server:
        one = node(config=CONFIG.format(bad=bad))
        await one.start()
        for name, priority in CAMERAS.items():
            words = ["camera", "add", name, server.url(name), "--priority", priority]
            await asyncio.to_thread(one.keyreel, *words)
        await one.recording(*(f"{name}.main" for name in CAMERAS))
        base_bytes, _ = memory(one)
        disk(f"slow {2 * MBIT // 8}")  # enough for two of the usual ones

        async def all_but_high() -> bool:
            gops = await dropped(one)
            return gops["high.main"] == 0 and all(gops[f"{name}.main"] >= 3 for name in ("hog", "low"))

        await until(all_but_high, 60, f"low and the heavy one lose GOPs; {await dropped(one)} {one.log_tail()}")
        await shows_it(one, bad)
        await asyncio.sleep(8)  # 45 MB have come by then, so memory would have passed its bound
        _, most_bytes = memory(one)
        assert most_bytes <= base_bytes + QUEUE_BYTES + RECEIVE_BYTES + (1 << 20)
        disk("ok")

        async def back() -> bool:
            return all(stream["state"] == "recording" for stream in (await one.streams()).values())

        await until(back, 60, f"all record again; {one.log_tail()}")
        calm = await dropped(one)
        await asyncio.sleep(3)
        assert await dropped(one) == calm
        assert calm["high.main"] == 0
        assert calm["low.main"] >= calm["usual.main"]
        assert await one.stop() == 0
        sent = {name: {p.sequence: p.sent_us for p in server.camera(name).sent()} for name in CAMERAS}
    found = {name: stored(one, bad, name) for name in CAMERAS}
    for name in CAMERAS:
        judge(found[name], sent[name])
    assert found["high"].gaps == []
    assert found["high"].report.missing == []
    assert found["low"].report.missing
    assert found["hog"].report.missing
    assert one.log_path.read_text().count("overload: ") == 1, "one line for all of it"
    assert json.loads(one.keyreel("check", "--json").stdout)


class Starved:
    """A process that runs for a twentieth of the time and stands still for 0.4 s in between."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = False
        self._task = asyncio.create_task(asyncio.to_thread(self._cycle))

    def _cycle(self) -> None:
        while not self._over:
            os.kill(self._pid, signal.SIGSTOP)
            time.sleep(0.4)
            os.kill(self._pid, signal.SIGCONT)
            time.sleep(0.02)

    async def end(self) -> None:
        self._over = True
        with suppress(ProcessLookupError):
            await self._task


@pytest.mark.at_length
async def test_a_recorder_without_cpu_pauses_cameras_by_priority(node: Callable[..., Node]) -> None:
    """As when other programs take the machine; the camera of low priority is called again when it is over."""
    priorities = {"high": "high", "usual": "normal", "low": "low"}
    async with SimcamServer([CameraSpec(name, loop=USUAL) for name in priorities]) as server:
        one = node()
        await one.start()
        for name, priority in priorities.items():
            await asyncio.to_thread(one.keyreel, "camera", "add", name, server.url(name), "--priority", priority)
        await one.recording(*(f"{name}.main" for name in priorities))

        async def state(name: str, *wanted: str) -> bool:
            stream = (await one.streams()).get(f"{name}.main", {})
            return (stream.get("state"), stream.get("reason")) == wanted

        starved = Starved(recorder_pid(one))
        try:
            await until(lambda: state("low", "waiting", "overload"), 40, f"low is paused; {one.log_tail()}")
        finally:
            await starved.end()
        _, body = await one.get("/overloads")
        assert [(episode["cause"], episode["end"]) for episode in body["overloads"]] == [("cpu", None)]
        assert await state("high", "recording", "")
        await until(lambda: state("low", "recording", ""), 60, f"low is back; {one.log_tail()}")
        await asyncio.sleep(2)
        assert await one.stop() == 0
        sent = {name: {p.sequence: p.sent_us for p in server.camera(name).sent()} for name in priorities}
    found = {name: stored(one, one.data / "media", name) for name in priorities}
    for name in ("high", "low"):
        judge(found[name], sent[name])
    assert found["high"].gaps == []
    assert [cause for _, _, cause in found["low"].gaps] == ["overload"]


@pytest.mark.at_length
async def test_cameras_of_odd_rates_beside_a_good_one(node: Callable[..., Node]) -> None:
    """A picture a second, 240 of them, a packet for each, twenty times the bit rate: nobody loses anything."""
    loops = {
        "good": USUAL,
        "slow": LoopSpec(codec="h264", width=320, height=180, fps=1, gop=2),
        "fast": LoopSpec(codec="h264", width=160, height=90, fps=240, gop=240, seconds=2),
        "tiny": LoopSpec(codec="h264", width=64, height=64, fps=30, gop=30, bitrate_bps=20_000),
        "hog": HEAVY,
    }
    async with SimcamServer([CameraSpec(name, loop=loop) for name, loop in loops.items()]) as server:
        one = node()
        await one.start()
        for name in loops:
            await asyncio.to_thread(one.keyreel, "camera", "add", name, server.url(name))
        await one.recording(*(f"{name}.main" for name in loops))
        await asyncio.sleep(6)
        assert not (await one.get("/overloads"))[1]["overloads"]
        assert await one.stop() == 0
    for name in loops:
        found = stored(one, one.data / "media", name)
        assert found.report.ok, (name, found.report)
        assert found.report.pictures >= 6 * min(loops[name].fps, 100), name
        assert found.gaps == []
