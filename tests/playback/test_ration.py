from __future__ import annotations

import ctypes
import platform
import threading

import pytest

from base.clock import wall_us
from base.priority import LAST
from base.status import RecorderStatus, VolumeState, VolumeStatus
from base.units import US, format_time
from playback.ration import FACTOR_MAX, REST_S_MAX, Ration, rest_factor, volumes_of
from playback.workers import Workers
from tests.playback.conftest import T0, StartNode, tell_status
from tests.support import Recording

ONE, OTHER = b"1" * 16, b"2" * 16


def volume(sync_ms: float, state: VolumeState = "ok", volume_id: bytes = ONE) -> VolumeStatus:
    return VolumeStatus(id=volume_id.hex(), path="/mnt/a", state=state, last_sync_ms=sync_ms)


def said(*volumes: VolumeStatus, age_s: float = 0.0) -> RecorderStatus:
    now_us = wall_us() - round(age_s * US)
    return RecorderStatus(pid=1, started_us=0, updated_us=now_us, version="", streams=[], volumes=list(volumes))


async def never() -> RecorderStatus | None:
    raise AssertionError("nobody asks")


def test_a_disk_in_time_is_read_at_full_speed_and_a_late_one_for_a_share() -> None:
    assert [rest_factor(volume(ms)) for ms in (0, 20, 499)] == [0, 0, 0]
    factors = [rest_factor(volume(ms)) for ms in (600, 1000, 2000, 60_000)]
    assert factors == pytest.approx([0.4, 2, 6, FACTOR_MAX])
    assert rest_factor(volume(5, "suspect")) == FACTOR_MAX


def test_a_volume_rests_after_each_read_and_the_others_do_not() -> None:
    ration = Ration(never)
    ration.heed(said(volume(1000), volume(10, volume_id=OTHER)))
    ration.spent([ONE, OTHER], 0.1, 50.0)
    assert ration.rest_s([ONE], 50.0) == pytest.approx(0.2)
    assert ration.rest_s([OTHER], 50.0) == 0
    assert ration.rest_s([OTHER, ONE], 50.1) == pytest.approx(0.1)
    ration.spent([ONE], 0.1, 50.0)
    assert ration.rest_s([ONE], 50.0) == pytest.approx(0.4), "what several readers took adds up"
    for _ in range(100):
        ration.spent([ONE], 1.0, 50.0)
    assert ration.rest_s([ONE], 50.0) == REST_S_MAX, "nobody waits longer"


@pytest.mark.parametrize("status", [None, said(volume(9000), age_s=60), said(volume(10))])
def test_no_rest_beside_a_recorder_that_is_silent_or_well(status: RecorderStatus | None) -> None:
    ration = Ration(never)
    ration.heed(said(volume(9000)))
    ration.spent([ONE], 1.0, 50.0)
    ration.heed(status)
    ration.spent([ONE], 1.0, 50.0)
    assert ration.rest_s([ONE], 50.0) == 0


def test_volumes_of_lanes() -> None:
    assert volumes_of(ONE) == (ONE,)
    assert set(volumes_of(frozenset((ONE, OTHER)))) == {ONE, OTHER}
    assert volumes_of(("pictures", ONE)) == (ONE,)
    assert volumes_of("index") == ()


async def test_threads_ask_the_disk_last() -> None:
    get = {"x86_64": 252, "aarch64": 31}.get(platform.machine())
    if get is None:
        pytest.skip("no number for ioprio_get known on this machine")
    workers = Workers(1)
    assert await workers.run("disk", lambda: ctypes.CDLL(None).syscall(get, 1, 0)) == LAST
    workers.close()
    assert ctypes.CDLL(None).syscall(get, 1, threading.get_native_id()) != LAST, "the event loop's thread as before"


async def test_a_clip_is_whole_beside_a_recorder_in_distress(start_node: StartNode, recording: Recording) -> None:
    node = await start_node(recording)
    query = {"start": format_time(T0), "end": format_time(T0 + 34 * US)}
    calm = await (await node.get("/api/v1/streams/gate.main/clip.mp4", params=query)).read()
    tell_status(node, volumes=[volume(1200, volume_id=recording.volume.id)])
    node.context.ration.heed(node.context.recorder_status())
    node.context.laid.drop(("gate.main", T0, T0 + 34 * US, "all"))
    for _ in range(3):
        late = await (await node.get("/api/v1/streams/gate.main/clip.mp4", params=query)).read()
        assert late == calm
    assert node.context.ration.rested_s > 0
    assert "keyreel_read_rest_seconds" in await (await node.get("/metrics")).text()
