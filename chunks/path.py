"""Where a chunk lies on its volume, and what its name tells.

Kept true: <root>/<stream>/<YYYY-MM-DD>/<HHMMSS.mmm>Z-<sequence>.mp4, in UTC; names of one stream sort by time and
never repeat, as sequences do not; a stream's name is one path component.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from base.errors import UserError
from base.units import utc

STREAM_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_FILE: Final = re.compile(r"(\d\d)(\d\d)(\d\d)\.(\d{3})Z-(\d{1,10})\.mp4", re.ASCII)


@dataclass(frozen=True, slots=True)
class ChunkName:
    """What a path tells; `start_us` to the millisecond only."""

    stream: str
    start_us: int
    sequence: int


def chunk_path(root: Path, stream: str, start_us: int, sequence: int) -> Path:
    """The path of a chunk."""
    if STREAM_NAME.fullmatch(stream) is None:
        raise UserError(
            f"stream name {stream[:64]!r} is not letters, digits, '.', '_', '-', starting with one of the first two"
        )
    moment = utc(start_us)
    name = f"{moment:%H%M%S}.{moment.microsecond // 1000:03d}Z-{sequence}.mp4"
    return root / stream / f"{moment:%Y-%m-%d}" / name


def parse_chunk_path(path: Path) -> ChunkName | None:
    """What a path tells, or None when it is no chunk's."""
    if len(path.parts) < 3:
        return None
    stream, day, file = path.parts[-3:]
    match = _FILE.fullmatch(file)
    if match is None or _DAY.fullmatch(day) is None or STREAM_NAME.fullmatch(stream) is None:
        return None
    hour, minute, second, milli, sequence = map(int, match.groups())
    try:
        moment = datetime.fromisoformat(day).replace(hour=hour, minute=minute, second=second, tzinfo=UTC)
    except ValueError:
        return None
    return ChunkName(stream, int(moment.timestamp()) * 1_000_000 + milli * 1000, sequence)
