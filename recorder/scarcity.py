"""How scarce room is on each volume, as the worker that deletes tells the others, so that all give way by one measure.

Kept true: the event loop waits for nothing here; a word that is not renewed for `HEARD_S` counts no more, as where
nobody says that room is scarce the volume itself does when it is full.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from base.status import status_path
from recorder.slot import Slot

LISTEN_S: Final = 0.5  # the word itself is renewed once a second
HEARD_S: Final = 10.0  # a worker that crashed speaks again within some seconds


class _Volume(msgspec.Struct):
    id: str
    scarcity: float = 0.0


class _Word(msgspec.Struct):
    """What is needed of the first worker's status file; the rest is passed over."""

    updated_us: int
    volumes: list[_Volume] = []


class Listener:
    """Tells this worker's writers what the first worker says, in a thread of its own."""

    def __init__(self, run_path: Path) -> None:
        self._path = status_path(run_path, 0)
        self._slots: Mapping[bytes, Slot] = {}
        self._said_us = 0
        self._heard_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scarcity", daemon=True)

    def start(self) -> None:
        """Start listening; volumes come with `follow`."""
        self._thread.start()

    def follow(self, slots: Mapping[bytes, Slot]) -> None:
        """The volumes as they are now."""
        self._slots = dict(slots)

    def end(self) -> None:
        """Listen no more; a disk that hangs is not waited for."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(LISTEN_S):
            self.listen(time.monotonic())

    def listen(self, now_s: float) -> None:
        """One look at the file."""
        word = _Word(self._said_us)
        with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            word = msgspec.json.decode(self._path.read_bytes(), type=_Word)
        if word.updated_us != self._said_us:
            self._said_us, self._heard_s = word.updated_us, now_s
        told = {volume.id: volume.scarcity for volume in word.volumes}
        if now_s - self._heard_s > HEARD_S:
            told = {}
        elif not word.volumes:  # the file is being made anew
            return
        for slot in self._slots.values():
            if slot.writer is not None:
                slot.writer.scarcity = told.get(slot.id.hex(), 0.0)
