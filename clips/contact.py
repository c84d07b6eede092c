"""A contact sheet: pictures spread evenly over a range, in one JPEG.

Kept true: each cell is a key frame from its own share of the range, or empty where nothing was recorded; one picture is
decoded at a time and kept only as its cell.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from base.errors import DamageError, NotFound
from base.units import US, format_time
from clips.picture import encode_jpeg, key_picture
from clips.store import ChunkStore
from index import KeyFrame, Snapshot

CELLS_MAX: Final = 100
_BEFORE_US: Final = 12 * US  # a share shorter than a GOP shows the key frame before it


class Sheet(NamedTuple):
    """The JPEG, its columns, and the time of each cell's picture; None for an empty one."""

    jpeg: bytes
    columns: int
    times_us: list[int | None]


def cells(snapshot: Snapshot, stream_id: int, start_us: int, end_us: int, count: int) -> list[KeyFrame | None]:
    """The key frame of each of `count` equal shares of a range."""
    found: list[KeyFrame | None] = []
    for i in range(count):
        from_us = start_us + (end_us - start_us) * i // count
        to_us = start_us + (end_us - start_us) * (i + 1) // count
        key = snapshot.seek_next(stream_id, from_us)
        if key is None or key.time_us >= to_us:
            key = snapshot.seek(stream_id, from_us)
            if key is not None and (key.time_us < from_us - _BEFORE_US or _is_absent(snapshot, stream_id, from_us)):
                key = None
        found.append(key)
    return found


def contact_sheet(
    snapshot: Snapshot, store: ChunkStore, stream_id: int, asked: tuple[int, int], count: int, columns: int, width: int
) -> Sheet:
    """`count` pictures of [start, end), each `width` pixels wide, left to right and down."""
    found = cells(snapshot, stream_id, *asked, count)
    if not any(found):
        raise NotFound(
            f"nothing is recorded from {format_time(asked[0])} to {format_time(asked[1])}; ask the timeline",
            reason="no-footage",
        )
    width &= ~1
    sheet: Any = None
    shown: list[int | None] = []
    for i, key in enumerate(found):
        try:
            frame = key_picture(snapshot, store, stream_id, key) if key else None
        except DamageError:  # an empty cell tells as much
            frame = None
        shown.append(key.time_us if key and frame is not None else None)
        if frame is None:
            continue
        if sheet is None:
            height = max(2, frame.height * width // frame.width & ~1)
            rows = -(-count // columns)
            sheet = [np.full((rows * height >> s, columns * width >> s), fill, np.uint8) for s, fill in _PLANES]
        _paste(sheet, frame.reformat(width=width, height=height, format="yuvj420p"), i // columns, i % columns)
    if sheet is None:
        raise DamageError("none of the key frames of this range can be decoded; ask for another one")
    return Sheet(_jpeg(sheet), columns, shown)


_PLANES: Final = ((0, 16), (1, 128), (1, 128))  # (halvings, the value of an empty cell) of Y, U and V


def _paste(sheet: list[Any], cell: Any, row: int, column: int) -> None:
    """Put a picture into its cell, plane by plane."""
    for into, plane in zip(sheet, cell.planes, strict=True):
        data = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        into[row * plane.height : (row + 1) * plane.height, column * plane.width : (column + 1) * plane.width] = data


def _jpeg(sheet: list[Any]) -> bytes:
    import av

    frame: Any = av.VideoFrame(sheet[0].shape[1], sheet[0].shape[0], "yuvj420p")
    for plane, data in zip(frame.planes, sheet, strict=True):
        lines = np.zeros((plane.height, plane.line_size), np.uint8)
        lines[:, : plane.width] = data
        plane.update(lines.tobytes())
    return encode_jpeg(frame)


def _is_absent(snapshot: Snapshot, stream_id: int, at_us: int) -> bool:
    """A declared gap covers the moment, or nothing recorded does."""
    return bool(snapshot.gaps(stream_id, at_us, at_us + 1)) or snapshot.chunk_at(stream_id, at_us) is None
