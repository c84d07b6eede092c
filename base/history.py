"""What a node was like over the last day, and when each stream came and went; `docs/format/history.md`.

Kept true: it is bounded, by `STEPS` and `ROWS_MAX`; any number of recorder processes write it, and readers wait for
none of them; it is needed for nothing, so a file that cannot be read is moved aside and begun anew. It is not in the
index, as that is made again from chunk files, which do not hold this.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from base.units import US

FORMAT_VERSION: Final = 1
STEPS: Final = {10: 360, 300: 288}  # seconds of a reading → how many are kept: an hour, and a day
ROWS_MAX: Final = 500  # of one stream's conditions
KEPT_US: Final = 30 * 86_400 * US  # older conditions go, but for each stream's newest
BUSY_S: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS reading (step_s INTEGER, time_s INTEGER, worker INTEGER, data BLOB NOT NULL,
  PRIMARY KEY (step_s, time_s, worker));
CREATE TABLE IF NOT EXISTS state (stream TEXT, time_us INTEGER, state TEXT NOT NULL, reason TEXT NOT NULL,
  PRIMARY KEY (stream, time_us)) WITHOUT ROWID;
"""

Condition = Literal["recording", "standby", "waiting", "offline", "paused", "removed", "down"]


class VolumeReading(msgspec.Struct, array_like=True):
    """A volume, as one worker wrote to it; `sync_ms` and `queue_bytes` are the most that was seen."""

    write_bytes_s: float = 0.0
    sync_ms: float = 0.0
    queue_bytes: int = 0
    free_bytes: int = 0


class Reading(msgspec.Struct):
    """One worker over `seconds`; `loop_lag_ms` is the most that was seen, `streams` the number recorded at the end."""

    seconds: float
    ingest_bytes_s: float = 0.0
    streams: int = 0
    dropped_gops: int = 0
    loop_lag_ms: float = 0.0
    volumes: dict[str, VolumeReading] = {}


class StateRow(NamedTuple):
    """A stream's condition from a moment on."""

    time_us: int
    state: str
    reason: str


@dataclass(slots=True)
class Batch:
    """What one commit adds."""

    readings: list[tuple[int, int, int, Reading]] = field(default_factory=list)  # (step_s, time_s, worker, reading)
    states: list[tuple[str, StateRow]] = field(default_factory=list)


def history_path(folder: Path) -> Path:
    """Where it lies in a data folder."""
    return folder / "history.sqlite"


def merged(readings: Sequence[Reading]) -> Reading:
    """Readings of one worker that follow one another, as one: means by time, the most, sums, and what was last."""
    seconds = sum(one.seconds for one in readings)
    whole = Reading(seconds)
    if not readings or seconds <= 0:
        return whole
    whole.ingest_bytes_s = sum(one.ingest_bytes_s * one.seconds for one in readings) / seconds
    whole.streams = readings[-1].streams
    whole.dropped_gops = sum(one.dropped_gops for one in readings)
    whole.loop_lag_ms = max(one.loop_lag_ms for one in readings)
    for name in dict.fromkeys(name for one in readings for name in one.volumes):
        there = [(one.seconds, one.volumes[name]) for one in readings if name in one.volumes]
        whole.volumes[name] = VolumeReading(
            sum(seconds * one.write_bytes_s for seconds, one in there) / max(sum(s for s, _ in there), 1e-9),
            max(one.sync_ms for _, one in there),
            max(one.queue_bytes for _, one in there),
            there[-1][1].free_bytes,
        )
    return whole


