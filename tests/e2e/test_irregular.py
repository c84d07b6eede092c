"""Streams that are not one key frame a second at one rate: recorded whole, and each key frame found, no other."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import pytest

from index import Camera
from simcam.encode import LoopSpec, make_loop
from simcam.faults import Faults
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import verify
from tests.e2e.bad import key_samples, register, true_keys_alone, whole
from tests.e2e.node import Node, until

SMALL = LoopSpec(width=160, height=90, fps=15, gop=15, seconds=4, bitrate_bps=100_000)


def like(**fields: object) -> LoopSpec:
    return LoopSpec(**{**{name: getattr(SMALL, name) for name in SMALL.__struct_fields__}, **fields})  # type: ignore[arg-type]


STREAMS = {
    "gop20s": like(fps=5, gop=100, seconds=20),
    "fps1": like(fps=1, gop=2, seconds=8),
    "fps240": like(fps=240, gop=120, seconds=2, bitrate_bps=2_000_000),
    "b-frames": like(b_frames=3, gop=30),
    "b-frames-h265": like(codec="h265", b_frames=4, gop=30),
    "refresh": like(intra_refresh=True, gop=60),
    "burst": SMALL,
    "sizes": SMALL,
}


async def test_irregular_streams_are_recorded_whole_with_their_true_key_frames(node: Callable[..., Node]) -> None:
    async with SimcamServer([CameraSpec(name, spec) for name, spec in STREAMS.items()]) as server:
        one = node()
        register(one.data, [Camera(id=name, main=server.url(name)) for name in STREAMS])
        await one.start()
        await one.recording(*(f"{name}.main" for name in STREAMS))
        server.camera("burst").switch(make_loop(like(bitrate_bps=2_000_000, padded=True)))
        for width in (320, 480, 160):
            server.camera("sizes").switch(like(width=width))
            await asyncio.sleep(1.5)
        await until(lambda: _pictures(server, "gop20s", 110), 40, "the second key frame of a GOP of 20 s")
        assert await one.stop() == 0
        for name in STREAMS:
            whole(one, server, name)
            true_keys_alone(one, server, name)
        assert len(key_samples(one, "refresh")) >= 1
        assert len({head.epoch for head in one.heads("sizes.main")}) == 4, "each size has chunks of its own"
        checked = await asyncio.to_thread(one.keyreel, "check", "--deep", check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


async def _pictures(server: SimcamServer, name: str, count: int) -> bool:
    return len(server.camera(name).sent()) >= count


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.1])
async def test_the_list_of_gaps_is_the_truth(node: Callable[..., Node], loss: float) -> None:
    """Each picture that the network spoiled lies in a declared gap, and each gap holds one that it spoiled."""
    faults = dataclasses.replace(Faults(), loss=loss)
    spec = CameraSpec("gate", like(fps=5, gop=5, seconds=8), payload_max=200, faults=faults)
    async with SimcamServer([spec]) as server:
        camera = server.camera("gate")
        one = node()
        register(one.data, [Camera(id="gate", main=server.url("gate"))])
        await one.start()
        await one.recording("gate.main")
        await until(lambda: _spoilt(server, 3), 30, "some pictures spoiled")
        camera.control({"loss": "0"})
        await asyncio.sleep(3)
        _, line = await one.get("/streams/gate.main/timeline", start="2020-01-01T00:00:00Z", end="2100-01-01T00:00:00Z")
        assert await one.stop() == 0
    gaps = [(_us(gap["start"]), _us(gap["end"])) for gap in line["gaps"]]
    assert {gap["cause"] for gap in line["gaps"]} == {"packet-loss"}
    stored = verify(one.samples("gate.main"), "h264")
    assert stored.first is not None
    near_us = 100_000  # half a picture
    sent = {p.sequence: p for p in camera.sent() if p.sequence >= stored.first}
    for sequence in camera.damaged & sent.keys():
        moment_us = sent[sequence].sent_us
        assert any(a - near_us <= moment_us <= b + near_us for a, b in gaps), f"picture {sequence} is in no gap"
    for a, b in gaps:
        inside = [n for n, p in sent.items() if a - near_us <= p.sent_us <= b + near_us]
        assert set(inside) & camera.damaged, "a gap where nothing was spoiled"
    assert set(stored.mismatches) <= camera.damaged
    assert all(n in camera.damaged for a, b in stored.missing for n in range(a, b + 1))


async def _spoilt(server: SimcamServer, count: int) -> bool:
    return len(server.camera("gate").damaged) >= count


def _us(text: str) -> int:
    from base.units import parse_time

    return parse_time(text)
