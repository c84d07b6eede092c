"""Trick play: key frames alone, forward or backward, on a time line of their own that runs at 1×.

Kept true: each picture is shown for as long as its distance to the next one takes at the asked rate, within bounds, so
the player's time line never stands still nor floods it; absences are skipped; a picture is checked before it leaves.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from base.media import StreamConfig
from base.units import MEDIA_HZ, US
from clips.fmp4 import key_fragment, mime_type, served_init
from clips.position import key_fragment_of
from clips.store import ChunkStore
from index import ChunkRow, KeyFrame, Snapshot

RATE_MAX: Final = 1024.0
PICTURES_S_MAX: Final = 30.0
_SHOWN_S_MAX: Final = 1.0  # of one picture, over an absence too


class Step(NamedTuple):
    """A picture to show at `shown_90k` of the play line for `length_90k`, and where it lies."""

    key: KeyFrame
    row: ChunkRow
    shown_90k: int
    length_90k: int


class TrickPlay:
    """Walks a stream's key frames. `rate` is media seconds per second, negative for backward."""

    def __init__(self, stream_id: int, at_us: int, rate: float, pictures_s: float) -> None:
        self._stream_id = stream_id
        self._rate = rate
        self._stride_us = max(1, round(abs(rate) / pictures_s * US))
        self._least_90k = round(MEDIA_HZ / pictures_s)
        self._at_us = at_us
        self._next: KeyFrame | None = None
        self._begun = False
        self._shown_90k = 0

    def step(self, snapshot: Snapshot) -> Step | None:
        """The next picture; None at the end of the recording."""
        key = self._next if self._begun else snapshot.seek(self._stream_id, self._at_us)
        if key is None and not self._begun and self._rate > 0:
            key = snapshot.seek_next(self._stream_id, self._at_us)
        self._begun = True
        row = snapshot.chunk(self._stream_id, key.sequence) if key else None
        if key is None or row is None:
            return None
        self._next = self._after(snapshot, key.time_us)
        apart_us = abs(self._next.time_us - key.time_us) if self._next else 0
        length = round(min(max(apart_us / US / abs(self._rate), self._least_90k / MEDIA_HZ), _SHOWN_S_MAX) * MEDIA_HZ)
        made = Step(key, row, self._shown_90k, length)
        self._shown_90k += length
        return made

    def _after(self, snapshot: Snapshot, time_us: int) -> KeyFrame | None:
        """The key frame a stride away, in the direction of play."""
        if self._rate > 0:
            return snapshot.seek_next(self._stream_id, time_us + self._stride_us)
        return snapshot.seek(self._stream_id, time_us - self._stride_us)


def step_bytes(store: ChunkStore, stream_name: str, step: Step) -> bytes:
    """The fragment of one picture."""
    chunk = store.open(stream_name, step.row)
    return key_fragment(chunk, key_fragment_of(chunk, step.key), (step.shown_90k, step.length_90k))


def trick_init(config: StreamConfig) -> tuple[bytes, str]:
    """(init segment, MIME type) of the pictures alone."""
    pictures = StreamConfig(config.video)
    return served_init(pictures), mime_type(pictures)
