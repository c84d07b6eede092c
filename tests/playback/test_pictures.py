from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest

from base.units import US, format_time
from tests.playback.conftest import T0, Node, StartNode
from tests.support import BARS, Recording, number_of, shown, video

GATE = "/api/v1/streams/gate.main"


def at(seconds: float) -> str:
    return format_time(T0 + round(seconds * US))


def picture(data: bytes) -> Any:
    with av.open(io.BytesIO(data), format="jpeg_pipe") as container:
        return next(container.decode(video=0)).to_ndarray(format="gray")


@pytest.fixture
async def node(start_node: StartNode, recording: Recording) -> Node:
    return await start_node(recording)


async def test_a_key_frame_is_had_for_less_and_smaller(node: Node) -> None:
    params = {"at": at(3.9), "exact": "false", "width": "160"}
    answer = await node.get(f"{GATE}/frame.jpg", params=params)
    assert answer.headers["Keyreel-Time"] == at(3)
    luma = picture(await answer.read())
    assert luma.shape == (96, 160)
    assert number_of(np.repeat(luma, 2, axis=1)) == 75


async def test_a_contact_sheet_shows_each_share_and_leaves_absences_empty(node: Node) -> None:
    params = {"start": at(0), "end": at(34), "count": "17", "columns": "5", "width": "160"}
    answer = await node.get(f"{GATE}/contact.jpg", params=params)
    assert answer.status == 200, await answer.text()
    times = answer.headers["Keyreel-Times"].split(",")
    assert times[:10] == [at(i * 2) for i in range(10)]
    assert times[10:15] == ["-"] * 5
    assert times[15:] == [at(30), at(32)]
    luma = picture(await answer.read())
    assert luma.shape == (4 * 96, 5 * 160)
    for i in range(10):
        cell = luma[i // 5 * 96 : i // 5 * 96 + 96, i % 5 * 160 : i % 5 * 160 + 160]
        assert number_of(np.repeat(cell, 2, axis=1)) == i * 50 % 100
    assert luma[2 * 96 + 20, 100] < 30, "an empty cell is dark"


async def test_a_sheet_of_nothing_and_of_too_much_are_problems(node: Node) -> None:
    path = f"{GATE}/contact.jpg"
    await node.problem("GET", path, 404, params={"start": at(22), "end": at(28)})
    await node.problem("GET", path, 400, params={"start": at(0), "end": at(9), "count": "100", "width": "1920"})
    await node.problem("GET", path, 400, params={"start": at(0), "end": at(9), "count": "0"})


async def played(node: Node, **query: str) -> tuple[list[str], bytes, int | None, list[int]]:
    """(wall times told, all bytes, close code, places on the play line) of a trick play to its end."""
    walls, data, places = [], b"", []
    async with node.http.ws_connect(node.url(f"{GATE}/trick"), params=query) as socket:
        while (message := await socket.receive(timeout=20)).type != aiohttp.WSMsgType.CLOSE:
            if message.type == aiohttp.WSMsgType.TEXT:
                told = message.json()
                walls.append(told["wall"])
                places.append(told["shown_90k"])
            elif message.type == aiohttp.WSMsgType.BINARY:
                data += message.data
            else:
                break
        return walls, data, message.data if message.type == aiohttp.WSMsgType.CLOSE else socket.close_code, places


async def test_trick_play_forward_and_backward(node: Node) -> None:
    walls, data, code, places = await played(node, at=at(12.4), rate="64", pictures="16")
    assert walls == [at(s) for s in (12, 16, 30)]
    assert [number for _, number in shown(data)] == [0, 0, 0]
    assert code == aiohttp.WSCloseCode.OK
    walls, data, code, places = await played(node, at=at(31.5), rate="-32", pictures="16")
    assert walls == [at(s) for s in (31, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1)]
    assert places[0] == 0
    assert sorted(set(places)) == places, "a play line of its own, always forward"
    pictures = shown(data)
    assert [number for _, number in pictures] == [25, *(75, 25) * 5][: len(walls)]
    assert [round(time * 90_000) for time, _ in pictures] == pytest.approx(places, abs=5)
    assert BARS == 10


async def test_trick_play_refuses_what_makes_no_sense(node: Node) -> None:
    await node.problem("GET", f"{GATE}/trick", 400, params={"at": at(1), "rate": "0"})
    await node.problem("GET", f"{GATE}/trick", 400, params={"at": at(1), "rate": "5000"})
    await node.problem("GET", f"{GATE}/trick", 426, params={"at": at(1)})
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await node.http.ws_connect(node.url(f"{GATE}/trick"), params={"at": at(1)}, origin="http://evil.example")
    assert caught.value.status == 403


async def test_h265_is_previewed_as_h264(start_node: StartNode, tmp_path: Path) -> None:
    made = Recording(tmp_path / "hevc", "gate.main")
    made.add(video("h265"), start_us=T0, repeat=2, chunk_s=4)
    made.flush()
    node = await start_node(made, previews_max=1)
    view = await (await node.get("/api/v1/streams/gate.main")).json()
    assert view["codecs"].startswith("hvc1.")
    assert view["preview"] == "h264"
    params = {"start": at(1.2), "end": at(6), "transcode": "h264"}
    answer = await node.get(f"{GATE}/clip.mp4", params=params)
    assert answer.headers["Keyreel-Derived"] == "video"
    assert answer.headers["Cache-Control"] == "no-store"
    data = await answer.read()
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 320, 192)
    numbers = shown(data)
    assert [number for _, number in numbers] == [i % 100 for i in range(30, 150)]
    assert numbers[0][0] == pytest.approx(0, abs=0.001)
    assert numbers[-1][0] == pytest.approx(119 / 25, abs=0.01)
    small = await (await node.get(f"{GATE}/clip.mp4", params={**params, "width": "160"})).read()
    with av.open(io.BytesIO(small)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (160, 96)
    await node.problem("GET", f"{GATE}/clip.mp4", 400, params={**params, "end": at(4000)})
    with node.context.previews.hold():
        assert "previews" in (await node.problem("GET", f"{GATE}/clip.mp4", 503, params=params))["detail"]
    head = await node.http.head(node.url(f"{GATE}/clip.mp4"), params=params)
    assert head.status == 200
    made.close()
