"""The history file: bounded, shared, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from base.history import (
    _SCHEMA,
    FORMAT_VERSION,
    KEPT_US,
    ROWS_MAX,
    STEPS,
    Batch,
    HistoryWriter,
    Reading,
    StateRow,
    VolumeReading,
    history_path,
    merged,
    read_figures,
    read_states,
)
from base.units import US

PAGE = Path(__file__).parents[2] / "docs" / "format" / "history.md"
NOW_S = 1_772_328_600
NOW_US = NOW_S * US


def reading(rate: float = 1.0, seconds: float = 10.0, **volumes: VolumeReading) -> Reading:
    return Reading(seconds, ingest_bytes_s=rate, streams=3, dropped_gops=1, loop_lag_ms=rate, volumes=volumes)


def test_what_two_workers_write_is_read_together(tmp_path: Path) -> None:
    path = history_path(tmp_path)
    writers = [HistoryWriter(path, worker) for worker in (0, 1)]
    for worker, writer in enumerate(writers):
        writer.add(Batch(readings=[(10, NOW_S, worker, reading(worker + 1.0))]), NOW_US)
    assert [one.ingest_bytes_s for one in read_figures(path, 10, NOW_S)[NOW_S]] == [1.0, 2.0]
    assert read_figures(path, 10, NOW_S + 1) == {}
    assert [one.ingest_bytes_s for one in writers[1].readings(10, NOW_S, NOW_S + 10)] == [2.0]
    assert writers[0].last_reading_us() == NOW_US + 10 * US
    for writer in writers:
        writer.close()
    assert len(read_figures(path, 10, 0)[NOW_S]) == 2


@pytest.mark.parametrize(("step_s", "count"), STEPS.items())
def test_readings_are_bounded(tmp_path: Path, step_s: int, count: int) -> None:
    writer = HistoryWriter(history_path(tmp_path), 0)
    for i in range(count + 50):
        at_s = NOW_S + i * step_s
        writer.add(Batch(readings=[(step_s, at_s, 0, reading())]), at_s * US)
    assert count <= len(read_figures(history_path(tmp_path), step_s, 0)) <= count + 2


def test_states_are_bounded_and_the_one_that_holds_is_never_lost(tmp_path: Path) -> None:
    path = history_path(tmp_path)
    writer = HistoryWriter(path, 0)
    old = NOW_US - 2 * KEPT_US
    writer.add(
        Batch(states=[("calm", StateRow(old, "offline", "x")), ("calm", StateRow(old + 1, "recording", ""))]), NOW_US
    )
    flaps = [("wild", StateRow(NOW_US + i, "recording" if i % 2 else "offline", "")) for i in range(ROWS_MAX + 70)]
    writer.add(Batch(states=flaps), NOW_US)
    assert read_states(path, ["calm"], 0)["calm"] == [StateRow(old + 1, "recording", "")]
    wild = read_states(path, ["wild"], 0)["wild"]
    assert len(wild) == ROWS_MAX
    assert wild[-1] == flaps[-1][1]
    assert writer.last_states() == {"calm": StateRow(old + 1, "recording", ""), "wild": flaps[-1][1]}


def test_a_range_begins_with_the_condition_that_held(tmp_path: Path) -> None:
    path = history_path(tmp_path)
    rows = [StateRow(NOW_US + i * 1000, state, "") for i, state in enumerate(("recording", "offline", "recording"))]
    HistoryWriter(path, 0).add(Batch(states=[("a", row) for row in rows]), NOW_US)
    assert read_states(path, ["a", "b"], NOW_US + 1500) == {"a": rows[1:], "b": []}
    assert read_states(path, ["a"], NOW_US + 1000) == {"a": rows[1:]}
    assert read_states(path, ["a"], NOW_US - 1) == {"a": rows}
    assert read_states(path, ["a"], NOW_US + 10_000) == {"a": rows[2:]}


def test_a_mean_is_over_time_and_a_peak_stays_one() -> None:
    calm, busy = VolumeReading(10.0, 1.0, 5, 100), VolumeReading(40.0, 9.0, 7, 90)
    whole = merged([reading(1.0, 20.0, a=calm), reading(4.0, 10.0, a=busy, b=calm)])
    assert (whole.seconds, whole.ingest_bytes_s, whole.dropped_gops, whole.loop_lag_ms) == (30.0, 2.0, 2, 4.0)
    assert whole.volumes == {"a": VolumeReading(20.0, 9.0, 7, 90), "b": calm}
    assert merged([]).seconds == 0


def test_a_damaged_file_is_moved_aside_and_readers_find_nothing(tmp_path: Path) -> None:
    path = history_path(tmp_path)
    assert read_figures(path, 10, 0) == {}
    assert read_states(path, ["a"], 0) == {"a": []}
    path.write_bytes(b"no database at all" * 1000)
    assert read_figures(path, 10, 0) == {}
    writer = HistoryWriter(path, 0)
    writer.add(Batch(readings=[(10, NOW_S, 0, reading())]), NOW_US)
    assert len(read_figures(path, 10, 0)) == 1
    assert path.with_name("history.sqlite.bad").read_bytes().startswith(b"no database")


def test_damage_inside_is_found_when_it_is_opened(tmp_path: Path) -> None:
    path = history_path(tmp_path)
    writer = HistoryWriter(path, 0)
    rows = [(f"cam{i}.main", StateRow(NOW_US, "recording", "")) for i in range(1000)]
    writer.add(Batch(states=rows), NOW_US)
    writer.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * (size - 4 * 4096))
    HistoryWriter(path, 0).close()
    assert path.with_name("history.sqlite.bad").stat().st_size == size
    assert read_states(path, ["cam1.main"], 0) == {"cam1.main": []}


def test_the_page_is_the_codes() -> None:
    text = PAGE.read_text()
    assert f"# History, format {FORMAT_VERSION}\n" in text
    assert f"```sql{_SCHEMA}```" in text
    for name in Reading.__struct_fields__:
        assert f"| `{name}` |" in text
    assert "Of 10 s {} are kept, of 300 s {}.".format(*STEPS.values()) in text
    assert f"{ROWS_MAX} rows of a stream are kept" in text
