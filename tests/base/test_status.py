"""A status file is whole or absent; the words of all workers are read as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from base.status import (
    SILENT_US,
    ClockStatus,
    RecorderStatus,
    RecoveryStatus,
    ScrubStatus,
    StreamStatus,
    VolumeState,
    VolumeStatus,
    clear_status,
    read_status,
    status_path,
    together,
    write_status,
)

NOW_US = 1_800_000_000_000_000


def volume(state: VolumeState = "ok", reason: str = "", **figures: int) -> VolumeStatus:
    return VolumeStatus(id="aa", path="/mnt/a", state=state, reason=reason, **figures)


def word(
    worker: int, workers: int = 2, *, age_us: int = 0, frames: int = 7, volumes: list[VolumeStatus] | None = None
) -> RecorderStatus:
    return RecorderStatus(
        worker=worker, workers=workers, pid=100 + worker, started_us=NOW_US - worker, updated_us=NOW_US - age_us,
        version="1", loop_lag_ms=worker, index_commits=10, volumes=volumes or [],
        streams=[StreamStatus(name=f"cam{worker}.main", state="recording", frames=frames, bitrate_bps=5.0)],
    )  # fmt: skip


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_status(tmp_path, word(0, 1))
    status = read_status(tmp_path)
    assert status is not None
    assert (status.pid, status.started_us, status.updated_us, status.workers) == (100, NOW_US, NOW_US, 1)
    assert [(stream.name, stream.frames) for stream in status.streams] == [("cam0.main", 7)]
    assert (len(status.running), status.silent) == (1, [])


def test_what_all_workers_found_on_a_volume_is_one_report() -> None:
    told = [word(0), word(1)]
    for one, done in zip(told, (True, False), strict=True):
        one.recoveries = [RecoveryStatus(volume="aa", path="/mnt/a", since_us=NOW_US - one.worker, done=done, torn=2)]
    told[1].recoveries.append(RecoveryStatus(volume="bb", path="/mnt/b", done=True, cut_bytes=9))
    status = together(told)
    assert status is not None
    first, second = status.recoveries
    assert (first.since_us, first.done, first.torn, first.cut_bytes) == (NOW_US - 1, False, 4, 0)
    assert (second.volume, second.cut_bytes) == ("bb", 9)


def test_absent_or_torn_is_none(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    status_path(tmp_path, 0).write_text('{"pid": 1')
    assert read_status(tmp_path) is None


def test_all_workers_are_one_recorder(tmp_path: Path) -> None:
    write_status(tmp_path, word(1, age_us=900_000))
    write_status(tmp_path, word(0))
    status = read_status(tmp_path)
    assert status is not None
    assert [(one.worker, one.pid) for one in status.running] == [(0, 100), (1, 101)]
    assert (status.pid, status.workers, status.silent) == (100, 2, [])
    assert (status.updated_us, status.started_us) == (NOW_US, NOW_US - 1)
    assert (status.loop_lag_ms, status.index_commits) == (1.0, 20)
    assert [(stream.name, stream.state) for stream in status.streams] == [
        ("cam0.main", "recording"),
        ("cam1.main", "recording"),
    ]


def test_a_silent_worker_leaves_its_streams_unknown() -> None:
    status = together([word(0), word(1, age_us=SILENT_US)])
    assert status is not None
    assert (status.silent, [one.worker for one in status.running]) == ([1], [0])
    mine, other = status.streams
    assert (mine.state, mine.bitrate_bps) == ("recording", 5.0)
    assert (other.state, other.reason, other.bitrate_bps) == ("unknown", "recorder-silent", 0.0)
    assert other.frames == 7, "what it recorded is still true"
    assert "worker 1" in other.detail


def test_a_worker_that_never_spoke_is_silent() -> None:
    status = together([word(1)])
    assert status is not None
    assert (status.pid, status.silent) == (101, [0])


def test_a_recorder_that_stopped_is_told_as_it_was() -> None:
    status = together([word(0, age_us=10 * SILENT_US), word(1, age_us=10 * SILENT_US + 1)])
    assert status is not None
    assert (status.updated_us, status.silent) == (NOW_US - 10 * SILENT_US, [])


def test_files_of_another_number_of_workers_are_old(tmp_path: Path) -> None:
    for worker in range(3):
        write_status(tmp_path, word(worker, 3, age_us=SILENT_US // 2))
    write_status(tmp_path, word(0, 1))
    status = read_status(tmp_path)
    assert status is not None
    assert (status.workers, [one.pid for one in status.running], len(status.streams)) == (1, [100], 1)
    clear_status(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_volume_is_as_bad_as_the_worst_worker_finds_it() -> None:
    good = volume(streams=3, queue_bytes=10, written_bytes=100, syncs=5, free_bytes=9)
    bad = volume("quarantined", "eio", streams=1, queue_bytes=1, written_bytes=50, syncs=2)
    for words in ([good], [bad]), ([bad], [good]):
        status = together([word(0, volumes=words[0]), word(1, volumes=words[1])])
        assert status is not None
        [one] = status.volumes
        assert (one.state, one.reason) == ("quarantined", "eio")
        assert (one.streams, one.queue_bytes, one.written_bytes, one.syncs) == (4, 11, 150, 7)


def test_what_the_first_worker_does_for_all_is_told_as_it_tells_it() -> None:
    deleting, other = volume(deleted_chunks=5), volume("quarantined", "eio")
    deleting.scrub = ScrubStatus(running=True, known_damage=3)
    status = together([word(1, volumes=[other]), word(0, volumes=[deleting])])
    assert status is not None
    [one] = status.volumes
    assert (one.state, one.deleted_chunks) == ("quarantined", 5)
    assert one.scrub == deleting.scrub


@pytest.mark.parametrize("worse", ["draining", "suspect", "quarantined"])
def test_a_volume_is_ok_when_all_say_so(worse: VolumeState) -> None:
    status = together([word(0, volumes=[volume()]), word(1, volumes=[volume(worse)])])
    assert status is not None
    assert [one.state for one in status.volumes] == [worse]


def test_the_clock_is_trusted_when_all_trust_it() -> None:
    words = [word(0), word(1)]
    for one, trusted in zip(words, (True, False), strict=True):
        one.clock = ClockStatus(trusted=trusted)
    for order in (words, words[::-1]):
        status = together(order)
        assert status is not None
        assert status.clock == ClockStatus(trusted=False)
