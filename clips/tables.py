"""Sample tables of an MP4 track from numpy columns (ISO/IEC 14496-12 §8.6, §8.7), without a Python step per sample.

Kept true: what goes in comes out of any reader again: sizes, decode times, composition offsets, key frames, sample
entries and chunk offsets; everything is 64-bit where the box allows it. `co64` comes last, so the offsets can be
moved in place once the length of `moov` is known.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from chunks.boxes import full_box

Int64s = npt.NDArray[np.int64]
Column = npt.NDArray[Any]
DELTA_MAX: Final = (1 << 31) - 1  # readers may take a larger stts delta for a negative one


@dataclass(frozen=True, slots=True)
class TrackTable:
    """One track's samples in decode order and how they lie in the file.

    A file chunk is a run of samples stored one after another; `chunk_offset` counts from the start of the media data.
    """

    size: Column  # bytes per sample
    dts: Int64s  # ascending, from 0, in the track's timescale
    end: int  # decode time after the last sample
    chunk_offset: Int64s
    chunk_samples: Column  # samples per file chunk
    chunk_entry: Column  # sample description index of each file chunk, from 1
    cts: Column | None = None  # signed; None when presentation order is decode order
    key: Column | None = None  # None when every sample is a key


Parts = list[bytes | memoryview]


def sample_parts(table: TrackTable) -> Parts:
    """The boxes of `stbl` after `stsd`, to be joined once; their last 8 × file chunks bytes are the offsets."""
    parts = _stts(table)
    if table.cts is not None and bool(np.any(table.cts)):
        parts += _ctts(table.cts)
    if table.key is not None and not bool(np.all(table.key)):
        parts += _counted(b"stss", np.flatnonzero(table.key) + 1, ">u4")
    return [*parts, *_stsc(table), *_stsz(table.size), *_counted(b"co64", table.chunk_offset, ">u8")]


def sample_tables(table: TrackTable) -> bytes:
    """The same as bytes."""
    return b"".join(sample_parts(table))


def steps(dts: Int64s, end: int) -> Int64s:
    """How long each sample lasts. Not `np.diff`, which copies the whole column to put the end behind it."""
    lasts = np.empty(len(dts), np.int64)
    np.subtract(dts[1:], dts[:-1], out=lasts[:-1])
    lasts[-1:] = end - dts[-1:]
    return lasts


def run_lengths(values: Column) -> tuple[Int64s, Column]:
    """(counts, values) of the runs of equal neighbours."""
    if len(values) == 0:
        return np.zeros(0, np.int64), values
    starts = np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1))
    return np.diff(starts, append=len(values)), values[starts]


def _headed(kind: bytes, version: int, fixed: bytes, values: Column) -> Parts:
    """A full box of fixed fields and numbers, which are not copied."""
    data = values.data if values.size else memoryview(b"")
    return [struct.pack(">I4sI", 12 + len(fixed) + len(data), kind, version << 24), fixed, data]


def _counted(kind: bytes, values: Column, dtype: str) -> Parts:
    """A full box of an entry count and one number per entry."""
    return _headed(kind, 0, struct.pack(">I", len(values)), values.astype(dtype).view("u1"))


def _rows(kind: bytes, version: int, *columns: Column) -> Parts:
    """A full box of an entry count and rows of 32-bit columns."""
    rows = np.empty((len(columns[0]), len(columns)), ">u4")
    for i, column in enumerate(columns):
        rows[:, i] = column.astype(np.int64) & 0xFFFFFFFF
    return _headed(kind, version, struct.pack(">I", len(rows)), rows.ravel().view("u1"))


def _stts(table: TrackTable) -> Parts:
    return _rows(b"stts", 0, *run_lengths(steps(table.dts, table.end)))


def _ctts(cts: Column) -> Parts:
    """Version 1, whose offsets are signed."""
    return _rows(b"ctts", 1, *run_lengths(cts))


def _stsc(table: TrackTable) -> Parts:
    samples, entry = table.chunk_samples.astype(np.int64), table.chunk_entry.astype(np.int64)
    counts, both = run_lengths(samples << 32 | entry)
    first = np.concatenate(([0], np.cumsum(counts)[:-1])) + 1 if len(counts) else counts
    return _rows(b"stsc", 0, first, both >> 32, both & 0xFFFFFFFF)


def _stsz(size: Column) -> Parts:
    if len(size) and bool(np.all(size == size[0])):
        return [full_box(b"stsz", 0, 0, struct.pack(">II", int(size[0]), len(size)))]
    return _headed(b"stsz", 0, struct.pack(">II", 0, len(size)), size.astype(">u4").view("u1"))
