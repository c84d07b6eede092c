from __future__ import annotations

from base.clock import wall_us
from base.status import OverloadStatus
from tests.playback.conftest import Node, tell_status


async def test_the_alarm_is_told_while_the_recorder_speaks(node: Node) -> None:
    now_us = wall_us()
    lasting = OverloadStatus(
        cause="disk", volume="aa", path="/d", since_us=now_us, streams=3, waiting=2, dropped_gops=9
    )
    over = OverloadStatus(cause="cpu", since_us=now_us - 9, until_us=now_us - 5, streams=4)
    tell_status(node, overloads=[lasting, over], overload_episodes=7, media_bytes=5, media_bytes_max=10)
    body = await (await node.get("/api/v1/overloads")).json()
    assert (body["active"], body["episodes"]) == (True, 7)
    assert [(one["cause"], one["end"] is None, one["waiting"]) for one in body["overloads"]] == [
        ("disk", True, 2),
        ("cpu", False, 0),
    ]
    text = await (await node.get("/metrics")).text()
    for line in (
        'keyreel_overload_active{cause="disk"} 1.0',
        'keyreel_overload_active{cause="cpu"} 0.0',
        'keyreel_overload_waiting_streams{cause="disk"} 2.0',
        'keyreel_overload_episodes_total{worker="0"} 7.0',
        "keyreel_media_memory_bytes 5.0",
        "keyreel_media_memory_bound_bytes 10.0",
    ):
        assert line in text, line


async def test_a_recorder_that_is_silent_has_no_alarm(node: Node) -> None:
    tell_status(node, age_s=60, overloads=[OverloadStatus(cause="cpu", since_us=1)])
    body = await (await node.get("/api/v1/overloads")).json()
    assert (body["active"], body["overloads"], body["recorder"]["running"]) == (False, [], False)
