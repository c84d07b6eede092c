"""Leases: what readers of this node have before them, so that no chunk goes from under a long clip.

    DATA/run/leases/<token>                            one per reading process, locked by it; the kernel lets go for it
    DATA/run/leases/<token>.<n>.<stream>.<start>.<end> one per clip: stream id and [start, end) in UTC µs, in the name

Kept true: a reader takes its lease before it asks the index what there is, so whoever takes chunks out of the index and
then looks at the leases sees everybody who may still have found them; leases of a dead process count for nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import secrets
import threading
from pathlib import Path
from typing import NamedTuple


class LeaseRow(NamedTuple):
    """A lease as others see it."""

    name: str
    stream_id: int
    start_us: int
    end_us: int


class Lease:
    """Held until `release`, or until nobody refers to it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def release(self) -> None:
        """Let go; a second time does nothing."""
        path, self._path = self._path, None
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()

    def __del__(self) -> None:
        self.release()


class Leases:
    """The leases of this process in one data folder. Safe to use from many threads."""

    def __init__(self, run_path: Path) -> None:
        self._folder = run_path / "leases"
        self._token = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._handle = -1

    def take(self, stream_id: int, start_us: int, end_us: int) -> Lease:
        """A lease of [start, end) of a stream; where none can be written, one that keeps nothing: it still plays."""
        name = f"{self._token}.{next(self._numbers)}.{stream_id}.{start_us}.{end_us}"
        path = self._folder / name
        try:
            with self._lock:
                if self._handle < 0:
                    self._handle = self._begin()
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640))
        except OSError:
            return Lease(None)
        return Lease(path)

    def _begin(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / f"{self._token}.new"  # locked before others can see it
        handle = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(fresh, self._folder / self._token)
        except OSError:
            os.close(handle)
            raise
        return handle

    def close(self) -> None:
        """Give back everything."""
        with self._lock:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1
                _sweep(self._folder, self._token)


def leases(run_path: Path) -> list[LeaseRow]:
    """All leases of living processes; those of dead ones are swept away."""
    folder = run_path / "leases"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    alive = {name: _alive(folder / name) for name in names if "." not in name}
    found = []
    for name in names:
        token, *rest = name.split(".")
        if len(rest) != 4:
            continue
        if token not in alive:
            alive[token] = _alive(folder / token)
        if not alive[token]:
            continue
        with contextlib.suppress(ValueError):
            _, stream_id, start_us, end_us = map(int, rest)
            found.append(LeaseRow(name, stream_id, start_us, end_us))
    for token in (token for token, is_alive in alive.items() if not is_alive):
        _sweep(folder, token)
    return found


def _alive(path: Path) -> bool:
    """Whether a process holds the lock; one that cannot be asked counts as alive."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


def _sweep(folder: Path, token: str) -> None:
    for name in os.listdir(folder):
        if name.split(".")[0] == token:
            with contextlib.suppress(OSError):
                (folder / name).unlink()
