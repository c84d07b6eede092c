from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from base.units import US
from clips.live import LivePart
from playback.follow import Viewer
from tests.playback.conftest import T0, Node, StartNode
from tests.support import Recording, video

LIVE = "/api/v1/streams/gate.main/live"


@pytest.fixture
def growing(tmp_path: Path) -> Any:
    """A stream whose last chunk is still open."""
    made = Recording(tmp_path / "growing", "gate.main")
    made.add(video(), start_us=T0, seal=False)
    made.flush()
    yield made
    made.close()


@pytest.fixture
async def node(start_node: StartNode, growing: Recording) -> Node:
    return await start_node(growing)


async def idle(node: Node) -> None:
    """Wait until nobody watches."""
    async with asyncio.timeout(20):
        while node.context.live.held:
            await asyncio.sleep(0.02)


async def test_a_viewer_gets_a_text_an_init_segment_and_fragments(node: Node) -> None:
    async with node.http.ws_connect(node.url(LIVE)) as socket:
        text = await socket.receive_json(timeout=20)
        assert text["mime"].startswith('video/mp4; codecs="avc1.')
        assert text["init_follows"] is True
        assert text["wall_us"] == T0
        init = await socket.receive_bytes(timeout=20)
        assert init[4:8] == b"ftyp"
        assert (await socket.receive_bytes(timeout=20))[4:8] == b"moof"
    await idle(node)


async def test_what_is_recorded_later_follows_and_a_new_configuration_is_announced(
    node: Node, growing: Recording
) -> None:
    async with node.http.ws_connect(node.url(LIVE)) as socket, node.http.ws_connect(node.url(LIVE)) as second:
        for one in (socket, second):
            await one.receive_json(timeout=20)
            await one.receive_bytes(timeout=20)
        await asyncio.to_thread(growing.add, video(profile="baseline"), start_us=T0 + 10 * US, seal=False)
        await asyncio.to_thread(growing.flush)
        for one in (socket, second):
            async with asyncio.timeout(20):
                while (message := await one.receive()).type != aiohttp.WSMsgType.TEXT:
                    assert message.type == aiohttp.WSMsgType.BINARY
            assert message.json()["wall_us"] == T0 + 10 * US
            assert (await one.receive_bytes(timeout=20))[4:8] == b"ftyp"
            for _ in range(4):
                assert (await one.receive_bytes(timeout=20))[4:8] == b"moof"
    await idle(node)


async def test_without_an_upgrade_or_a_stream_it_is_a_problem(node: Node) -> None:
    body = await node.problem("GET", LIVE, 426)
    assert "hls/live.m3u8" in body["detail"]
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await node.http.ws_connect(node.url(LIVE.replace("gate", "nobody")))
    assert caught.value.status == 404


async def test_another_sites_page_cannot_watch(node: Node) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await node.http.ws_connect(node.url(LIVE), origin="http://evil.example")
    assert caught.value.status == 403


async def test_live_views_are_bounded(start_node: StartNode, growing: Recording) -> None:
    node = await start_node(growing, live_max=1)
    async with node.http.ws_connect(node.url(LIVE)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await node.http.ws_connect(node.url(LIVE))
        assert caught.value.status == 503
    await idle(node)


async def test_stopping_the_server_ends_the_views(start_node: StartNode, growing: Recording) -> None:
    node = await start_node(growing)
    async with node.http.ws_connect(node.url(LIVE)) as socket:
        await socket.receive_json(timeout=20)
        stopping = asyncio.create_task(node.server.stop())
        async with asyncio.timeout(20):
            while not socket.closed:
                with contextlib.suppress(aiohttp.WSMessageTypeError):
                    await socket.receive()
        assert socket.close_code == aiohttp.WSCloseCode.GOING_AWAY
        await stopping


def part(size: int, *, key: bool = False, init: bool = False) -> LivePart:
    return LivePart(bytes(size), 0, 0, key, "video/mp4" if init else "")


async def test_a_slow_viewer_skips_to_a_key_frame_and_keeps_its_init_segment() -> None:
    viewer = Viewer(bytes_max=100)
    init, opening = part(10, init=True), part(40, key=True)
    for one in (init, opening, part(40), part(40), part(5)):
        viewer.offer(one)
    assert viewer.skipped == 4
    later = part(50, key=True)
    viewer.offer(later)
    viewer.offer(part(1))
    taken = [await viewer.take() for _ in range(3)]
    assert taken[:2] == [init, later]
    viewer.end()
    with pytest.raises(EOFError):
        await viewer.take()


@pytest.mark.parametrize("count", [1, 50, 200, 201, 203])
async def test_whatever_is_offered_little_waits_and_it_begins_with_a_key_frame(count: int) -> None:
    viewer = Viewer(bytes_max=100)
    for i in range(count):
        viewer.offer(part(10 + i % 30, key=i % 7 == 0))
    viewer.offer(part(1, key=True))
    viewer.end()
    taken = []
    with contextlib.suppress(EOFError):
        while True:
            taken.append(await viewer.take())
    assert taken[0].key
    assert sum(len(one.data) for one in taken) <= 100
    assert len(taken) + viewer.skipped == count + 1
