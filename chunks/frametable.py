"""A chunk's frame table as numpy columns.

Kept true: row i of the fragment columns belongs to one fragment, ascending by offset; its pictures are rows
[video_first, video_first + video_count) of the picture columns, their bytes lie one after another from video_at on;
audio likewise. A table never changes once made.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from base.errors import DamageError
from native.table import FRAGMENT_COLUMNS, decode


@dataclass(frozen=True, eq=False)
class FrameTable:
    """Per fragment, per picture and per audio frame; times are the chunk's own (tfdt 0 is the head's origin_90k)."""

    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    head_length: NDArray[np.int64]  # bytes before the media: prft, moof, mdat header
    number: NDArray[np.int64]
    key: NDArray[np.bool_]
    wall_us: NDArray[np.int64]
    end_us: NDArray[np.int64]
    camera_us: NDArray[np.int64]  # camera's own time of the first picture, 0 unknown
    gap_start_us: NDArray[np.int64]
    gap_end_us: NDArray[np.int64]
    gap_packets: NDArray[np.int64]
    gap_cause: NDArray[np.int64]
    incomplete_units: NDArray[np.int64]
    lost_packets: NDArray[np.int64]
    media_bytes: NDArray[np.int64]
    tfdt_90k: NDArray[np.int64]
    audio_tfdt: NDArray[np.int64]
    video_at: NDArray[np.int64]
    video_first: NDArray[np.int64]
    video_count: NDArray[np.int64]
    audio_at: NDArray[np.int64]
    audio_first: NDArray[np.int64]
    audio_count: NDArray[np.int64]
    video_size: NDArray[np.uint32]  # per picture; dts and cts in 90 kHz
    video_dts: NDArray[np.int64]
    video_cts: NDArray[np.int32]
    video_key: NDArray[np.bool_]
    audio_size: NDArray[np.uint32]
    audio_dts: NDArray[np.int64]

    @classmethod
    def from_records(cls, records: bytes) -> FrameTable:
        """Decode table records; DamageError when one contradicts itself."""
        try:
            columns, size, dts, cts, key, audio_size, audio_dts = decode(records)
        except ValueError as error:
            raise DamageError(str(error), reason="table") from None
        named = dict(zip(FRAGMENT_COLUMNS, columns, strict=True))
        named["key"] = named["key"] != 0
        return cls(
            **named,
            video_size=size,
            video_dts=dts,
            video_cts=cts,
            video_key=key,
            audio_size=audio_size,
            audio_dts=audio_dts,
        )

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def nbytes(self) -> int:
        """Memory of all columns."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))

    @property
    def end(self) -> int:
        """File offset after the last fragment; 0 when there is none."""
        return int(self.offset[-1] + self.length[-1]) if len(self.offset) else 0

    def joined(self, later: FrameTable) -> FrameTable:
        """This table and the fragments after it."""
        columns = {
            field.name: np.concatenate((getattr(self, field.name), getattr(later, field.name)))
            for field in fields(self)
        }
        columns["video_first"][len(self) :] += len(self.video_size)
        columns["audio_first"][len(self) :] += len(self.audio_size)
        return FrameTable(**columns)

    def first(self, fragments: int) -> FrameTable:
        """The first fragments only; columns are views."""
        if fragments >= len(self):
            return self
        pictures = int(self.video_first[fragments])
        frames = int(self.audio_first[fragments])
        columns = {}
        for field in fields(self):
            column = getattr(self, field.name)
            if field.name in ("audio_size", "audio_dts"):
                columns[field.name] = column[:frames]
            elif field.name in ("video_size", "video_dts", "video_cts", "video_key"):
                columns[field.name] = column[:pictures]
            else:
                columns[field.name] = column[:fragments]
        return FrameTable(**columns)
