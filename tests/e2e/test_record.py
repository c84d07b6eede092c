"""Simulated cameras → node → chunk files: every picture there, in order, byte for byte."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import verify
from tests.e2e.node import Node, until

STREAMS = int(os.environ.get("KEYREEL_E2E_STREAMS", "16"))
SECONDS = float(os.environ.get("KEYREEL_E2E_SECONDS", "8"))
LOOPS = [
    LoopSpec(codec="h264", width=320, height=180, gop=15, profile="baseline", audio="pcmu"),
    LoopSpec(codec="h264", width=320, height=180, gop=30, b_frames=2, audio="aac"),
    LoopSpec(codec="h265", width=320, height=180, gop=30),
    LoopSpec(codec="h264", width=320, height=180, gop=45, slices=4, audio="pcma"),
    LoopSpec(codec="h265", width=320, height=180, gop=20, b_frames=3, audio="opus"),
    LoopSpec(codec="h264", width=320, height=180, gop=30, audio="l16"),
]


async def add(node: Node, server: SimcamServer, *words: str) -> None:
    """`camera add` for every camera of the server."""
    for name in server.cameras:
        await asyncio.to_thread(node.keyreel, "camera", "add", name, server.url(name), *words)


async def test_mixed_codecs_are_recorded_whole_and_in_order(node: Callable[..., Node]) -> None:
    specs = [CameraSpec(f"cam{i}", loop=LOOPS[i % len(LOOPS)], metadata=i % 3 == 0) for i in range(STREAMS)]
    async with SimcamServer(specs) as server:
        one = node(config="[recorder]\nchunk_s = 10\n")
        await one.start()
        await add(one, server)
        await one.recording(*(f"{name}.main" for name in server.cameras))
        await asyncio.sleep(SECONDS)
        streams = await one.streams()
        assert all(s["state"] == "recording" and s["lost_packets"] == 0 for s in streams.values())
        assert await one.stop() == 0
        for i in range(STREAMS):
            samples = one.samples(f"cam{i}.main")
            report = verify(samples, LOOPS[i % len(LOOPS)].codec)
            assert report.ok, (i, report)
            sent = {picture.sequence: picture for picture in server.camera(f"cam{i}").sent()}
            first, last = report.first, report.last
            assert first is not None
            assert last is not None
            assert samples == [sent[n].sample for n in range(first, last + 1)]
            assert first == min(sent), "the first key frame sent is the first stored"


async def test_udp_is_recorded_whole_even_when_packets_come_out_of_order(node: Callable[..., Node]) -> None:
    spec = CameraSpec("gate", loop=LOOPS[0])
    async with SimcamServer([spec]) as server:
        one = node()
        await one.start()
        await add(one, server, "--transport", "udp")
        await one.recording("gate.main")
        server.camera("gate").control({"reorder": "0.05", "duplicate": "0.02"})
        await asyncio.sleep(4)
        server.camera("gate").control({"reorder": "0", "duplicate": "0"})
        await asyncio.sleep(1)
        assert await one.stop() == 0
        report = verify(one.samples("gate.main"), "h264")
        assert report.ok, report


async def test_lost_packets_become_a_declared_gap(node: Callable[..., Node]) -> None:
    async with SimcamServer([CameraSpec("gate", loop=LOOPS[0])]) as server:
        one = node()
        await one.start()
        await add(one, server, "--transport", "udp")
        await one.recording("gate.main")
        camera = server.camera("gate")
        camera.control({"loss": "0.3"})
        await until(lambda: _damaged(camera, 3), 20, "some pictures damaged on the way")
        camera.control({"loss": "0"})
        await asyncio.sleep(3)
        _, line = await one.get("/streams/gate.main/timeline", start="2020-01-01T00:00:00Z", end="2100-01-01T00:00:00Z")
        assert await one.stop() == 0
        assert {gap["cause"] for gap in line["gaps"]} == {"packet-loss"}
        stored = verify(one.samples("gate.main"), "h264")
        assert stored.pictures > 0
        wrong = set(stored.mismatches) | {n for a, b in stored.missing for n in range(a, b + 1)}
        assert wrong <= camera.damaged, "only what the network spoiled is missing or incomplete"


async def _damaged(camera: object, count: int) -> bool:
    return len(camera.damaged) >= count  # type: ignore[attr-defined]


async def test_a_codec_change_in_mid_stream_starts_a_new_epoch(node: Callable[..., Node]) -> None:
    async with SimcamServer([CameraSpec("gate", loop=LOOPS[0])]) as server:
        one = node()
        await one.start()
        await add(one, server)
        await one.recording("gate.main")
        server.camera("gate").switch(LoopSpec(codec="h264", width=480, height=270, gop=15, profile="high"))

        async def second_chunk() -> bool:
            return len(one.chunks("gate.main")) >= 2

        await until(second_chunk, 15, "a second chunk")
        await asyncio.sleep(2)
        assert await one.stop() == 0
        assert len({head.epoch for head in one.heads("gate.main")}) == 2
        report = verify(one.samples("gate.main"), "h264")
        assert report.ok, report


async def test_cameras_are_added_and_removed_while_it_runs_and_restart_goes_on(node: Callable[..., Node]) -> None:
    async with SimcamServer([CameraSpec("a", loop=LOOPS[0]), CameraSpec("b", loop=LOOPS[2])]) as server:
        one = node()
        one.keyreel("camera", "add", "a", server.url("a"), check=False)
        await one.start()
        await add(one, server)
        await one.recording("a.main", "b.main")
        await asyncio.to_thread(one.keyreel, "camera", "remove", "b")

        async def gone() -> bool:
            return not server.camera("b").viewers

        await until(gone, 10, "b's session ended")
        assert await one.stop() == 0
        before = len(one.chunks("a.main"))
        await one.start()
        await one.recording("a.main")

        async def more() -> bool:
            return len(one.chunks("a.main")) > before

        await until(more, 15, "a new chunk after the restart")
        await asyncio.sleep(2)
        _, line = await one.get("/streams/a.main/timeline", start="2020-01-01T00:00:00Z", end="2100-01-01T00:00:00Z")
        assert len(line["spans"]) == 2
        assert [gap["cause"] for gap in line["gaps"]] == ["stopped"]
        assert await one.stop() == 0
        assert verify(one.samples("b.main"), "h265").ok


@pytest.mark.needs_corpus
async def test_corpus_streams_are_byte_exact(node: Callable[..., Node], corpus: Path) -> None:
    """Conformance streams, damaged ones and camera-signed recordings: the NAL bytes on disk are those of the file."""
    files = sorted((corpus / "h264").iterdir()) + sorted((corpus / "signed").glob("*.mp4"))
    specs = [CameraSpec(f"f{i}", loop=path, repeat=1, rate=4) for i, path in enumerate(files)]
    async with SimcamServer(specs) as server:
        one = node(config="[recorder]\nbackoff_min_s = 30\n")  # nobody calls a second time
        await one.start()
        await add(one, server)

        async def all_sent() -> bool:
            return all(c.sessions > 0 and not c.viewers for c in server.cameras.values())

        await until(all_sent, 100, "every file sent once")
        assert await one.stop() == 0
        for i, path in enumerate(files):
            sent = [picture.sample for picture in server.camera(f"f{i}").sent()]
            stored = one.samples(f"f{i}.main")
            assert stored, f"{path.name}: nothing stored; {one.log_tail()}"
            # A signature that ends a stream has no picture of its own; it is kept with the last one.
            assert b"".join(stored) == b"".join(sent), path.name
            assert len(stored) in (len(sent), len(sent) - 1), path.name
