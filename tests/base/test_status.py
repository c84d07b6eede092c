"""The status file is whole or absent."""

from __future__ import annotations

from pathlib import Path

from base.status import RecorderStatus, StreamStatus, read_status, write_status


def test_what_is_written_is_read(tmp_path: Path) -> None:
    status = RecorderStatus(pid=1, started_us=2, updated_us=3, version="0")
    status.streams = [StreamStatus(name="gate.main", state="recording", frames=7)]
    write_status(tmp_path / "recorder.json", status)
    assert read_status(tmp_path / "recorder.json") == status


def test_absent_or_torn_is_none(tmp_path: Path) -> None:
    assert read_status(tmp_path / "recorder.json") is None
    (tmp_path / "recorder.json").write_text('{"pid": 1')
    assert read_status(tmp_path / "recorder.json") is None
