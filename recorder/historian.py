"""Writes this recorder process's part of the node's history, from what it tells of itself once a second.

Kept true: a thread of its own does all of it, so a data folder whose disk hangs or is full costs history alone; what it
could not take in is left out. A stream's attempts to come back are one condition, so a camera that is away for a week
is one row.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from pathlib import Path
from typing import Final

import structlog

from base.history import Batch, Condition, HistoryWriter, Reading, StateRow, VolumeReading, merged
from base.status import RecorderStatus, StreamStatus, VolumeStatus
from base.units import US
from recorder.overload import WORD

WAITING_MAX: Final = 8  # reports that wait for the disk; more are left out
FINE_S: Final = 10
COARSE_S: Final = 300
PASSING_US: Final = 10 * US  # being called, or waiting for a key frame, is a condition only when it lasts
JOIN_S: Final = 2.0
RETRIES_TOLD: Final = 60
_NEVER: Final = StateRow(0, "", "")

log = structlog.get_logger("recorder.history")


def condition(stream: StreamStatus, now_us: int, last: str) -> tuple[Condition, str] | None:
    """What a stream's state means over days, after its `last` condition; None for what passes by."""
    match stream.state:
        case "recording":
            return "recording", stream.reason
        case "standby":
            return "standby", stream.reason
        case "backing-off":
            return "offline", stream.reason
        case "waiting" if stream.reason == WORD:
            return "paused", stream.reason
        case "waiting" if stream.reason or now_us - stream.since_us >= PASSING_US:
            return "waiting", stream.reason
        case "connecting" if last != "offline" and now_us - stream.since_us >= PASSING_US:
            return "offline", "connecting"
    return None


class Slot:
    """The ten seconds going on: counters at its beginning, and the most that was seen in it."""

    def __init__(self, status: RecorderStatus) -> None:
        self.time_s = status.updated_us // US // FINE_S * FINE_S
        self._began_us = status.updated_us
        self._media = {stream.name: stream.media_bytes for stream in status.streams}
        self._dropped = {stream.name: stream.dropped_gops for stream in status.streams}
        self._written = {volume.id: volume.written_bytes for volume in status.volumes}
        self._lag_ms = 0.0
        self._syncs: dict[str, float] = {}
        self._queues: dict[str, int] = {}

    def see(self, status: RecorderStatus) -> None:
        """Take in one report."""
        self._lag_ms = max(self._lag_ms, status.loop_lag_ms)
        for volume in status.volumes:
            self._syncs[volume.id] = max(self._syncs.get(volume.id, 0.0), volume.last_sync_ms)
            self._queues[volume.id] = max(self._queues.get(volume.id, 0), volume.queue_bytes)

    def over(self, status: RecorderStatus) -> bool:
        """Whether a report is of other ten seconds."""
        return not 0 <= status.updated_us - self.time_s * US < FINE_S * US

    def reading(self, status: RecorderStatus) -> Reading | None:
        """What it was, up to this report; None when no time has passed, or the clock stepped."""
        seconds = (status.updated_us - self._began_us) / US
        if not 0 < seconds <= 6 * FINE_S:
            return None
        media = sum(_grown(self._media.get(stream.name, 0), stream.media_bytes) for stream in status.streams)
        dropped = sum(_grown(self._dropped.get(stream.name, 0), stream.dropped_gops) for stream in status.streams)
        return Reading(
            round(seconds, 3),
            round(media / seconds, 1),
            sum(stream.state == "recording" for stream in status.streams),
            dropped,
            self._lag_ms,
            {volume.id: self._volume(volume, seconds) for volume in status.volumes},
        )

    def _volume(self, volume: VolumeStatus, seconds: float) -> VolumeReading:
        written = _grown(self._written.get(volume.id, 0), volume.written_bytes)
        return VolumeReading(
            round(written / seconds, 1),
            self._syncs.get(volume.id, 0.0),
            self._queues.get(volume.id, 0),
            volume.free_bytes,
        )


def _grown(before: int, now: int) -> int:
    """A counter's growth; one that begins anew has grown from nothing."""
    return now - before if now >= before else now


