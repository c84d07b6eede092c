"""One volume's place in this node: opened, watched, given up when it fails, taken back when it is itself again.

Kept true: whatever may block on the volume's disk is done in the slot's own thread, so a hung disk holds that thread
and nothing else; a directory takes chunks only while its identity file says it is the volume known there, and only
after a probe was written and synced; what is read from other threads is replaced whole.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from base.clock import wall_us
from base.errors import KeyreelError, VolumeError
from base.status import VolumeState
from chunks.volume import Volume
from chunks.writer import REASONS, OpenChunk, VolumeWriter

WATCH_S: Final = 0.5  # between two looks at a volume
HUNG_S: Final = 3.0  # a disk that has not answered for so long is suspect
QUARANTINED_S: Final = 60.0  # and after so long it counts as failed
RETRY_MIN_S: Final = 2.0  # after an error that repeats, as a sick disk's do
RETRY_MAX_S: Final = 60.0
STEADY_S: Final = 300.0  # a volume that worked for so long begins again at the shortest wait
ROOM_BYTES: Final = 256 << 20  # a full volume is back when so much is free, or a twentieth of it
PROBE_NAME: Final = ".keyreel-probe"
_SOON: Final = frozenset(
    {"missing", "enospc", "readonly", "limit", "opening"}
)  # seen at once when mended, and cheap to ask

log = structlog.get_logger("recorder.volumes")

Settle = Callable[[Volume, Mapping[Path, int]], None]  # (volume, chunk → bytes of it that were told)


class Slot:
    """A volume this node records to, or would if it were there."""

    def __init__(
        self,
        volume_id: bytes,
        path: Path,
        *,
        make_writer: Callable[[Volume, Callable[[VolumeError, list[OpenChunk]], None]], VolumeWriter],
        settle: Settle,
        on_failed: Callable[[VolumeWriter, Exception], None],
        draining: bool = False,
        probe: str = PROBE_NAME,
    ) -> None:
        self.id = volume_id
        self.path = path
        self.draining = draining
        self.writer: VolumeWriter | None = None
        self.reason = "opening"
        self.detail = ""
        self.since_us = wall_us()
        self._since_s = time.monotonic()
        self.free_bytes = 0
        self.total_bytes = 0
        self.answered = threading.Event()  # set when the first look has told something
        self._make_writer = make_writer
        self._settle = settle
        self._on_failed = on_failed
        self._probe = path / probe  # a name of this process's own
        self._cuts: dict[Path, int] = {}  # of the failed writer's chunks: bytes that were told
        self._place = (0, 0)  # device and inode of the directory that was opened
        self._asked_s = 0.0
        self._retry_s = 0.0
        self._wait_s = RETRY_MIN_S
        self._opened_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watch {path}", daemon=True)

    # -- from any thread ----------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """It takes new chunks."""
        return not self.reason and not self.draining

    @property
    def state(self) -> VolumeState:
        """The published state."""
        if self.reason == "hung" and time.monotonic() - self._since_s < QUARANTINED_S:
            return "suspect"
        if self.reason:
            return "quarantined"
        return "draining" if self.draining else "ok"

    def start(self) -> None:
        """Start the thread, which opens the volume."""
        self._thread.start()

    def end(self) -> None:
        """Watch no more; a thread that hangs is left behind."""
        self._ended.set()

    def leave(self) -> None:
        """The volume is this node's no more: its streams go elsewhere, with what it had not made durable."""
        self.end()
        if self.writer is not None and self.writer.error is None:
            self.writer.refuse(VolumeError(f"{self.path} was removed from this node", reason="missing"))

    def hung_s(self, now_s: float) -> float:
        """For how long the disk has not answered."""
        writer = self.writer
        since = [self._asked_s, writer.busy_since_s if writer is not None and writer.error is None else 0.0]
        return max((now_s - at_s for at_s in since if at_s), default=0.0)

    def look_after(self, now_s: float, elsewhere: bool) -> None:
        """The watchdog, called from the event loop: a disk that hangs is suspect, and its streams leave if they can."""
        if self.hung_s(now_s) < HUNG_S:
            if self.reason == "hung" and self.writer is not None and self.writer.error is None:
                self._enter("", "")
            return
        where = "its streams go on elsewhere" if elsewhere else "no other volume takes its streams, so they wait"
        text = f"{self.path} has not answered for {HUNG_S:.0f} s; {where}; check the disk"
        if not self.reason:
            self._enter("hung", text)
        if elsewhere and self.writer is not None:
            self.writer.abandon(VolumeError(text, reason="hung"))

    def _enter(self, reason: str, detail: str) -> None:
        if reason != self.reason:
            self.since_us, self._since_s = wall_us(), time.monotonic()
            if reason:
                log.error("volume takes no media", volume=str(self.path), reason=reason, detail=detail)
            else:
                log.info("volume takes media", volume=str(self.path))
        self.reason, self.detail = reason, detail

    def _failed(self, error: VolumeError, chunks: list[OpenChunk]) -> None:
        """Of the writer: in its thread, or in the event loop's when it was given up."""
        self._cuts.update({chunk.path: chunk.durable_size for chunk in chunks})
        steady = time.monotonic() - self._opened_s > STEADY_S
        self._wait_s = RETRY_MIN_S if steady else min(self._wait_s * 2, RETRY_MAX_S)
        self._retry_s = time.monotonic() + (WATCH_S if error.reason in _SOON else self._wait_s)
        self._enter(error.reason, str(error))
        if self.writer is not None:
            self._on_failed(self.writer, error)

    # -- the thread's own ---------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                self._look()
            except (KeyreelError, OSError) as error:
                self._refuse(error)
            except Exception as error:  # a fault of ours must not end the watch in silence
                log.exception("a volume's watch failed unexpectedly", volume=str(self.path))
                self._refuse(VolumeError(f"{self.path}: {error!r}"))
            self._asked_s = 0.0
            self.answered.set()
            self._ended.wait(WATCH_S)

    def _look(self) -> None:
        writer = self.writer
        if writer is not None and writer.error is None:
            self._asked_s = time.monotonic()
            if not self._verify(writer):
                return
        elif time.monotonic() >= self._retry_s:
            self._open(writer)
        self._measure()

    def _refuse(self, error: Exception) -> None:
        reason = _reason(error)
        if reason not in _SOON:
            self._retry_s = time.monotonic() + self._wait_s
            self._wait_s = min(self._wait_s * 2, RETRY_MAX_S)
        if self.writer is None or self.writer.error is not None:
            self._enter(reason, str(error))

    def _verify(self, writer: VolumeWriter) -> bool:
        """The directory still is the volume, and is the one that was opened; else its writer is told to fail."""
        try:
            Volume.open(self.path, self.id)
            if _place(self.path) != self._place:
                raise VolumeError(f"{self.path} was mounted anew; it is taken back after a check", reason="missing")
        except (KeyreelError, OSError) as error:
            if (
                _reason(error) == "limit"
            ):  # of this process: says nothing of the volume, and its writer has what it needs
                return True
            writer.refuse(VolumeError(str(error), reason=_reason(error)))
            return False
        return True

    def _open(self, old: VolumeWriter | None) -> None:
        """Take the volume, or take it back: identity, room, a synced probe, then what was left on it."""
        if old is not None and old.alive:
            raise VolumeError(f"{self.path}: a write still hangs; check the disk", reason="hung")
        self._asked_s = time.monotonic()
        volume = Volume.open(self.path, self.id)
        self._measure()
        if self.reason == "enospc" and self.free_bytes < min(ROOM_BYTES, self.total_bytes // 20):
            raise VolumeError(f"{self.path} is full; free space on it or add a volume", reason="enospc")
        _probe(self._probe)
        self._place = _place(self.path)
        self._asked_s = 0.0
        self._settle(volume, dict(self._cuts))
        self._cuts.clear()
        writer = self._make_writer(volume, self._failed)
        self.writer = writer
        self._opened_s = time.monotonic()
        self._enter("", "")
        writer.start()

    def _measure(self) -> None:
        self._asked_s = time.monotonic()
        stats = os.statvfs(self.path)
        self.free_bytes = stats.f_bavail * stats.f_frsize
        self.total_bytes = stats.f_blocks * stats.f_frsize
        self._asked_s = 0.0


def _reason(error: Exception) -> str:
    if isinstance(error, KeyreelError):
        return error.reason
    return REASONS.get(error.errno or 0, "eio") if isinstance(error, OSError) else "fault"


def _place(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _probe(probe: Path) -> None:
    """Write, sync and remove one small file: what a full, read-only or sick disk refuses."""
    try:
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            os.write(handle, bytes(4096))
            os.fsync(handle)
        finally:
            os.close(handle)
            with contextlib.suppress(OSError):
                probe.unlink()
    except OSError as error:
        text = f"{probe.parent} takes no writes ({error.strerror}); check its disk"
        raise VolumeError(text, reason=_reason(error)) from None
