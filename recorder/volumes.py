"""The volumes this node records to: which of them takes the next chunk, and which does not answer.

Kept true: a missing, full or failing volume costs the others nothing and is taken back by itself; a stream stays on its
volume while that takes chunks and is not much fuller than another; nothing here waits for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from base.config import Config
from base.datadir import DataDir
from base.errors import KeyreelError, VolumeError
from chunks.records import StoredRecord
from chunks.volume import Volume
from chunks.writer import OpenChunk, VolumeWriter, Witness
from native.slab import configure
from recorder.share import WHOLE, Share
from recorder.slot import PROBE_NAME, Settle, Slot

OPEN_WAIT_S: Final = 3.0  # a start waits so long for its volumes; those that answer later join later
MOVE_FACTOR: Final = 2.0  # a stream moves when another volume is better by this
SLOW_SYNC_S: Final = 0.5  # syncs that take longer count against a volume


def wanted_volumes(datadir: DataDir, config: Config) -> dict[bytes, Path]:
    """Identity → directory of the volumes to record to: the configuration's, and those that the operator added."""
    volumes = datadir.volumes
    known = {path.resolve(): volume_id for volume_id, path in volumes.items()}
    paths = [Path(volume.path) for volume in config.volumes] or [datadir.media_path]
    configured = {known[path.resolve()]: path for path in paths if path.resolve() in known}
    added = {volume_id: volumes[volume_id] for volume_id in datadir.roles if volume_id in volumes}
    return {**added, **configured}


def all_volumes(datadir: DataDir, config: Config) -> dict[bytes, Path]:
    """Every volume this node ever recorded to: also one that takes no more chunks may hold torn ones."""
    return {**datadir.volumes, **wanted_volumes(datadir, config)}


def draining_volumes(datadir: DataDir, config: Config) -> frozenset[bytes]:
    """Those that take no new chunks: drained, or in the configuration no more."""
    wanted, roles = wanted_volumes(datadir, config), datadir.roles
    return frozenset(one for one in datadir.volumes if one not in wanted or roles.get(one) == "drain")


def present(wanted: Mapping[bytes, Path]) -> list[Volume]:
    """Those that are there and are themselves."""
    found = []
    for volume_id, path in wanted.items():
        with contextlib.suppress(KeyreelError):
            found.append(Volume.open(path, volume_id))
    return found


