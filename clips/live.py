"""The end of a growing chunk, read as it grows: init segments and fragments for live viewers.

Kept true: what a viewer gets begins with an init segment and a key frame and goes on without a hole inside a run; it is
what the file holds, checked like any read, and may be newer than the watermark; one tail serves any number of viewers
and keeps at most one GOP and BACKLOG_BYTES_MAX.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from base.errors import KeyreelError, NotFound
from clips.fmp4 import FragmentServer, derived_tracks, mime_type, served_init
from clips.store import ChunkStore, OpenChunk
from index import ChunkRow, Index

BACKLOG_BYTES_MAX: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class LivePart:
    """One message for viewers. `mime` is set on init segments only; `media_90k` is the first decode time."""

    data: bytes
    wall_us: int
    media_90k: int
    key: bool = False
    mime: str = ""
    derived: tuple[str, ...] = ()  # tracks that are not the recorded ones but made from them

    @property
    def is_init(self) -> bool:
        """A new configuration or media clock begins; fragments follow."""
        return bool(self.mime)


class LiveTail:
    """Follows one stream. `poll` blocks on the disk: call it in a thread, from one place at a time."""

    def __init__(self, index: Index, store: ChunkStore, stream_id: int) -> None:
        self._index = index
        self._store = store
        self._stream_id = stream_id
        self._chunk: OpenChunk | None = None
        self._before: OpenChunk | None = None  # the chunk that this one goes on from
        self._server: FragmentServer | None = None
        self._next = 0  # fragment of the chunk to send next
        self._init: LivePart | None = None
        self._backlog: list[LivePart] = []
        self._lock = threading.Lock()

    def backlog(self) -> list[LivePart]:
        """What a new viewer gets first: the init segment and all since the last key frame."""
        with self._lock:
            return [self._init, *self._backlog] if self._init and self._backlog else []

    def poll(self) -> list[LivePart]:
        """All parts that have come since the last call, in order; empty when there is nothing new."""
        parts: list[LivePart] = []
        if self._chunk is None:
            parts += self._begin()
        while self._chunk is not None:
            parts += self._grown(self._chunk)
            if not self._chunk.file.sealed and not self._is_left(self._chunk.row):
                break
            parts += self._grown(self._chunk)  # what came before the seal
            row = self._after(self._chunk.row)
            if row is None:
                break
            parts += self._enter(row)
            self._next = 0
        self._remember(parts)
        return parts

    def _begin(self) -> list[LivePart]:
        """Enter the newest chunk at its last key frame, at its end if it has none."""
        with self._index.read() as snapshot:
            row = snapshot.last_chunk(self._stream_id)
        if row is None:
            return []
        parts = self._enter(row)
        assert self._chunk is not None
        table = self._chunk.file.refresh()
        keys = table.key.nonzero()[0]
        self._next = int(keys[-1]) if len(keys) else max(len(table) - 1, 0)
        return parts

    def _enter(self, row: ChunkRow) -> list[LivePart]:
        """Open a chunk; an init segment when its configuration or media clock is another."""
        before = self._chunk.row if self._chunk else None
        with self._index.read() as snapshot:
            stream = snapshot.stream_by_id(self._stream_id)
            if stream is None:
                raise NotFound(f"there is no stream {self._stream_id}; see the list of streams")
            config = snapshot.config(self._stream_id, row.epoch)
        left, self._chunk = self._chunk, self._store.open(stream.name, row)
        if before is not None and (before.epoch, before.run) == (row.epoch, row.run):
            self._before = left and OpenChunk(left.row, left.file, left.file.refresh())
            return []
        self._before, self._server = None, FragmentServer(config)
        derived = tuple(derived_tracks(config))
        return [LivePart(served_init(config), row.start_us, row.origin_90k, mime=mime_type(config), derived=derived)]

    def _grown(self, chunk: OpenChunk) -> list[LivePart]:
        """Fragments beyond the last one sent."""
        assert self._server is not None
        table = chunk.file.refresh()
        parts = []
        now = OpenChunk(chunk.row, chunk.file, table)
        while self._next < len(table):
            i = self._next
            self._next += 1
            try:
                data = self._server.fragment(now, i, self._before)
            except KeyreelError:  # damaged: go on at the next key frame
                keys = table.key[self._next :].nonzero()[0]
                self._next = self._next + int(keys[0]) if len(keys) else len(table)
                continue
            media_90k = int(table.tfdt_90k[i]) + chunk.row.origin_90k
            parts.append(LivePart(data, int(table.wall_us[i]), media_90k, bool(table.key[i])))
        return parts

    def _is_left(self, row: ChunkRow) -> bool:
        """A later chunk exists: the recorder left this one unsealed."""
        with self._index.read() as snapshot:
            last = snapshot.last_chunk(self._stream_id)
        return last is not None and last.sequence > row.sequence

    def _after(self, row: ChunkRow) -> ChunkRow | None:
        with self._index.read() as snapshot:
            last = snapshot.last_chunk(self._stream_id)
            if last is None or last.sequence <= row.sequence:
                return None
            following = (snapshot.chunk(self._stream_id, n) for n in range(row.sequence + 1, last.sequence + 1))
            return next((found for found in following if found is not None), None)

    def _remember(self, parts: list[LivePart]) -> None:
        with self._lock:
            for part in parts:
                if part.is_init:
                    self._init, self._backlog = part, []
                elif part.key:
                    self._backlog = [part]
                elif self._backlog:
                    self._backlog.append(part)
            if sum(len(part.data) for part in self._backlog) > BACKLOG_BYTES_MAX:
                self._backlog = []
