from __future__ import annotations

import pytest

from base.units import US, format_time
from chunks.records import Gap, GapCause
from index import Index
from tests.playback.conftest import T0, Node, StartNode, fill_index, tell_status
from tests.support import Recording

GATE = "/api/v1/streams/gate.main"


def span(start_s: float, end_s: float) -> dict[str, str]:
    return {"start": format_time(T0 + round(start_s * US)), "end": format_time(T0 + round(end_s * US))}


async def test_streams_come_from_index_register_and_status(node: Node, index: Index) -> None:
    fill_index(index)
    tell_status(node)
    body = await (await node.get("/api/v1/streams")).json()
    assert body["recorder"]["running"] is True
    gate, hall, sub = body["streams"]
    assert [gate["id"], hall["id"], sub["id"]] == ["gate.main", "hall.main", "hall.sub"]
    assert (gate["state"], gate["bitrate_bps"], gate["lost_packets"]) == ("recording", 4e6, 3)
    assert gate["mime"] == 'video/mp4; codecs="avc1.42C01E,mp4a.40.2"'
    assert gate["codecs"] == "avc1.42C01E,mp4a.40.2"
    assert gate["derived"] == ["audio"], "the recorded sound is G.711"
    assert gate["durable_until"] == format_time(T0 + 80 * US)
    assert (hall["state"], hall["reason"], hall["detail"]) == ("backing-off", "unauthorized", "the camera refuses us")
    assert (sub["state"], sub["durable_until"]) == ("disabled", None)


async def test_without_a_living_recorder_states_are_unknown(node: Node, index: Index) -> None:
    fill_index(index)
    tell_status(node, age_s=3600)
    body = await (await node.get(GATE)).json()
    assert (body["state"], body["reason"], body["bitrate_bps"]) == ("unknown", "recorder-silent", 0)
    assert body["codec"] == "h264"


async def test_an_unknown_stream_is_a_problem_that_says_where_to_look(node: Node, index: Index) -> None:
    fill_index(index)
    for path in (
        "/api/v1/streams/nobody.main",
        "/api/v1/streams/nobody.main/clip.mp4?start=2026-03-01T01:30:00Z&end=2026-03-01T01:31:00Z",
    ):
        body = await node.problem("GET", path, 404)
        assert body["reason"] == "unknown-stream"
        assert "/api/v1/streams" in body["detail"]


async def test_the_timeline_tells_spans_and_gaps(node: Node, index: Index) -> None:
    fill_index(index)
    body = await (await node.get(f"{GATE}/timeline", params=span(-100, 100))).json()
    assert body["spans"] == [span(0, 20), span(60, 80)]
    assert body["gaps"] == [{**span(20, 60), "cause": "offline", "packets": 0}]
    assert body["durable_until"] == format_time(T0 + 80 * US)
    joined = await (await node.get(f"{GATE}/timeline", params={**span(-100, 100), "resolution": "50"})).json()
    assert joined["spans"] == [span(0, 80)]


async def test_timelines_of_many_streams_agree_with_those_of_one(node: Node, index: Index) -> None:
    fill_index(index)
    url = node.url("/api/v1/timeline")
    for resolution in (0, 50):
        asked = {**span(-100, 100), "resolution": resolution}
        body = await (await node.http.post(url, json={**asked, "streams": ["hall.main", "gate.main"]})).json()
        assert [one["stream"] for one in body["timelines"]] == ["hall.main", "gate.main"]
        for one in body["timelines"]:
            params = {**span(-100, 100), "resolution": str(resolution)}
            alone = await (await node.get(f"/api/v1/streams/{one['stream']}/timeline", params=params)).json()
            assert {**one, "start": body["start"], "end": body["end"]} == alone
    everything = await (await node.http.post(url, json=span(-100, 100))).json()
    assert [one["stream"] for one in everything["timelines"]] == ["gate.main", "hall.main", "hall.sub"]


async def test_timelines_stay_small_however_many_gaps(node: Node, index: Index) -> None:
    fill_index(index)
    with index.write() as transaction:
        row = transaction.stream("gate.main")
        assert row is not None
        at = [T0 + n * 2000 for n in range(9000)]
        transaction.apply([Gap(row.id, start_us, start_us + 1000, GapCause.PACKET_LOSS) for start_us in at])
    body = await (await node.http.post(node.url("/api/v1/timeline"), json=span(-100, 100))).json()
    gate = body["timelines"][0]
    assert len(gate["spans"]) + len(gate["gaps"]) <= 4000
    assert gate["resolution"] > 0, "it says how coarsely it tells"