class Volumes:
    """The slots of all volumes, and the choice between them. Calls come from the event loop."""

    def __init__(
        self,
        volumes: Mapping[bytes, Path],
        draining: frozenset[bytes],
        config: Config,
        *,
        on_commit: Callable[[list[StoredRecord]], None],
        on_failed: Callable[[VolumeWriter, Exception], None],
        settle: Settle,
        share: Share = WHOLE,
        witness: Witness | None = None,
    ) -> None:
        self._witness = witness
        self._config = config.recorder
        self._share = share
        self._on_commit = on_commit
        self._on_failed = on_failed
        self._settle = settle
        self.slots = {volume_id: self._slot(volume_id, path) for volume_id, path in volumes.items()}
        for volume_id in draining:
            self.slots[volume_id].draining = True
        self._streams: dict[bytes, int] = {}
        self._bound_memory()

    def _slot(self, volume_id: bytes, path: Path) -> Slot:
        return Slot(
            volume_id, path, make_writer=self._writer, settle=self._settle, on_failed=self._on_failed,
            probe=f"{PROBE_NAME}-{self._share.worker}",
        )  # fmt: skip

    def _writer(self, volume: Volume, failed: Callable[[VolumeError, list[OpenChunk]], None]) -> VolumeWriter:
        return VolumeWriter(
            volume,
            on_commit=self._on_commit,
            on_failure=failed,
            sync_interval_s=self._config.sync_interval_ms / 1000,
            queue_bytes_max=self._config.queue_bytes_max,
            witness=self._witness,
        )

    async def start(self) -> None:
        """Open all volumes, each in its own thread; back when all have told something, or after OPEN_WAIT_S."""
        for slot in self.slots.values():
            slot.start()
        deadline_s = time.monotonic() + OPEN_WAIT_S
        while time.monotonic() < deadline_s and not all(slot.answered.is_set() for slot in self.slots.values()):
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        """Drain, sync and commit everything queued; then end the threads."""
        for slot in self.slots.values():
            slot.end()
        for slot in self.slots.values():
            if slot.writer is not None:
                slot.writer.stop()

    @property
    def complete(self) -> bool:
        """Every volume is there, so the names of all chunk files are known."""
        return all(not slot.reason for slot in self.slots.values())

    def answering(self) -> list[Volume]:
        """The volumes that are there and not in trouble."""
        return self._volumes("")

    def readable(self) -> list[Volume]:
        """The same and those that are full, as often as they come and go: what lies there can be read."""
        return self._volumes("", "enospc")

    def _volumes(self, *reasons: str) -> list[Volume]:
        slots = [slot for slot in self.slots.values() if slot.reason in reasons]
        return [slot.writer.volume for slot in slots if slot.writer is not None]

    @property
    def busy(self) -> bool:
        """A volume's writer lags behind: what can wait should."""
        limit = self._config.queue_bytes_max // 8
        writers = [slot.writer for slot in self.slots.values() if slot.writer is not None]
        return any(writer.error is None and writer.queue_bytes > limit for writer in writers)

    def follow(self, volumes: Mapping[bytes, Path], draining: frozenset[bytes]) -> None:
        """Take up what the operator added, drained or removed."""
        for volume_id, path in volumes.items():
            slot = self.slots.get(volume_id)
            if slot is None or slot.path != path:
                if slot is not None:
                    slot.leave()
                self.slots[volume_id] = self._slot(volume_id, path)
                self.slots[volume_id].start()
            self.slots[volume_id].draining = volume_id in draining
        for volume_id in [volume_id for volume_id in self.slots if volume_id not in volumes]:
            self.slots.pop(volume_id).leave()
        self._bound_memory()

    def _bound_memory(self) -> None:
        """All media in memory: what waits for each volume, what is kept for cameras that stand by, what is received."""
        config = self._config
        waiting = config.queue_bytes_max * max(len(self.slots), 1)
        configure(waiting + config.pre_record_bytes_max + config.receive_bytes_max)

    def tick(self) -> None:
        """The watchdog."""
        now_s = time.monotonic()
        for slot in self.slots.values():
            elsewhere = any(
                other.usable and other.hung_s(now_s) < 1 for other in self.slots.values() if other is not slot
            )
            slot.look_after(now_s, elsewhere)

    def count_streams(self, writers: list[VolumeWriter]) -> None:
        """The writer of each stream that records now."""
        counts: dict[bytes, int] = {}
        for writer in writers:
            counts[writer.volume.id] = counts.get(writer.volume.id, 0) + 1
        self._streams = counts

    def streams(self, slot: Slot) -> int:
        """How many streams record to it."""
        return self._streams.get(slot.id, 0)

    def pick(self, current: VolumeWriter | None = None) -> VolumeWriter | None:
        """The volume for a stream's next chunk; None when none takes any.

        A failed writer that still holds what is to be replayed keeps its stream until that was asked for.
        """
        if current is not None and current.error is not None and not current.given:
            return current
        usable = [slot for slot in self.slots.values() if slot.usable and _works(slot)]
        best = max(usable, key=self._score, default=None)
        if best is None or best.writer is None:
            return None
        mine = next((slot for slot in usable if slot.writer is current), None)
        if mine is not None and self._score(best) < MOVE_FACTOR * self._score(mine, leaving=True):
            return current
        if mine is not None:
            self._streams[mine.id] = self.streams(mine) - 1
        self._streams[best.id] = self.streams(best) + 1
        return best.writer

    def _score(self, slot: Slot, leaving: bool = False) -> float:
        """Free bytes per stream, less where syncs are slow or much waits for the disk."""
        writer = slot.writer
        assert writer is not None
        streams = self.streams(slot) + (not leaving)
        asked_s = writer.busy_since_s
        sync_s = max(writer.last_sync_s, time.monotonic() - asked_s if asked_s else 0.0)
        room = max(0.0, 1 - writer.queue_bytes / max(writer.queue_bytes_max, 1))
        return slot.free_bytes / max(streams, 1) / max(1.0, sync_s / SLOW_SYNC_S) * room


def _works(slot: Slot) -> bool:
    return slot.writer is not None and slot.writer.error is None
