"""Retention in a recorder process: a thread per volume that deletes, and one that looks at rates.

Kept true: the event loop waits for none of them; one volume's hang stops no other's deletions; one process of a node
deletes, the others look at rates and hear from it how scarce room is.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

import structlog

from base.config import Config
from base.datadir import DataDir
from base.errors import KeyreelError
from base.status import StreamStatus, VolumeStatus
from chunks.writer import VolumeWriter
from index import Index
from recorder.committer import Committer
from recorder.forecast import Outlook, outlook
from recorder.keeper import Keeper, TrustedClock
from recorder.purge import Purged, Purger
from recorder.scarcity import Listener
from recorder.slot import Slot

FACTS_S: Final = 10.0  # one look at 2,000 streams takes 70 ms
END_WAIT_S: Final = 2.0

log = structlog.get_logger("recorder.retention")


class Retention:
    """Started and ticked by the recorder's event loop."""

    def __init__(
        self,
        index: Index,
        committer: Committer,
        config: Config,
        datadir: DataDir,
        clock: TrustedClock,
        *,
        deletes: bool = True,
    ) -> None:
        self.keeper = Keeper(index, committer, config, datadir, clock)
        self._purgers: dict[bytes, Purger] = {}
        self._ahead: dict[bytes, Outlook] = {}
        self._listener = None if deletes else Listener(datadir.run_path)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Start looking; volumes come with `follow`."""
        self._thread.start()
        if self._listener is not None:
            self._listener.start()

    def follow(self, slots: Mapping[bytes, Slot]) -> None:
        """Take up volumes that are new, let go those that left, and wake those that just filled up."""
        if self._listener is not None:
            self._listener.follow(slots)
            return
        for volume_id, slot in slots.items():
            purger = self._purgers.get(volume_id)
            if purger is None or purger.slot is not slot:
                if purger is not None:
                    purger.end()
                self._purgers[volume_id] = Purger(slot, self.keeper)
                self._purgers[volume_id].start()
            elif slot.reason == "enospc":
                purger.wake.set()
        for volume_id in [volume_id for volume_id in self._purgers if volume_id not in slots]:
            self._purgers.pop(volume_id).end()

    def describe(self, slot: Slot, status: VolumeStatus) -> None:
        """Add to a volume's status what is stored there, how long there is room, and how deleting goes."""
        purger = self._purgers.get(slot.id)
        told = purger.told if purger is not None else Purged()
        keeper = self.keeper
        ahead = outlook(keeper.facts, slot.id, slot.free_bytes, told.floor_bytes)
        self._ahead[slot.id] = ahead
        status.floor_bytes = told.floor_bytes
        status.stored_bytes = keeper.facts.stored(slot.id)
        status.held_bytes = keeper.facts.held_on(slot.id)
        status.ingest_bytes_s = round(keeper.facts.rate_on(slot.id), 1)
        status.days_left, status.days_kept, status.days_held = map(_days, ahead)
        status.streams_short = keeper.streams_short(slot.id, ahead.days_kept)
        status.short_bytes = told.short_bytes
        status.scarcity = slot.writer.scarcity if slot.writer is not None else 0.0
        status.deleting_paused, status.deleting_detail = told.paused, told.detail
        status.condemned_chunks = told.waiting
        status.deleted_chunks, status.deleted_bytes = told.deleted_chunks, told.deleted_bytes

    def describe_stream(self, stream_id: int, writer: VolumeWriter | None, status: StreamStatus) -> None:
        """Add to a stream's status what is stored of it, and how long its volume has room."""
        keeper = self.keeper
        status.stored_bytes, status.held_bytes, rate = keeper.facts.of_stream(stream_id)
        status.stored_bytes_s = round(rate, 1)
        ahead = self._ahead.get(writer.volume.id) if writer is not None else None
        if ahead is not None:
            status.days_left, status.days_kept, _ = map(_days, ahead)
            days_max = keeper.limits(status.name)[0].days_max
            if days_max and status.days_kept is not None:
                status.days_kept = min(status.days_kept, days_max)

    def end(self) -> None:
        """Delete no more; what is condemned waits for the next start."""
        self._ended.set()
        if self._listener is not None:
            self._listener.end()
        for purger in self._purgers.values():
            purger.end()
        for purger in self._purgers.values():
            purger.end(END_WAIT_S)
        if self._thread.is_alive():
            self._thread.join(END_WAIT_S)
        self.keeper.log.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.keeper.refresh()
            except KeyreelError as error:
                log.error("rates cannot be looked at; it is tried again", error=str(error))
            except Exception:
                log.exception("looking at rates failed unexpectedly")
            self._ended.wait(FACTS_S)


def _days(days: float | None) -> float | None:
    return None if days is None else round(days, 3)