class Chronicle:
    """Reports in, batches out; knows nothing of threads and files."""

    def __init__(self, worker: int, states: dict[str, StateRow], lived_us: int) -> None:
        self._worker = worker
        self._states = states
        self._lived_us = lived_us  # until then the process before this one wrote
        self._mine: set[str] = set()
        self._slot: Slot | None = None

    def take(self, status: RecorderStatus) -> Batch:
        """What this report adds."""
        batch = Batch()
        self._take_states(status, batch)
        slot = self._slot
        if slot is not None and slot.over(status):
            if (reading := slot.reading(status)) is not None:
                batch.readings.append((FINE_S, slot.time_s, self._worker, reading))
            slot = None
        self._slot = slot = slot or Slot(status)
        slot.see(status)
        return batch

    def _take_states(self, status: RecorderStatus, batch: Batch) -> None:
        now_us = status.updated_us
        names = {stream.name for stream in status.streams}
        for name in self._mine - names:
            self._enter(batch, name, now_us, "removed", "")
        for stream in status.streams:
            if stream.name not in self._mine:
                self._after_a_crash(batch, stream.name)
            last = self._states.get(stream.name, _NEVER)
            if (told := condition(stream, now_us, last.state)) is not None:
                time_us = stream.since_us if stream.since_us > last.time_us else now_us
                self._enter(batch, stream.name, time_us, *told)
        self._mine = names

    def _after_a_crash(self, batch: Batch, name: str) -> None:
        """Who ended in order has said so of each stream; of one that did not, the readings say until when."""
        last = self._states.get(name)
        if last is not None and last.state not in ("down", "removed") and self._lived_us > last.time_us:
            self._enter(batch, name, self._lived_us, "down", "crash")

    def end(self, now_us: int) -> Batch:
        """The process ends in order."""
        batch = Batch()
        for name in self._mine:
            self._enter(batch, name, now_us, "down", "stopped")
        return batch

    def _enter(self, batch: Batch, name: str, time_us: int, state: Condition, reason: str) -> None:
        last = self._states.get(name, _NEVER)
        if (last.state, last.reason) == (state, reason):
            return
        row = StateRow(time_us, state, reason)
        self._states[name] = row
        batch.states.append((name, row))


class Historian:
    """The thread; `take` and `end` are called from the event loop and wait for nothing."""

    def __init__(self, path: Path, worker: int) -> None:
        self._path = path
        self._worker = worker
        self._reports: queue.Queue[RecorderStatus | None] = queue.Queue(WAITING_MAX)
        self._failures = 0
        self._begun = False
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._writer: HistoryWriter | None = None
        self._chronicle: Chronicle | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def take(self, status: RecorderStatus) -> None:
        """One report; left out while the disk does not take the ones before."""
        with contextlib.suppress(queue.Full):
            self._reports.put_nowait(status)

    def end(self) -> None:
        """The process ends in order; a disk that hangs is waited for only a moment. Not on the event loop."""
        with contextlib.suppress(queue.Full):
            self._reports.put(None, timeout=JOIN_S)
        self._thread.join(JOIN_S)

    def _work(self) -> None:
        now_us = 0
        while (status := self._reports.get()) is not None:
            now_us = status.updated_us
            self._guarded(status, now_us)
        self._guarded(None, now_us)
        if self._writer is not None:
            self._writer.close()

    def _guarded(self, status: RecorderStatus | None, now_us: int) -> None:
        """What fails is begun anew with the next report: memory may know of rows that the file does not have."""
        try:
            self._write(status, now_us)
            self._failures = 0
        except (sqlite3.Error, OSError) as error:
            if self._failures % RETRIES_TOLD == 0:
                log.error("history cannot be written; recording goes on", path=str(self._path), error=str(error))
            self._failures += 1
            self._writer, self._chronicle = None, None

    def _write(self, status: RecorderStatus | None, now_us: int) -> None:
        if self._writer is None or self._chronicle is None:
            if status is None:
                return
            self._writer = HistoryWriter(self._path, self._worker)
            lived_us = 0 if self._begun else self._writer.last_reading_us()  # else that was this process
            self._chronicle = Chronicle(self._worker, self._writer.last_states(), lived_us)
            self._begun = True
        batch = self._chronicle.take(status) if status is not None else self._chronicle.end(now_us)
        if batch.readings or batch.states:
            self._writer.add(batch, now_us)
        for _, time_s, _, _ in batch.readings:
            self._close_coarse(self._writer, time_s // COARSE_S * COARSE_S, now_us)

    def _close_coarse(self, writer: HistoryWriter, time_s: int, now_us: int) -> None:
        """The five minutes that the newest ten seconds lie in, as far as they have come."""
        fine = writer.readings(FINE_S, time_s, time_s + COARSE_S)
        writer.add(Batch(readings=[(COARSE_S, time_s, self._worker, merged(fine))]), now_us)
