from __future__ import annotations

from index import Index
from tests.playback.conftest import Node

CAMERAS = "/api/v1/cameras"
GATE = {"id": "gate", "main": "rtsp://user:secret-word@10.0.0.1/main"}


async def test_a_camera_is_added_replaced_and_removed(node: Node, index: Index) -> None:
    url = node.url(CAMERAS)
    added = await node.http.post(url, json=GATE)
    assert added.status == 201
    assert added.headers["Location"] == f"{CAMERAS}/gate"
    replaced = await node.http.post(url, json={**GATE, "transport": "udp", "priority": "high"})
    assert replaced.status == 200
    with index.read() as snapshot:
        camera = snapshot.camera("gate")
    assert camera is not None
    assert (camera.main, camera.transport, camera.priority) == (GATE["main"], "udp", "high")
    assert (await (await node.get(f"{CAMERAS}/gate")).json())["priority"] == "high"
    assert (await node.http.delete(f"{url}/gate")).status == 204
    await node.problem("DELETE", f"{CAMERAS}/gate", 404)
    await node.problem("GET", f"{CAMERAS}/gate", 404)


async def test_passwords_never_come_out(node: Node) -> None:
    texts = [await (await node.http.post(node.url(CAMERAS), json=GATE)).text()]
    texts += [await (await node.get(path)).text() for path in (CAMERAS, f"{CAMERAS}/gate")]
    for text in texts:
        assert "secret-word" not in text
        assert "***@10.0.0.1/main" in text


async def test_a_bad_camera_is_refused_in_words_without_its_password(node: Node) -> None:
    for change, word in (
        ({"id": "Not An Id"}, "id"),
        ({"main": "ftp://user:secret-word@10.0.0.1/"}, "rtsp://"),
        ({"main": "rtsp://***@10.0.0.1/main"}, "password"),
        ({"sub": "rtsp://"}, "names no host"),
        ({"transport": "carrier-pigeon"}, "transport"),
        ({"priority": "urgent"}, "priority"),
        ({"colour": "red"}, "colour"),
    ):
        body = await node.problem("POST", CAMERAS, 400, json={**GATE, **change})
        assert word in body["detail"], body
        assert "secret-word" not in body["detail"]
