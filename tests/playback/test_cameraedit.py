"""Changing cameras over HTTP: some fields, and many cameras from CSV."""

from __future__ import annotations

from typing import Any

import pytest

from index import Camera, Index
from playback.cameraedit import with_secret
from tests.playback.conftest import Node

CAMERAS = "/api/v1/cameras"
GATE = "rtsp://user:p@ss/w@10.0.0.1:554/main?token=secret-word"
SHOWN = "rtsp://***@10.0.0.1:554/main?token=***"


def register(index: Index, *cameras: Camera) -> None:
    with index.write() as transaction:
        for camera in cameras:
            transaction.put_camera(camera)


def registered(index: Index) -> dict[str, Camera]:
    with index.read() as snapshot:
        return {camera.id: camera for camera in snapshot.cameras()}


async def imported(node: Node, csv: str, status: int = 200, **more: Any) -> dict[str, Any]:
    async with node.http.post(node.url(f"{CAMERAS}/import"), json={"csv": csv, **more}) as answer:
        assert answer.status == status, await answer.text()
        view: dict[str, Any] = await answer.json()
    return view


async def test_a_change_keeps_what_it_does_not_name_and_the_password(node: Node, index: Index) -> None:
    register(index, Camera(id="gate", main=GATE, sub="rtsp://10.0.0.1/sub", note="old", pre_record_s=3))
    changed = await node.http.patch(node.url(f"{CAMERAS}/gate"), json={"main": SHOWN, "note": "by the gate"})
    assert changed.status == 200
    assert "secret-word" not in await changed.text()
    camera = registered(index)["gate"]
    assert (camera.main, camera.note, camera.pre_record_s) == (GATE, "by the gate", 3)
    async with node.http.patch(node.url(f"{CAMERAS}/gate"), json={"sub": None, "enabled": False}) as answer:
        assert (await answer.json())["sub"] is None
    assert not registered(index)["gate"].enabled
    await node.problem("PATCH", f"{CAMERAS}/gate", 400, json={"record": "schedule"})
    await node.problem("PATCH", f"{CAMERAS}/gate", 400, json={"main": "ftp://10.0.0.1/"})
    await node.problem("PATCH", f"{CAMERAS}/nobody", 404, json={"note": ""})
    assert registered(index)["gate"].record == "continuous"


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://***@10.0.0.2/main",
        "rtsp://***@10.0.0.1:8554/main",
        "rtsps://***@10.0.0.1/main",
        "http://***@10.0.0.1/main",
        "rtsp://***@10.0.0.1@10.0.0.2/main",
        "rtsp://10.0.0.2/***@10.0.0.1/main",
        "rtsp://***@10.0.0.1/main?token=***",
    ],
)
async def test_a_registered_password_is_sent_nowhere_else(node: Node, index: Index, address: str) -> None:
    register(index, Camera(id="gate", main="rtsp://user:secret-word@10.0.0.1/main"))
    for method, path, body in (
        ("PATCH", f"{CAMERAS}/gate", {"main": address}),
        ("POST", f"{CAMERAS}/test", {"camera": "gate", "address": address}),
    ):
        problem = await node.problem(method, path, 400, json=body)
        assert problem["reason"] == "bad-camera"
    assert registered(index)["gate"].main == "rtsp://user:secret-word@10.0.0.1/main"


def test_another_path_of_the_same_camera_keeps_the_password() -> None:
    assert with_secret("rtsp://***@h:1/other", "rtsp://u:p@h:1/main") == "rtsp://u:p@h:1/other"
    assert with_secret("rtsp://new:one@h:2/", "rtsp://u:p@h:1/main") == "rtsp://new:one@h:2/"


async def test_a_dry_run_says_what_every_row_would_do_and_changes_nothing(node: Node, index: Index) -> None:
    register(
        index, Camera(id="same", main="rtsp://h/s"), Camera(id="other", main="rtsp://u:old@h/o", demanded_until_us=7)
    )
    csv = "id,main,note\nnew,rtsp://u:secret-word@h/n,\nsame,rtsp://h/s,\nother,rtsp://u:secret-word@h/o,x\n"
    view = await imported(node, csv)
    assert [(row["line"], row["id"], row["change"], row["fields"]) for row in view["rows"]] == [
        (2, "new", "add", []),
        (3, "same", "same", []),
        (4, "other", "exists", ["main", "note"]),
    ]
    assert (view["applied"], view["added"], view["same"], view["refused"]) == (False, 1, 1, 1)
    assert (await imported(node, csv, replace=True))["rows"][2]["change"] == "change"
    assert set(registered(index)) == {"same", "other"}
    assert not (await imported(node, csv, 422, apply=True))["applied"]
    assert set(registered(index)) == {"same", "other"}
    assert "secret-word" not in str(await imported(node, csv))


async def test_an_import_is_applied_as_it_was_seen_or_not_at_all(node: Node, index: Index) -> None:
    csv = "\ufeffid,main\r\n" + "".join(f"cam{i},rtsp://10.1.{i // 250}.{i % 250}/main\r\n" for i in range(2000))
    seen = await imported(node, csv)
    assert seen["added"] == 2000
    register(index, Camera(id="meanwhile", main="rtsp://h/m"))
    body = {"csv": csv, "apply": True, "register": seen["register"]}
    problem = await node.problem("POST", f"{CAMERAS}/import", 409, json=body)
    assert problem["reason"] == "changed"
    assert len(registered(index)) == 1
    again = await imported(node, csv)
    assert (await imported(node, csv, apply=True, register=again["register"]))["applied"]
    assert len(registered(index)) == 2001
    assert (await imported(node, csv, apply=True))["same"] == 2000


async def test_wrong_rows_are_told_each_with_its_line(node: Node, index: Index) -> None:
    csv = (
        'id,main,note,enabled\na,rtsp://h/a,"two\nlines",yes\nB,rtsp://h/b,,\nc,ftp://u:secret-word@h/c,,\nd,,,\n'
        "e,rtsp://h/e,,maybe\nf,rtsp://h/f\na,rtsp://h/a2,,\ng,rtsp://***@h/g,,\n"
    )
    view = await imported(node, csv, 422, apply=True)
    wrong = {row["line"]: row["detail"] for row in view["rows"] if row["change"] == "wrong"}
    for line, word in (
        (4, "id"),
        (5, "rtsp://"),
        (6, "main is empty"),
        (7, "maybe"),
        (8, "2 values"),
        (9, "twice"),
        (10, "***"),
    ):
        assert word in wrong.pop(line), (line, view)
    assert not wrong
    assert "secret-word" not in str(view)
    swapped = await imported(node, "main,id\nb,rtsp://u:secret-word@h/b\n")
    assert swapped["rows"][0]["change"] == "wrong"
    assert "secret-word" not in str(swapped)
    assert registered(index) == {}
    for text, word in (("", "line 1"), ("id,colour\n", "line 1"), ('id,main\n"a,rtsp://h/', "not CSV")):
        problem = await node.problem("POST", f"{CAMERAS}/import", 400, json={"csv": text})
        assert word in problem["detail"]
