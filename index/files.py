"""Chunk files on volumes, told by their paths alone.

Kept true: only directories are read; what has no chunk's path is passed over; the newest come first where an archive
may be large, so who reads it in from there has what is asked for most often soon.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from chunks.path import STREAM_NAME, parse_chunk_path
from chunks.volume import Volume

NEWEST: Final = 2  # a crash leaves the newest chunk of a stream torn, and one before it when sealing had been queued


class ChunkPath(NamedTuple):
    """A file whose path is that of a chunk."""

    volume: Volume
    path: Path
    stream: str
    start_us: int
    sequence: int


def chunk_files(volume: Volume) -> dict[str, list[ChunkPath]]:
    """Chunk files of a volume by stream name, oldest first."""
    return {name: files[::-1] for name in stream_names(volume) if (files := list(_files(volume, name)))}


def has_chunks(volume: Volume) -> bool:
    """At least one file on the volume has a chunk's path."""
    return any(next(_files(volume, name), None) for name in stream_names(volume))


def newest_files(volume: Volume) -> dict[str, list[ChunkPath]]:
    """The newest chunk files of each stream, newest first."""
    found = ((name, list(islice(_files(volume, name), NEWEST))) for name in stream_names(volume))
    return {name: files for name, files in found if files}


def newest_days_first(volumes: Iterable[Volume]) -> Iterator[list[ChunkPath]]:
    """All chunk files: a list per day, stream and volume, newest day first, each list oldest first."""
    places: dict[str, list[tuple[Volume, str]]] = {}
    for volume in volumes:
        for name in stream_names(volume):
            for day in _names(volume.root / name):
                places.setdefault(day, []).append((volume, name))
    for day in sorted(places, reverse=True):
        for volume, name in places[day]:
            if files := sorted(_of_day(volume, name, day), key=_sequence):
                yield files


def stream_names(volume: Volume) -> list[str]:
    """Folders that may be a stream's."""
    return sorted(name for name in _names(volume.root) if STREAM_NAME.fullmatch(name) and name != "lost+found")


def _files(volume: Volume, stream: str) -> Iterator[ChunkPath]:
    """Chunk files of a stream, newest first."""
    for day in sorted(_names(volume.root / stream), reverse=True):
        yield from sorted(_of_day(volume, stream, day), key=_sequence, reverse=True)


def _of_day(volume: Volume, stream: str, day: str) -> Iterator[ChunkPath]:
    folder = volume.root / stream / day
    for name in _names(folder):
        told = parse_chunk_path(folder / name)
        if told is not None:
            yield ChunkPath(volume, folder / name, stream, told.start_us, told.sequence)


def _names(folder: Path) -> list[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return os.listdir(folder)
    return []


def _sequence(file: ChunkPath) -> tuple[int, int]:
    return file.start_us, file.sequence