async def test_timelines_refuse_what_they_cannot_answer(node: Node, index: Index) -> None:
    fill_index(index)
    url, asked = "/api/v1/timeline", span(0, 10)
    unknown = await node.problem("POST", url, 404, json={**asked, "streams": ["gate.main", "nobody"]})
    assert "nobody" in unknown["detail"]
    twice = await node.problem("POST", url, 400, json={**asked, "streams": ["gate.main", "gate.main"]})
    assert "twice" in twice["detail"]
    await node.problem("POST", url, 400, json={**asked, "resolution": -1})
    await node.problem("POST", url, 400, json={"start": asked["end"], "end": asked["start"]})


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("start=2026-03-01T01:30:00&end=2026-03-01T01:31:00Z", "offset"),
        ("start=2026-03-01T01:31:00Z&end=2026-03-01T01:30:00Z", "not after start"),
        ("start=2026-03-01T01:31:00Z&end=2026-03-01T01:31:00Z", "not after start"),
        ("start=2026-02-30T01:31:00Z&end=2026-03-01T01:31:00Z", "does not exist"),
        ("end=2026-03-01T01:31:00Z", "missing: 'start'"),
        ("start=a&start=b&end=c", "twice"),
        ("start=2026-03-01T01:30:00Z&end=2026-03-01T01:31:00Z&until=1", "no parameter or field 'until'"),
        ("start=2026-03-01T01:30:00Z&end=2026-03-01T01:31:00Z&resolution=-1", "resolution"),
        ("start=2026-03-01T01:30:00Z&end=2026-03-01T01:31:00Z&resolution=nan", "resolution"),
        ("start=%ff&end=%00", "RFC 3339"),
        ("start=99999-03-01T01:30:00Z&end=2026-03-01T01:31:00Z", "RFC 3339"),
    ],
)
async def test_bad_ranges_say_what_to_change(node: Node, index: Index, query: str, word: str) -> None:
    fill_index(index)
    body = await node.problem("GET", f"{GATE}/timeline?{query}", 400)
    assert word in body["detail"]


async def test_an_offset_need_not_be_escaped(node: Node, index: Index) -> None:
    fill_index(index)
    query = "start=2026-03-01T08:30:00+07:00&end=2026-03-01+08:30:30%2B07:00"
    async with node.http.get(node.url(f"{GATE}/timeline?{query}")) as answer:
        assert answer.status == 200
        assert (await answer.json())["spans"] == [span(0, 20)]


async def test_seek_answers_many_streams_in_the_order_asked(node: Node, index: Index) -> None:
    fill_index(index)
    body = {"at": format_time(T0 + 5 * US), "streams": ["hall.main", "gate.main"]}
    answer = await (await node.http.post(node.url("/api/v1/seek"), json=body)).json()
    assert answer["results"] == [
        {
            "stream": "hall.main",
            "time": None,
            "chunk": None,
            "offset": None,
            "durable_until": None,
            "provisional": True,
            "frame": None,
            "media_90k": None,
        },
        {
            "stream": "gate.main",
            "time": format_time(T0 + 4 * US),
            "chunk": 1,
            "offset": 2000,
            "durable_until": format_time(T0 + 80 * US),
            "provisional": False,
            "frame": None,
            "media_90k": None,
        },
    ]
    everything = await (await node.http.post(node.url("/api/v1/seek"), json={"at": body["at"]})).json()
    assert [result["stream"] for result in everything["results"]] == ["gate.main", "hall.main", "hall.sub"]


async def test_seek_tells_the_exact_picture_and_takes_media_time(start_node: StartNode, recording: Recording) -> None:
    node = await start_node(recording)
    url = node.url("/api/v1/seek")
    body: dict[str, object] = {"at": format_time(T0 + 3_030_000), "streams": ["gate.main"], "exact": True}
    found = (await (await node.http.post(url, json=body)).json())["results"][0]
    assert found["frame"] == format_time(T0 + 3 * US)
    assert found["time"] == format_time(T0 + 3 * US)
    by_media = {"media_90k": found["media_90k"] + 1800, "streams": ["gate.main"], "exact": True}
    answer = await (await node.http.post(url, json=by_media)).json()
    assert answer["at"] == format_time(T0 + 3_020_000)
    assert answer["results"] == [found]
    end = format_time(T0 + 34 * US)
    last = (await (await node.http.post(url, json={**body, "at": end})).json())["results"][0]
    assert last["provisional"] is True
    assert last["frame"] == format_time(T0 + 34 * US - US // 25)
    await node.problem("POST", "/api/v1/seek", 404, json={**by_media, "media_90k": 5})
    for bad in ({}, {"at": end, "media_90k": 5}, {"media_90k": 5}, {"at": end, "exact": True}):
        await node.problem("POST", "/api/v1/seek", 400, json=bad)


async def test_seek_refuses_what_it_cannot_answer(node: Node, index: Index) -> None:
    fill_index(index)
    url = "/api/v1/seek"
    at = format_time(T0)
    assert "nobody" in (await node.problem("POST", url, 404, json={"at": at, "streams": ["nobody"]}))["detail"]
    assert "offset" in (await node.problem("POST", url, 400, json={"at": "2026-03-01T00:00:00"}))["detail"]
    assert "'when'" in (await node.problem("POST", url, 400, json={"at": at, "when": 1}))["detail"]
    assert (
        "JSON"
        in (await node.problem("POST", url, 400, data=b"{", headers={"Content-Type": "application/json"}))["detail"]
    )
    assert "Content-Type" in (await node.problem("POST", url, 415, data=b"{}"))["detail"]
    large = {"at": at, "streams": ["x" * 100] * 20_000}
    assert (await node.problem("POST", url, 413, json=large))["reason"] == "too-large"
    assert (await node.problem("GET", url, 405))["detail"].endswith("use POST")
