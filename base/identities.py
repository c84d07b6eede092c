"""What each stream's camera said of itself when it was first met, so that another device at its address is noticed.

    DATA/identities.json   {"<stream>": {"place": "<address without user>", "told": {"certificate": "…", "realm": "…"}}}

Kept true: asking touches memory alone; the file is read and replaced under a lock, by any number of processes; a file
that cannot be read means that all cameras are met for the first time. Each value is cut at `VALUE_CHARACTERS_MAX`.

It is a hint, not a proof: a certificate is a key, the others are words that any device can say.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from base.datadir import replace_synced

VALUE_CHARACTERS_MAX: Final = 200
_SHOWN_CHARACTERS: Final = 40


class Identity(msgspec.Struct, frozen=True):
    """`told` is what the device at `place` said: certificate, realm, server, name, as far as it did."""

    place: str
    told: dict[str, str] = {}


class Identities:
    """The streams' identities; `judge` on the event loop, `follow` in a thread."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "identities.json"
        self._known: dict[str, Identity] = {}
        self._fresh: dict[str, Identity] = {}  # not in the file yet
        self._stamp = (0, 0, 0)

    def judge(self, stream: str, place: str, told: Mapping[str, str]) -> str:
        """Empty when the device is the one known at this place, or is met for the first time; else what differs."""
        now = {what: value[:VALUE_CHARACTERS_MAX] for what, value in told.items() if value}
        known = self._known.get(stream)
        if known is None or known.place != place:
            known = Identity(place)
        differs = [
            f"{what} {_shown(value)} became {_shown(now.get(what, ''))}"
            for what, value in known.told.items()
            if now.get(what) != value
        ]
        learnt = Identity(place, now | known.told)
        if learnt != known or stream not in self._known:
            self._known[stream] = self._fresh[stream] = learnt
        return "; ".join(differs)

    def follow(self) -> bool:
        """Save what was learnt, take in what others changed; True when the latter was the case."""
        stamp = self._stat()
        if not self._fresh and stamp == self._stamp:
            return False
        with locked(self._path):
            stored = _read(self._path)
            fresh, self._fresh = self._fresh, {}
            if fresh:
                _write(self._path, stored | fresh)
            changed = stamp != self._stamp and stored.keys() != (self._known.keys() - fresh.keys())
            self._known = stored | fresh | self._fresh
            self._stamp = self._stat()
        return changed

    def _stat(self) -> tuple[int, int, int]:
        """Other after each replacement, also of two within one tick of the file system's clock."""
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0, 0
        return found.st_mtime_ns, found.st_ino, found.st_size


def forget(folder: Path, streams: Iterable[str]) -> list[str]:
    """The next device that answers for these streams is taken for theirs; those that were known."""
    path = folder / "identities.json"
    with locked(path):
        known = _read(path)
        gone = [name for name in streams if known.pop(name, None) is not None]
        if gone:
            _write(path, known)
    return gone


def _shown(value: str) -> str:
    return repr(value[:_SHOWN_CHARACTERS]) if value else "(none)"


def _read(path: Path) -> dict[str, Identity]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Identity])
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return {}


def _write(path: Path, known: dict[str, Identity]) -> None:
    replace_synced(path, msgspec.json.format(msgspec.json.encode(dict(sorted(known.items())))))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file of the data folder, against other processes and threads."""
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
