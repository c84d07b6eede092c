"""Live views: one follower per watched stream, any number of viewers.

Kept true: a stream is read at its end once, however many watch it, and not at all when nobody does; what waits for one
viewer is bounded in bytes, and a viewer who cannot keep up goes on at the next key frame; every viewer gets an init
segment before the fragments it belongs to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from base.errors import KeyreelError
from base.log import get_logger
from clips.live import LivePart, LiveTail
from playback.context import Context
from playback.lanes import lane_of, newest_chunk
from playback.problems import Problem

POLL_S: Final = 0.1
_LOG: Final = get_logger()
WAITING_BYTES_MAX: Final = 16 << 20  # of one viewer


class Viewer:
    """What waits for one viewer. `skipped` counts fragments left out since the last one taken."""

    def __init__(self, bytes_max: int = WAITING_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._parts: deque[LivePart] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._until_key = False
        self._end: Exception | None = None
        self.skipped = 0

    def offer(self, part: LivePart) -> None:
        """Queue a part, or leave it out until the next key frame when too much waits."""
        if self._until_key and not (part.is_init or part.key):
            self.skipped += 1
            return
        if part.key:
            self._until_key = False
        if self._bytes + len(part.data) > self._bytes_max and self._parts:
            self._give_up()
            if not (part.is_init or part.key):
                self.skipped += 1
                return
            self._until_key = not part.key
        self._parts.append(part)
        self._bytes += len(part.data)
        self._wake.set()

    def end(self, error: Exception | None = None) -> None:
        """No more parts will come."""
        self._end = error or EOFError()
        self._wake.set()

    async def take(self) -> LivePart:
        """The next part; raises what `end` was given when there is none left, EOFError without an error."""
        while not self._parts:
            if self._end is not None:
                raise self._end
            self._wake.clear()
            await self._wake.wait()
        part = self._parts.popleft()
        self._bytes -= len(part.data)
        return part

    def _give_up(self) -> None:
        """Drop what waits, but for the newest init segment."""
        kept = [part for part in self._parts if part.is_init][-1:]
        self.skipped += len(self._parts) - len(kept)
        self._parts = deque(kept)
        self._bytes = sum(len(part.data) for part in kept)
        self._until_key = True


class Follower:
    """Reads one stream's end and tells its viewers."""

    def __init__(self, context: Context, stream_id: int) -> None:
        self._context = context
        self._stream_id = stream_id
        self._tail = LiveTail(context.index, context.store, stream_id)
        self._viewers: set[Viewer] = set()
        self._joining: list[Viewer] = []
        self._joined = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def add(self, viewer: Viewer) -> None:
        """Tell this viewer too, from the last key frame on."""
        self._joining.append(viewer)
        self._joined.set()

    def remove(self, viewer: Viewer) -> bool:
        """Forget a viewer; whether nobody is left."""
        self._viewers.discard(viewer)
        if viewer in self._joining:
            self._joining.remove(viewer)
        return not (self._viewers or self._joining)

    def stop(self) -> None:
        """End the reading and every view."""
        self._task.cancel()
        self._end(None)

    async def _run(self) -> None:
        try:
            while True:
                await self._poll()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._joined.wait(), POLL_S)
        except (KeyreelError, Problem) as error:
            self._end(error)
        except Exception as error:
            _LOG.error("a live view ended unexpectedly", stream_id=self._stream_id, exc_info=error)
            self._end(error)

    async def _poll(self) -> None:
        """Read what is new. Who joined gets the backlog, which ends with what was just read."""
        lane = await self._context.read(lambda snapshot: lane_of(newest_chunk(snapshot, self._stream_id)))
        self._joined.clear()
        parts = await self._context.workers.run(("live", lane), self._tail.poll)
        for viewer in self._viewers:
            for part in parts:
                viewer.offer(part)
        if self._joining and (backlog := self._tail.backlog()):
            for viewer in self._joining:
                for part in backlog:
                    viewer.offer(part)
            self._viewers.update(self._joining)
            self._joining.clear()

    def _end(self, error: Exception | None) -> None:
        for viewer in (*self._viewers, *self._joining):
            viewer.end(error)


class Followers:
    """The streams being watched."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._followers: dict[int, Follower] = {}

    @contextmanager
    def view(self, stream_id: int) -> Iterator[Viewer]:
        """A viewer of the stream for the length of the block."""
        follower = self._followers.get(stream_id)
        if follower is None:
            follower = self._followers[stream_id] = Follower(self._context, stream_id)
        viewer = Viewer()
        follower.add(viewer)
        try:
            yield viewer
        finally:
            if follower.remove(viewer):
                follower.stop()
                if self._followers.get(stream_id) is follower:
                    del self._followers[stream_id]

    def stop(self) -> None:
        """End every view."""
        for follower in self._followers.values():
            follower.stop()
