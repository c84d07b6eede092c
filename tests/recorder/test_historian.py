"""From reports to history."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from base.history import Batch, history_path, read_figures, read_states
from base.status import RecorderStatus, StreamStatus, VolumeStatus
from base.units import US
from recorder.historian import Chronicle, Historian

NOW_US = 1_772_328_600 * US  # begins ten seconds


def report(at_s: float, *streams: StreamStatus, written: int = 0, **volume: Any) -> RecorderStatus:
    status = RecorderStatus(
        pid=1, started_us=NOW_US, updated_us=NOW_US + round(at_s * US), version="", loop_lag_ms=at_s
    )
    status.streams = list(streams)
    status.volumes = [VolumeStatus(id="aa", path="/a", state="ok", written_bytes=written, **volume)]
    return status


def stream(
    state: Any, since_s: float, reason: str = "", media: int = 0, dropped: int = 0, name: str = "a"
) -> StreamStatus:
    since_us = NOW_US + round(since_s * US)
    return StreamStatus(
        name=name, state=state, reason=reason, since_us=since_us, media_bytes=media, dropped_gops=dropped
    )


def states(*batches: Batch) -> list[tuple[float, str, str]]:
    return [((row.time_us - NOW_US) / US, row.state, row.reason) for batch in batches for _, row in batch.states]


def test_an_absence_is_one_condition_however_often_the_camera_is_called() -> None:
    chronicle = Chronicle(0, {}, 0)
    told = [chronicle.take(report(0, stream("connecting", 0)))]
    told.append(chronicle.take(report(1, stream("waiting", 0.5))))
    told.append(chronicle.take(report(2, stream("recording", 1.5))))
    for i in range(50):
        told.append(chronicle.take(report(10 + 40 * i, stream("backing-off", 9 + 40 * i, "timeout"))))
        told.append(chronicle.take(report(42 + 40 * i, stream("connecting", 32 + 40 * i, "timeout"))))
        told.append(chronicle.take(report(48 + 40 * i, stream("waiting", 48 + 40 * i))))
    told.append(chronicle.take(report(3000, stream("recording", 2999.5))))
    assert states(*told) == [(1.5, "recording", ""), (9, "offline", "timeout"), (2999.5, "recording", "")]


def test_what_lasts_is_a_condition() -> None:
    chronicle = Chronicle(0, {}, 0)
    batches = [chronicle.take(report(at, stream("connecting", 0))) for at in (5, 10)]
    batches += [chronicle.take(report(at, stream("waiting", 20))) for at in (25, 31)]
    batches.append(chronicle.take(report(40, stream("waiting", 20, "overload"))))
    batches.append(chronicle.take(report(50, stream("recording", 45, "identity-changed"))))
    batches.append(chronicle.take(report(60, stream("recording", 45))))
    batches.append(chronicle.take(report(70)))
    assert states(*batches) == [
        (0, "offline", "connecting"), (20, "waiting", ""), (40, "paused", "overload"),
        (45, "recording", "identity-changed"), (60, "recording", ""), (70, "removed", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("ended", [True, False])
def test_a_recorder_that_was_away_is_told(ended: bool) -> None:
    before = Chronicle(0, {}, 0)
    first = before.take(report(0, stream("recording", 0)))
    known = {
        name: row for batch in (first, before.end(NOW_US + 5 * US) if ended else Batch()) for name, row in batch.states
    }
    assert known["a"].state == ("down" if ended else "recording")
    after = Chronicle(0, known, NOW_US + 8 * US)
    told = states(after.take(report(100, stream("recording", 99))))
    assert told == ([] if ended else [(8, "down", "crash")]) + [(99, "recording", "")]


def test_ten_seconds_are_one_reading() -> None:
    chronicle = Chronicle(3, {}, 0)
    chronicle.take(report(0, stream("recording", 0, media=1000), written=50, last_sync_ms=5.0))
    chronicle.take(report(5, stream("recording", 0, media=2000), written=70, last_sync_ms=90.0, queue_bytes=7))
    other = stream("recording", 0, media=500, name="b", dropped=2)
    batch = chronicle.take(report(10, stream("recording", 0, media=1500, dropped=1), other, written=150, free_bytes=9))
    [(step_s, time_s, worker, reading)] = batch.readings
    assert (step_s, time_s * US, worker) == (10, NOW_US, 3)
    assert (reading.seconds, reading.ingest_bytes_s, reading.streams, reading.dropped_gops) == (10, 100.0, 2, 3)
    assert reading.loop_lag_ms == 5
    assert reading.volumes["aa"].write_bytes_s == 10.0
    assert (reading.volumes["aa"].sync_ms, reading.volumes["aa"].queue_bytes, reading.volumes["aa"].free_bytes) == (
        90,
        7,
        9,
    )


def test_a_step_of_the_clock_makes_no_reading_of_hours() -> None:
    chronicle = Chronicle(0, {}, 0)
    chronicle.take(report(0))
    assert chronicle.take(report(7200)).readings == []
    assert chronicle.take(report(-50)).readings == []


def test_the_thread_writes_what_readers_find(tmp_path: Path) -> None:
    path = history_path(tmp_path)
    historian = Historian(path, 0)
    historian.start()
    for at in (0, 10, 20):
        historian.take(report(at, stream("recording", 0, media=100 * at)))
    historian.end()
    assert [row.state for row in read_states(path, ["a"], 0)["a"]] == ["recording", "down"]
    assert len(read_figures(path, 10, 0)) == 2
    [coarse] = read_figures(path, 300, 0).values()
    assert (coarse[0].seconds, coarse[0].ingest_bytes_s) == (20, 100.0)


def test_a_history_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    path = history_path(tmp_path / "absent")
    historian = Historian(path, 0)
    historian.start()
    historian.take(report(0, stream("recording", 0)))
    deadline = time.monotonic() + 20
    while not historian._failures and time.monotonic() < deadline:
        time.sleep(0.01)
    path.parent.mkdir()
    historian.take(report(11, stream("recording", 0)))
    historian.end()
    assert [row.state for row in read_states(path, ["a"], 0)["a"]] == ["recording", "down"]