class HistoryWriter:
    """One recorder process's hand in it; every call may wait for the disk and raise `sqlite3.Error`."""

    def __init__(self, path: Path, worker: int) -> None:
        self._worker = worker
        self._db = _opened(path)

    def last_states(self) -> dict[str, StateRow]:
        """The newest condition of every stream."""
        rows = self._db.execute(
            "SELECT stream, time_us, state, reason FROM state s WHERE time_us = "
            "(SELECT max(time_us) FROM state WHERE stream = s.stream)"
        )
        return {stream: StateRow(*rest) for stream, *rest in rows}

    def last_reading_us(self) -> int:
        """The end of this worker's newest reading: until then it lived; 0 when there is none."""
        found = self._db.execute(
            "SELECT max(time_s + step_s) FROM reading WHERE worker = ? AND step_s = 10", (self._worker,)
        )
        return int(found.fetchone()[0] or 0) * US

    def readings(self, step_s: int, start_s: int, end_s: int) -> list[Reading]:
        """This worker's own, oldest first."""
        rows = self._db.execute(
            "SELECT data FROM reading WHERE step_s = ? AND time_s >= ? AND time_s < ? AND worker = ? ORDER BY time_s",
            (step_s, start_s, end_s, self._worker),
        )
        return [msgspec.json.decode(data, type=Reading) for (data,) in rows]

    def add(self, batch: Batch, now_us: int) -> None:
        """Commit a batch, and let go what is beyond the bounds."""
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO reading VALUES (?, ?, ?, ?)",
                [(step_s, at_s, worker, msgspec.json.encode(one)) for step_s, at_s, worker, one in batch.readings],
            )
            for step_s in {step_s for step_s, *_ in batch.readings}:
                oldest_s = now_us // US - (STEPS[step_s] + 1) * step_s
                self._db.execute("DELETE FROM reading WHERE step_s = ? AND time_s < ?", (step_s, oldest_s))
            self._db.executemany(
                "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)", [(name, *row) for name, row in batch.states]
            )
            self._trim({name for name, _ in batch.states}, now_us)

    def _trim(self, streams: Iterable[str], now_us: int) -> None:
        self._db.executemany(
            "DELETE FROM state WHERE stream = :name AND (time_us < :old OR time_us < (SELECT time_us FROM state "
            "WHERE stream = :name ORDER BY time_us DESC LIMIT 1 OFFSET :most)) "
            "AND time_us < (SELECT max(time_us) FROM state WHERE stream = :name)",
            [{"name": name, "old": now_us - KEPT_US, "most": ROWS_MAX - 1} for name in streams],
        )

    def close(self) -> None:
        """Let it go."""
        self._db.close()


def _opened(path: Path) -> sqlite3.Connection:
    """The file for writing; one that is damaged, or of another version, is moved aside."""
    try:
        return _open(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # a lock, a full disk: the file is not to blame
            raise
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{end}", f"{path}{end}.bad")
        return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # a power cut costs the newest rows, never the file
        if (
            db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok"
        ):  # what failed a write is found when it is reopened
            raise sqlite3.DatabaseError("history is damaged")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, FORMAT_VERSION):
            raise sqlite3.DatabaseError(f"history format {version} is not known")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        db.commit()
    except BaseException:
        db.close()
        raise
    return db


# -- for readers ------------------------------------------------------------------------------------------------------


def read_figures(path: Path, step_s: int, start_s: int) -> dict[int, list[Reading]]:
    """Readings from `start_s` on, of all workers, by their time; none when there is no history."""
    found: dict[int, list[Reading]] = {}
    query = "SELECT time_s, data FROM reading WHERE step_s = ? AND time_s >= ? ORDER BY time_s, worker"
    for time_s, data in _rows(path, query, (step_s, start_s)):
        with contextlib.suppress(msgspec.DecodeError):
            found.setdefault(time_s, []).append(msgspec.json.decode(data, type=Reading))
    return found


def read_states(path: Path, streams: Iterable[str], start_us: int) -> dict[str, list[StateRow]]:
    """Conditions that held at `start_us` or began later, oldest first, by stream."""
    query = (
        "SELECT time_us, state, reason FROM state WHERE stream = :name AND time_us >= coalesce("
        "(SELECT max(time_us) FROM state WHERE stream = :name AND time_us <= :start), :start) ORDER BY time_us"
    )
    with _reader(path) as db:
        if db is None:
            return {name: [] for name in streams}
        return {
            name: [StateRow(*row) for row in db.execute(query, {"name": name, "start": start_us})] for name in streams
        }


def _rows(path: Path, query: str, values: tuple[int, ...]) -> list[tuple[int, bytes]]:
    with _reader(path) as db:
        return [] if db is None else db.execute(query, values).fetchall()


@contextlib.contextmanager
def _reader(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection that only reads; None when there is nothing that can be read."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] != FORMAT_VERSION:
                raise sqlite3.DatabaseError
            yield db
    except sqlite3.Error:
        yield None
