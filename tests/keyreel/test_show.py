"""What `keyreel status` says in words of a recorder and its index."""

from __future__ import annotations

from pathlib import Path

from base.clock import wall_us
from base.datadir import DataDir
from base.status import RecorderStatus, read_status, write_status
from keyreel.show import index_lines, live_status, processes_text, silent_since_us


def word(age_s: float = 0.0, **more: int | float) -> RecorderStatus:
    at_us = wall_us() - round(age_s * 1e6)
    return RecorderStatus(pid=7, started_us=at_us, updated_us=at_us, version="1", **more)  # type: ignore[arg-type]


def test_an_index_that_keeps_up_is_worth_no_word() -> None:
    assert index_lines(None) == index_lines(word(index_backlog_records=50, index_hung_s=0.4)) == []


def test_an_index_that_hangs_or_is_behind_is_told() -> None:
    hung, behind = index_lines(word(index_hung_s=12.4, index_backlog_records=9000, index_behind_chunks=3))
    assert "not answered for 12 s, 9000 records wait" in hung
    assert "3 chunks are behind" in behind


def test_a_recorder_that_has_the_folder_and_does_not_report_is_not_called_absent(tmp_path: Path) -> None:
    datadir = DataDir.create(tmp_path / "data")
    assert processes_text(None, silent_since_us(datadir)) == "not running"
    with datadir.lock():
        write_status(datadir.run_path, word(age_s=60))
        assert read_status(datadir.run_path) is not None
        assert live_status(datadir) is None
        assert "has not reported since 20" in processes_text(None, silent_since_us(datadir))
    assert processes_text(None, silent_since_us(datadir)) == "not running"
