"""Makes the index again from chunk files and the copy of the register; nothing else is needed.

Kept true: chunk files are only read; the index in place stays as it is until the new one is whole and synced, and is
then kept beside it as `<index>.replaced`; a file that cannot be taken in costs that file alone, and is reported.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

from base.errors import ConfigError, KeyreelError
from chunks.path import parse_chunk_path
from chunks.records import ChunkOpened, FragmentStored, StoredRecord
from chunks.recover import scan
from chunks.volume import Volume, sync_directory
from index.deletions import deletions_path, read, summed
from index.environment import Index, is_open
from index.expire import restore_deleted
from index.register import read_copy, register_path

CHUNKS_PER_COMMIT: Final = 64
READ_AHEAD: Final = 4  # files read at a time: hides the latency of a disk
Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: where, and what."""

    where: str
    what: str


@dataclass(slots=True)
class RebuildReport:
    """What the new index holds, and what could not be taken in."""

    streams: int = 0
    chunks: int = 0
    fragments: int = 0
    key_frames: int = 0
    cameras: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.streams} streams, {self.chunks} chunks, {self.fragments} fragments, {self.key_frames} key frames, "
            f"{self.cameras} cameras in {self.seconds:.1f} s, {len(self.findings)} findings"
        )


class ChunkPath(NamedTuple):
    """A file whose path is that of a chunk."""

    volume: Volume
    path: Path
    start_us: int
    sequence: int


def chunk_files(volume: Volume) -> dict[str, list[ChunkPath]]:
    """Chunk files of a volume by stream name, oldest first; told by their paths alone."""
    found: dict[str, list[ChunkPath]] = {}
    for path in sorted(volume.root.glob("*/*/*.mp4")):
        name = parse_chunk_path(path)
        if name is not None:
            found.setdefault(name.stream, []).append(ChunkPath(volume, path, name.start_us, name.sequence))
    return found


def rebuild(index_path: Path | str, volumes: Iterable[Volume], progress: Progress | None = None) -> RebuildReport:
    """Replace the index by one made from all chunks on the volumes; `progress` is told (chunks done, chunks in all)."""
    begin = time.monotonic()
    index_path, volumes = Path(index_path).absolute(), list(volumes)
    if is_open(index_path):
        raise ConfigError(f"the index at {index_path} is open in this process; close it before it is made again")
    fresh = index_path.with_name(index_path.name + ".rebuild")
    shutil.rmtree(fresh, ignore_errors=True)
    report = RebuildReport()
    nodes = {volume.node for volume in volumes}
    with Index.open(fresh, create=True, node=nodes.pop() if len(nodes) == 1 else None) as index:
        _restore_register(index, register_path(index_path), report)
        _take_in(index, volumes, report, progress or (lambda done, total: None))
        _tell_deleted(index, deletions_path(index_path), report)
        with index.read() as snapshot:
            report.streams = len(snapshot.streams())
    _put_in_place(fresh, index_path)
    report.seconds = time.monotonic() - begin
    return report


def _restore_register(index: Index, path: Path, report: RebuildReport) -> None:
    copy = read_copy(path)
    if copy is None:
        report.findings.append(Finding(str(path), "there is no copy of the camera register; add the cameras again"))
        return
    with index.write() as transaction:
        transaction.restore_register(copy)
    report.cameras = len(copy.cameras)


def _take_in(index: Index, volumes: list[Volume], report: RebuildReport, progress: Progress) -> None:
    """Stream by stream in the order of ids, so that rows arrive nearly in the order of their keys."""
    files = [file for stream in _by_stream_id(volumes) for file in stream]
    with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="rebuild") as pool:
        for at in range(0, len(files), CHUNKS_PER_COMMIT):
            some = files[at : at + CHUNKS_PER_COMMIT]
            scanned = pool.map(_scan, some)
            with index.write() as transaction:
                for file, records in zip(some, scanned, strict=True):
                    if isinstance(records, Finding):
                        report.findings.append(records)
                        continue
                    try:
                        transaction.apply(records)
                    except KeyreelError as error:
                        report.findings.append(Finding(str(file.path), str(error)))
                        continue
                    report.chunks += 1
                    stored = [record for record in records if isinstance(record, FragmentStored)]
                    report.fragments += len(stored)
                    report.key_frames += sum([record.key for record in stored])
            progress(at + len(some), len(files))


def _tell_deleted(index: Index, path: Path, report: RebuildReport) -> None:
    """What was deleted by intent is told so, but for what is there; its numbers are not used again."""
    try:
        deleted = summed(read(path))
    except (KeyreelError, OSError) as error:
        report.findings.append(Finding(str(path), str(error)))
        return
    for record in deleted:
        with index.write() as transaction:
            restore_deleted(transaction, record)


def _by_stream_id(volumes: list[Volume]) -> Iterator[list[ChunkPath]]:
    streams: dict[str, list[ChunkPath]] = {}
    for volume in volumes:
        for name, files in chunk_files(volume).items():
            streams.setdefault(name, []).extend(files)
    for files in streams.values():
        files.sort(key=lambda file: file.sequence)
    yield from sorted(streams.values(), key=_stream_id)


def _stream_id(files: list[ChunkPath]) -> int:
    for file in files:
        records = _scan(file)
        if not isinstance(records, Finding) and isinstance(records[0], ChunkOpened):
            return records[0].head.stream_id
    return 0


def _scan(file: ChunkPath) -> list[StoredRecord] | Finding:
    """Records of a chunk, as lying on the volume where it was found."""
    try:
        opened, *rest = scan(file.path)
    except (KeyreelError, OSError) as error:
        return Finding(str(file.path), f"not taken in: {error}")
    assert isinstance(opened, ChunkOpened)
    return [replace(opened, head=replace(opened.head, volume=file.volume.id)), *rest]


def _put_in_place(fresh: Path, index_path: Path) -> None:
    replaced = index_path.with_name(index_path.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.rename(index_path, replaced)
    os.rename(fresh, index_path)
    sync_directory(index_path.parent)
