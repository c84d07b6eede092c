from __future__ import annotations

from chunks.records import StoredRecord
from index import Index
from index.expire import Rule, condemn, doom
from tests.index.test_transaction import BASE_US, VOLUME, chunk
from tests.playback.conftest import Node

HOLDS = "/api/v1/holds"
BODY = {
    "streams": ["cam1.main"],
    "start": "2026-09-21T14:13:21Z",
    "end": "2026-09-21T14:13:45+00:00",
    "reason": "a theft",
    "owner": "Lan",
    "case": "26-1187",
    "review": "2099-01-01T00:00:00Z",
}


def fill(index: Index) -> None:
    records: list[StoredRecord] = []
    for i in range(5):
        records += chunk(1, i + 1, BASE_US + i * 10_000_000, 10)
    with index.write() as transaction:
        transaction.apply(records)


async def test_a_hold_is_placed_seen_and_released(node: Node, index: Index) -> None:
    fill(index)
    placed = await node.http.post(node.url(HOLDS), json=BODY)
    assert placed.status == 201, await placed.text()
    hold = await placed.json()
    assert placed.headers["Location"] == f"{HOLDS}/{hold['id']}"
    kept = {"stream": "cam1.main", "volume": VOLUME.hex(), "chunks": 3}
    assert {key: hold["kept"][0][key] for key in kept} == kept
    assert (hold["active"], hold["gone"], hold["end"], hold["expires"]) == (
        True,
        [],
        "2026-09-21T14:13:45.000000Z",
        None,
    )
    listed = await (await node.get(HOLDS)).json()
    assert [one["id"] for one in listed["holds"]] == [hold["id"]]
    assert listed["kept"] == hold["kept"]
    line = await (
        await node.get("/api/v1/streams/cam1.main/timeline?start=2026-09-21T14:13:00Z&end=2026-09-21T14:14:00Z")
    ).json()
    assert line["holds"] == [{"id": hold["id"], "start": hold["start"], "end": hold["end"]}]
    path = f"{HOLDS}/{hold['id']}"
    assert (await (await node.get(path)).json())["case"] == "26-1187"
    await node.problem("DELETE", path, 400)
    released = await (await node.http.delete(node.url(f"{path}?by=Minh&reason=closed"))).json()
    assert (released["active"], released["released_by"], released["release_reason"]) == (False, "Minh", "closed")
    assert (await node.problem("DELETE", f"{path}?by=Minh", 400))["reason"] == "released"
    assert (await (await node.get(HOLDS)).json()) == {"holds": [], "kept": []}
    remembered = await (await node.get(f"{HOLDS}?all=true")).json()
    assert [(one["owner"], one["released_by"]) for one in remembered["holds"]] == [("Lan", "Minh")]


async def test_what_was_deleted_before_is_said(node: Node, index: Index) -> None:
    fill(index)
    with index.write() as transaction:
        for number in (1, 2):
            row = transaction.chunk(1, number)
            assert row is not None
            assert condemn(transaction, row, Rule.SPACE, BASE_US, []) is not None
        doom(transaction, [(1, 1)])
    hold = await (await node.http.post(node.url(HOLDS), json=BODY)).json()
    assert hold["gone"] == [
        {"stream": "cam1.main", "start": "2026-09-21T14:13:21.000000Z", "end": "2026-09-21T14:13:30.000000Z"}
    ], "the doomed chunk is gone, the condemned one came back"
    assert hold["kept"][0]["chunks"] == 2


async def test_a_bad_hold_is_refused_in_words(node: Node, index: Index) -> None:
    fill(index)
    for change, reason, status in (
        ({"streams": ["nobody.main"]}, "unknown-stream", 404),
        ({"streams": []}, "bad-body", 400),
        ({"end": BODY["start"]}, "bad-hold", 400),
        ({"start": "2026-09-21T14:13:21"}, "bad-time", 400),
        ({"owner": ""}, "bad-body", 400),
        ({"reason": "x\r\ny"}, "bad-hold", 400),
        ({"expires": "2001-01-01T00:00:00Z"}, "bad-hold", 400),
    ):
        body = await node.problem("POST", HOLDS, status, json={**BODY, **change})
        assert body["reason"] == reason, body
    for name in ("0", "99", "x", "-1", "99999999999"):
        await node.problem("GET", f"{HOLDS}/{name}", 404)
        await node.problem("DELETE", f"{HOLDS}/{name}?by=Minh", 404)
