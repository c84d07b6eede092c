"""Cameras that are recorded when somebody asks, or by schedule: what is there, and what the time between is called."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import aiohttp

from base.units import parse_time
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import verify
from tests.e2e.node import Node, until

LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)  # a GOP is a second
PRE_RECORD_S = 4


async def state(node: Node, name: str, wanted: str) -> None:
    async def reached() -> bool:
        return bool((await node.streams()).get(name, {}).get("state") == wanted)

    await until(reached, 20, f"{name} is {wanted}")


async def test_a_recording_on_demand_begins_before_it_was_asked_for(node: Callable[..., Node]) -> None:
    async with SimcamServer([CameraSpec("gate", loop=LOOP)]) as server, aiohttp.ClientSession() as http:
        one = node()
        await one.start()
        body = {"id": "gate", "main": server.url("gate"), "record": "demand", "pre_record_s": PRE_RECORD_S}
        async with http.post(f"{one.base}/cameras", json=body) as answer:
            assert answer.status == 201, await answer.text()
        await state(one, "gate.main", "standby")
        await asyncio.sleep(PRE_RECORD_S + 3)
        assert one.samples("gate.main") == []

        async with http.post(f"{one.base}/cameras/gate/record", json={"seconds": 600}) as answer:
            first = await answer.json()
            assert answer.status == 200, first
        await state(one, "gate.main", "recording")
        await asyncio.sleep(2)
        async with http.delete(f"{one.base}/cameras/gate/record") as answer:
            assert (await answer.json())["demanded_until"] is None
        await state(one, "gate.main", "standby")
        await asyncio.sleep(PRE_RECORD_S + 4)

        again = await asyncio.to_thread(one.keyreel, "camera", "start", "gate", "--seconds", "3")
        assert "is recorded until" in again.stdout
        await state(one, "gate.main", "recording")
        await state(one, "gate.main", "standby")  # the request runs out by itself
        assert await one.stop() == 0
        assert server.camera("gate").sessions == 1, "the connection stayed"

    line = json.loads(one.keyreel("timeline", "gate.main", "--json").stdout)
    asked_us = parse_time(first["demanded_until"]) - 600_000_000
    spans = [(parse_time(span["start"]), parse_time(span["end"])) for span in line["spans"]]
    assert len(spans) == 2
    assert (PRE_RECORD_S - 0.5) * 1e6 < asked_us - spans[0][0] < (PRE_RECORD_S + 3) * 1e6
    (gap,) = line["gaps"][:1]
    assert (gap["cause"], parse_time(gap["start"]), parse_time(gap["end"])) == ("not-wanted", spans[0][1], spans[1][0])
    report = verify(one.samples("gate.main"), "h264")
    assert (report.mismatches, report.unstamped) == ([], 0)


async def test_a_schedule_is_followed_and_a_change_of_it_costs_no_connection(node: Callable[..., Node]) -> None:
    async with SimcamServer([CameraSpec("gate", loop=LOOP)]) as server:
        one = node()
        await one.start()
        words = ["camera", "add", "gate", server.url("gate"), "--record", "schedule", "--schedule"]
        await asyncio.to_thread(one.keyreel, *words, "daily 00:00-24:00")
        await state(one, "gate.main", "recording")
        refused = await asyncio.to_thread(lambda: one.keyreel(*words, "sometimes", "--replace", check=False))
        assert refused.returncode == 2
        assert "mon-fri 07:00-19:00" in refused.stderr
        await asyncio.to_thread(
            one.keyreel, "camera", "add", "gate", server.url("gate"), "--record", "demand", "--replace"
        )
        await state(one, "gate.main", "standby")
        await asyncio.to_thread(one.keyreel, "camera", "add", "gate", server.url("gate"), "--replace")
        await state(one, "gate.main", "recording")
        refused = await asyncio.to_thread(lambda: one.keyreel("camera", "start", "gate", check=False))
        assert (refused.returncode, "all the time" in refused.stderr) == (2, True)
        assert await one.stop() == 0
        assert server.camera("gate").sessions == 1
