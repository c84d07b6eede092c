"""History, alarms and reports over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from base.clock import wall_us
from base.history import ROWS_MAX, Batch, HistoryWriter, Reading, StateRow, VolumeReading, history_path
from base.status import (
    ClockStatus,
    IndexStatus,
    LedgerStatus,
    OverloadStatus,
    RecoveryStatus,
    ScrubStatus,
    StreamStatus,
    VolumeStatus,
)
from base.units import US, format_time, parse_time
from chunks.scrubreport import Damage, ScrubReport, write_report
from tests.playback.conftest import Node, tell_status


async def body_of(node: Node, path: str) -> dict[str, Any]:
    async with node.http.get(node.url(f"/api/v1{path}")) as answer:
        assert answer.status == 200, await answer.text()
        body: dict[str, Any] = await answer.json()
    return body


async def test_an_hour_and_a_day_are_lines_of_figures_of_all_workers(node: Node) -> None:
    now_s = wall_us() // US
    at_s = now_s // 10 * 10 - 600
    path = history_path(node.context.run_path)
    for worker in (0, 1):
        volumes = {"aa": VolumeReading(5.0, worker + 1.0, 7, 900)}
        reading = Reading(10.0, 100.0, 2, 1, worker + 3.0, volumes)
        batch = Batch(readings=[(10, at_s, worker, reading), (300, at_s // 300 * 300, worker, reading)])
        HistoryWriter(path, worker).add(batch, now_s * US)
    tell_status(node)
    for span, step_s, count in (("hour", 10, 360), ("day", 300, 288)):
        body = await body_of(node, f"/history?span={span}")
        assert (body["step_s"], body["count"]) == (step_s, count)
        start_s = parse_time(body["start"]) // US
        assert start_s % step_s == 0
        assert start_s + (count - 1) * step_s <= now_s + 1
        at = (at_s // step_s * step_s - start_s) // step_s
        assert {name: body[name][at] for name in ("ingest_bytes_s", "streams", "dropped_gops", "loop_lag_ms")} == {
            "ingest_bytes_s": 200.0,
            "streams": 4,
            "dropped_gops": 2,
            "loop_lag_ms": 4.0,
        }
        [volume] = body["volumes"]
        assert (volume["id"], volume["path"]) == ("aa", "/mnt/a")
        assert [volume[name][at] for name in ("write_bytes_s", "sync_ms", "queue_bytes", "free_bytes")] == [
            10,
            2,
            14,
            900,
        ]
        assert sum(one is not None for one in body["ingest_bytes_s"]) == 1
        assert {len(line) for line in (body["streams"], volume["sync_ms"])} == {count}


async def test_a_node_without_history_has_empty_lines(node: Node) -> None:
    body = await body_of(node, "/history")
    assert set(body["ingest_bytes_s"]) == {None}
    assert body["volumes"] == []
    problem = await node.problem("GET", "/api/v1/history?span=year", 400)
    assert "span" in problem["detail"]


async def test_comings_and_goings(node: Node) -> None:
    now_us = wall_us() // US * US
    rows = [("a.main", StateRow(now_us - 9 * US, "offline", "timeout")), ("a.main", StateRow(now_us, "recording", ""))]
    flaps = [("b.main", StateRow(now_us - i * US, "recording" if i % 2 else "offline", "")) for i in range(ROWS_MAX)]
    HistoryWriter(history_path(node.context.run_path), 0).add(Batch(states=rows + flaps), now_us)
    body = await body_of(node, "/streams/a.main/states")
    assert body["streams"] == [
        {
            "stream": "a.main",
            "whole_from": None,
            "states": [
                {"time": format_time(now_us - 9 * US), "state": "offline", "reason": "timeout"},
                {"time": format_time(now_us), "state": "recording", "reason": ""},
            ],
        }
    ]
    asked = {"streams": ["b.main", "nobody", "a.main"], "start": format_time(now_us - 3600 * US)}
    async with node.http.post(node.url("/api/v1/states"), json=asked) as answer:
        many = (await answer.json())["streams"]
    assert [(one["stream"], len(one["states"])) for one in many] == [("b.main", ROWS_MAX), ("nobody", 0), ("a.main", 2)]
    assert many[0]["whole_from"] == format_time(now_us - (ROWS_MAX - 1) * US)
    await node.problem("POST", "/api/v1/states", 400, json={"streams": []})
    await node.problem("POST", "/api/v1/states", 400, json={"streams": ["x"] * 101})


async def test_what_is_wrong_is_an_alarm_and_nothing_else_is(node: Node) -> None:
    assert [one["kind"] for one in (await body_of(node, "/alarms"))["alarms"]] == ["recorder"]
    now_us = wall_us()
    well = VolumeStatus(id="aa", path="/mnt/a", state="ok", deleting_paused="clock")
    streams = [StreamStatus(name="a.main", state="recording"), StreamStatus(name="b.main", state="standby")]
    tell_status(node, volumes=[well], streams=streams)
    assert (await body_of(node, "/alarms"))["alarms"] == []
    gone = VolumeStatus(
        id="bb", path="/mnt/b", state="quarantined", reason="eio", detail="it failed", since_us=now_us, short_bytes=5,
        deleting_paused="index", deleting_detail="not whole", streams_short=2, scrub=ScrubStatus(known_damage=3),
    )  # fmt: skip
    away = [
        StreamStatus(name=f"c{i}.main", state="backing-off", reason="timeout", last_frame_us=now_us - 60 * US)
        for i in range(9)
    ]
    away.append(StreamStatus(name="just.main", state="backing-off", reason="timeout", last_frame_us=now_us))
    away.append(StreamStatus(name="called.main", state="connecting"))
    away.append(StreamStatus(name="other.main", state="recording", reason="identity-changed", since_us=now_us))
    tell_status(
        node,
        workers=2,
        volumes=[well, gone],
        streams=streams + away,
        clock=ClockStatus(trusted=False, reason="unsynced"),
        ledger=LedgerStatus(reason="no-key", detail="it is missing"),
        index=IndexStatus(whole=False, chunks_total=8),
        overloads=[OverloadStatus(cause="disk", path="/mnt/a", since_us=1)],
    )
    found = (await body_of(node, "/alarms"))["alarms"]
    assert [(one["kind"], one["level"]) for one in found] == [
        ("recorder", "critical"), ("volume", "critical"), ("volume-full", "critical"), ("overload", "critical"),
        ("deleting-paused", "warning"), ("guarantee", "warning"), ("damage", "warning"), ("clock", "warning"),
        ("ledger", "warning"), ("index", "warning"), ("streams", "warning"), ("identity", "warning"),
    ]  # fmt: skip
    by_kind = {one["kind"]: one for one in found}
    assert (by_kind["volume"]["subject"], by_kind["volume"]["reason"]) == ("/mnt/b", "eio")
    assert (by_kind["streams"]["count"], by_kind["streams"]["reason"]) == (9, "timeout")
    assert by_kind["streams"]["subject"] == "c0.main, c1.main, c2.main, c3.main, c4.main …"
    assert all(one["detail"] or one["kind"] in ("streams", "identity") for one in found)


async def test_reports_of_recovery_index_and_damage(node: Node, tmp_path: Path) -> None:
    now_us = wall_us() // US * US
    damage = Damage("a.main", 1, 2, 100, 50, now_us - 5 * US, now_us - 4 * US, "checksum", now_us)
    write_report(tmp_path, ScrubReport(damage=[damage]))
    volumes = [
        VolumeStatus(id="aa", path=str(tmp_path), state="ok", scrub=ScrubStatus(known_damage=1)),
        VolumeStatus(id="bb", path="/nowhere", state="ok"),
    ]
    recovery = RecoveryStatus(
        volume="aa", path=str(tmp_path), since_us=now_us, done=True, torn=3, sealed=3, cut_bytes=77
    )
    tell_status(
        node, volumes=volumes, recoveries=[recovery], index=IndexStatus(verified_us=now_us, renewals=1, why="x")
    )
    body = await body_of(node, "/reports")
    assert body["damage"] == [
        {
            "volume": "aa",
            "stream": "a.main",
            "start": format_time(now_us - 5 * US),
            "end": format_time(now_us - 4 * US),
            "bytes": 50,
            "what": "checksum",
            "found": format_time(now_us),
        }
    ]
    [found] = body["recoveries"]
    assert (found["time"], found["done"], found["torn"], found["cut_bytes"]) == (format_time(now_us), True, 3, 77)
    assert (body["index"]["whole"], body["index"]["verified"], body["index"]["made"]) == (
        True,
        format_time(now_us),
        None,
    )
    assert body["unread"] == []
    tell_status(node, age_s=60)
    assert (await body_of(node, "/reports"))["index"] is None
