"""Testing a camera over HTTP, with simulated cameras on real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from index import Camera, Index
from playback.reach import pinned, refusal
from simcam.encode import LoopSpec
from simcam.faults import Faults
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from tests.playback.conftest import Node, StartNode

TEST = "/api/v1/cameras/test"
LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15, audio="aac")


async def answer_of(node: Node, **body: Any) -> dict[str, Any]:
    async with node.http.post(node.url(TEST), json=body) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        assert "secret-word" not in text
        view: dict[str, Any] = await answer.json()
    return view


async def test_what_a_good_camera_answers(node: Node, index: Index) -> None:
    spec = CameraSpec("gate", loop=LOOP, user="user", password="secret-word", metadata=True, server="Acme 9")
    async with SimcamServer([spec]) as server:
        url = server.url("gate")
        with index.write() as transaction:
            transaction.put_camera(Camera(id="gate", main=url))
        view = await answer_of(node, camera="gate")
        assert "secret-word" in url
        assert view["ok"], view
        assert (view["codec"], view["width"], view["height"]) == ("h264", 320, 180)
        assert view["codecs"].startswith("avc1.")
        assert view["frame_rate"] == pytest.approx(15, abs=3)
        assert view["bitrate_bps"] > 0
        assert view["key_frame_s"] is not None
        assert view["key_frame_every_s"] == pytest.approx(1.0, abs=0.2)
        assert abs(view["clock_offset_ms"]) < 5000
        assert [(track["kind"], track["codec"], track["recorded"]) for track in view["tracks"]] == [
            ("video", "h264", True),
            ("audio", "aac", True),
            ("metadata", "metadata", False),
        ]
        assert {"method": "DESCRIBE", "status": 401, "phrase": "Unauthorized"} in view["answers"]
        assert view["answers"][-1]["method"] == "PLAY"
        assert view["told"]["server"] == "Acme 9"
        assert view["address"] == f"rtsp://***@127.0.0.1:{server.port}/gate"
        over_udp = await answer_of(node, camera="gate", address=view["address"], transport="udp", seconds=15)
        assert over_udp["ok"], over_udp
    gone = await answer_of(node, camera="gate")
    assert (gone["ok"], gone["reason"], gone["connected_s"]) == (False, "unreachable", None)


async def test_what_bad_cameras_answer(start_node: StartNode) -> None:
    node = await start_node(camera_tests_max=6)
    specs = {
        "wrong-password": (CameraSpec("a", loop=LOOP, user="u", password="right"), "unauthorized"),
        "not-found": (CameraSpec("b", loop=LOOP, faults=Faults(describe_status=404)), "not-found"),
        "not-rtsp": (CameraSpec("c", loop=LOOP, faults=Faults(not_rtsp=True)), "not-rtsp"),
        "codec": (CameraSpec("d", loop=LOOP, faults=Faults(sdp_codec="JPEG/90000")), "codec"),
        "silent": (CameraSpec("e", loop=LOOP, faults=Faults(stall=True)), "no-key-frame"),
        "slow": (CameraSpec("f", loop=LOOP, faults=Faults(answer_delay_s=30)), "timeout"),
    }
    async with SimcamServer([spec for spec, _ in specs.values()]) as server:
        urls = {name: server.url(spec.name) for name, (spec, _) in specs.items()}
        urls["wrong-password"] = f"rtsp://u:secret-word@127.0.0.1:{server.port}/a"
        told = await asyncio.gather(*(answer_of(node, address=url, seconds=3) for url in urls.values()))
        views = dict(zip(urls, told, strict=True))
        for name, (_, reason) in specs.items():
            assert (views[name]["ok"], views[name]["reason"]) == (False, reason), (name, views[name])
            assert views[name]["detail"]
        assert views["not-found"]["answers"][-1] == {"method": "DESCRIBE", "status": 404, "phrase": "Not Found"}


@pytest.mark.parametrize(
    "address",
    ["rtsp://169.254.169.254/latest", "http://[fe80::1]/x", "rtsp://0.0.0.0/", "rtsp://[::ffff:169.254.1.1]/"],
)
async def test_no_camera_is_there(node: Node, address: str) -> None:
    view = await answer_of(node, address=address)
    assert (view["ok"], view["reason"]) == (False, "refused-address")


async def test_this_machine_is_tested_only_by_itself(start_node: StartNode) -> None:
    """An API that others reach must not tell them what listens on loopback here."""
    token = "a" * 20
    node = await start_node(listen="0.0.0.0:0", token=token)
    node.http.headers["Authorization"] = f"Bearer {token}"
    reached = asyncio.Event()
    listener = await asyncio.start_server(lambda _r, _w: reached.set(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    for scheme in ("rtsp", "http"):
        for host in ("127.0.0.1", "localhost"):
            async with node.http.post(
                f"http://127.0.0.1:{node.server.address[1]}{TEST}", json={"address": f"{scheme}://{host}:{port}/"}
            ) as answer:
                assert (await answer.json())["reason"] == "refused-address"
    listener.close()
    assert not reached.is_set()


async def test_wrong_orders_are_refused(node: Node, start_node: StartNode) -> None:
    for body, word in (
        ({}, "address"),
        ({"address": "file:///etc/passwd"}, "rtsp://"),
        ({"address": "rtsp://h/", "seconds": 60}, "seconds"),
        ({"address": "rtsp://***@h/"}, "password"),
    ):
        problem = await node.problem("POST", TEST, 400, json=body)
        assert word in problem["detail"]
    await node.problem("POST", TEST, 404, json={"camera": "nobody"})
    off = await start_node(camera_tests_max=0)
    await off.problem("POST", TEST, 403, json={"address": "rtsp://127.0.0.1/"})


async def test_only_so_many_at_a_time(start_node: StartNode) -> None:
    node = await start_node(camera_tests_max=1)
    asked = asyncio.Event()
    listener = await asyncio.start_server(lambda _r, _w: asked.set(), "127.0.0.1", 0)
    address = f"rtsp://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    first = asyncio.ensure_future(answer_of(node, address=address, seconds=2))
    async with asyncio.timeout(20):
        await asked.wait()
    await node.problem("POST", TEST, 503, json={"address": address})
    assert (await first)["reason"] == "timeout"
    listener.close()


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.2.3", True), ("192.168.0.9", True), ("8.8.8.8", True), ("fd00::1", True), ("2001:db8::1", True),
        ("127.0.0.1", False), ("127.8.8.8", False), ("::1", False), ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False), ("0.1.2.3", False), ("::", False), ("169.254.0.1", False), ("fe80::1%eth0", False),
        ("224.0.0.1", False), ("ff02::1", False), ("255.255.255.255", False), ("240.0.0.1", False), ("x", False),
    ],
)  # fmt: skip
def test_which_addresses_are_called(address: str, allowed: bool) -> None:
    assert (refusal(address, loopback=False) == "") is allowed
    if address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert refusal(address, loopback=True) == ""
    if address in ("224.0.0.1", "ff02::1"):
        assert refusal(address, loopback=False, multicast=True) == ""


def test_a_name_is_looked_up_once() -> None:
    assert pinned("http://u:p@cam.local:8080/x?y=1", "10.0.0.1") == "http://u:p@10.0.0.1:8080/x?y=1"
    assert pinned("srt://cam:9000", "fd00::1") == "srt://[fd00::1]:9000"
