"""The node's figures of the last hour and day, and streams' comings and goings.

Kept true: both come from the history file, which nothing depends on: without it the answer is empty; what all workers
told of one moment is one figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from base.clock import wall_us
from base.history import ROWS_MAX, STEPS, Reading, StateRow, VolumeReading, read_figures, read_states
from base.units import US, format_time
from playback.calls import Ask, NoQuery, time_asked
from playback.schema_upkeep import (
    Figures,
    HistoryQuery,
    HistoryView,
    StatesBody,
    StatesQuery,
    StatesView,
    StateView,
    StreamStates,
    VolumeHistory,
)

HISTORY_LANE: Final = "history"
WEEK_US: Final = 7 * 86_400 * US
_STEP_S: Final = {"hour": 10, "day": 300}


async def history(ask: Ask[HistoryQuery, None]) -> HistoryView:
    """GET /history."""
    now_us = wall_us()
    status = ask.context.recorder_status()
    paths = {volume.id: volume.path for volume in status.volumes} if status is not None else {}
    step_s, path = _STEP_S[ask.query.span], ask.context.history_path
    return await ask.context.workers.run(HISTORY_LANE, lambda: _history(path, step_s, now_us, paths), threads=2)


def _history(path: Path, step_s: int, now_us: int, paths: dict[str, str]) -> HistoryView:
    count = STEPS[step_s]
    start_s = now_us // US // step_s * step_s - (count - 1) * step_s
    told = read_figures(path, step_s, start_s)
    slots = [told.get(start_s + i * step_s, []) for i in range(count)]
    known = dict.fromkeys([*paths, *(name for slot in slots for reading in slot for name in reading.volumes)])
    return HistoryView(
        now=format_time(now_us),
        start=format_time(start_s * US),
        step_s=step_s,
        count=count,
        ingest_bytes_s=_line(slots, sum, lambda reading: reading.ingest_bytes_s),
        streams=_line(slots, sum, lambda reading: reading.streams),
        dropped_gops=_line(slots, sum, lambda reading: reading.dropped_gops),
        loop_lag_ms=_line(slots, max, lambda reading: reading.loop_lag_ms),
        volumes=[_volume(name, paths.get(name, ""), slots) for name in known],
    )


def _volume(name: str, path: str, slots: Sequence[Sequence[Reading]]) -> VolumeHistory:
    there = [[reading.volumes[name] for reading in slot if name in reading.volumes] for slot in slots]

    def line(together: Callable[[list[float]], float], figure: Callable[[VolumeReading], float]) -> Figures:
        return [round(together([figure(one) for one in slot]), 3) if slot else None for slot in there]

    return VolumeHistory(
        id=name,
        path=path,
        write_bytes_s=line(sum, lambda one: one.write_bytes_s),
        sync_ms=line(max, lambda one: one.sync_ms),
        queue_bytes=line(sum, lambda one: one.queue_bytes),
        free_bytes=line(lambda several: several[-1], lambda one: one.free_bytes),
    )


def _line(
    slots: Sequence[Sequence[Reading]], together: Callable[[list[float]], float], figure: Callable[[Reading], float]
) -> Figures:
    return [round(together([figure(reading) for reading in slot]), 3) if slot else None for slot in slots]


async def stream_states(ask: Ask[StatesQuery, None]) -> StatesView:
    """GET /streams/{id}/states; a stream that nobody knows has none."""
    return await _states(ask, [ask.id], ask.query.start)


async def states(ask: Ask[NoQuery, StatesBody]) -> StatesView:
    """POST /states."""
    return await _states(ask, ask.body.streams, ask.body.start)


async def _states(
    ask: Ask[StatesQuery, None] | Ask[NoQuery, StatesBody], names: list[str], start: str | None
) -> StatesView:
    now_us = wall_us()
    start_us = time_asked(start, "start") if start is not None else now_us - WEEK_US
    path = ask.context.history_path
    found = await ask.context.workers.run(HISTORY_LANE, lambda: read_states(path, names, start_us), threads=2)
    return StatesView(
        start=format_time(start_us), end=format_time(now_us), streams=[_stream(name, found[name]) for name in names]
    )


def _stream(name: str, rows: list[StateRow]) -> StreamStates:
    is_full = len(rows) >= ROWS_MAX
    return StreamStates(
        stream=name,
        whole_from=format_time(rows[0].time_us) if is_full else None,
        states=[StateView(format_time(row.time_us), row.state, row.reason) for row in rows],
    )
