"""Makes the index again from chunk files and the copy of the register; nothing else is needed.

Kept true: chunk files are only read; the index in place stays as it is until the new one is whole and synced, and is
then kept beside it as `<index>.replaced`; a file that cannot be taken in costs that file alone, and is reported.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from base.errors import ConfigError, KeyreelError
from chunks.reader import head_of
from chunks.scrubreport import read_report
from chunks.summary import ChunkSummary, summarize
from chunks.volume import Volume, sync_directory
from index.deletions import Deletion, deletions_path, read, summed
from index.environment import Index, is_open
from index.expire import restore_deleted
from index.files import ChunkPath, chunk_files
from index.register import read_copy, register_path
from index.rowcheck import Finding
from index.transaction import Transaction

CHUNKS_PER_COMMIT: Final = 256

READ_AHEAD: Final = 4  # files read at a time: hides the latency of a disk
Read = tuple[ChunkPath, ChunkSummary | str]  # a file, and what it holds or why that cannot be told
Progress = Callable[[int, int], object]


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
        with index.write() as transaction:
            restore_damage(transaction, volumes)
        _tell_deleted(index, index_path, report)
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
    groups = [files[at : at + CHUNKS_PER_COMMIT] for at in range(0, len(files), CHUNKS_PER_COMMIT)]
    done = 0
    for group, chunks in zip(groups, read_ahead(groups), strict=True):
        with index.write() as transaction:
            report.findings += take_in(transaction, chunks, report)
        done += len(group)
        progress(done, len(files))


def read_ahead(groups: list[list[ChunkPath]]) -> Iterator[list[Read]]:
    """What the chunks of each group hold, read in threads a few groups before they are asked for."""
    with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="rebuild") as pool:
        begun = deque(pool.submit(read_chunks, group) for group in groups[:READ_AHEAD])
        for following in [*groups[READ_AHEAD:], *([None] * len(begun))]:
            if following is not None:
                begun.append(pool.submit(read_chunks, following))
            yield begun.popleft().result()


def read_chunks(files: Iterable[ChunkPath]) -> list[Read]:
    """What each file holds, or why it cannot be taken in."""
    found: list[Read] = []
    for file in files:
        try:
            found.append((file, summarize(file.path)))
        except (KeyreelError, OSError) as error:
            found.append((file, f"not taken in: {error}"))
    return found


def take_in(transaction: Transaction, chunks: list[Read], report: RebuildReport) -> list[Finding]:
    """Take in what was read; what cannot be is told and costs nothing else."""
    findings = []
    for file, chunk in chunks:
        if isinstance(chunk, str):
            findings.append(Finding(str(file.path), chunk))
            continue
        try:
            is_new = transaction.take_in(chunk, file.volume.id)
        except KeyreelError as error:
            findings.append(Finding(str(file.path), str(error)))
            continue
        report.chunks += 1
        report.fragments += chunk.fragments * is_new
        report.key_frames += len(chunk.keys) * is_new
    return findings


def deleted_ranges(index_path: Path) -> list[Deletion]:
    """What was deleted by intent, by the records beside the index."""
    try:
        return summed(read(deletions_path(index_path)))
    except OSError as error:
        raise ConfigError(f"{deletions_path(index_path)} cannot be read: {error.strerror}") from None


def _tell_deleted(index: Index, index_path: Path, report: RebuildReport) -> None:
    """What was deleted by intent is told so, but for what is there; its numbers are not used again."""
    try:
        deleted = deleted_ranges(index_path)
    except KeyreelError as error:
        report.findings.append(Finding(str(deletions_path(index_path)), str(error)))
        return
    for record in deleted:
        with index.write() as transaction:
            restore_deleted(transaction, record)


def restore_damage(transaction: Transaction, volumes: Iterable[Volume]) -> None:
    """Damage that was found and kept beside the chunks is a gap in a new index too."""
    for volume in volumes:
        found: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for one in read_report(volume.root).damage:
            found.setdefault((one.stream, one.sequence), []).append((one.start_us, one.end_us))
        for (name, sequence), ranges in found.items():
            stream = transaction.stream(name)
            chunk = transaction.chunk(stream.id, sequence) if stream is not None else None
            if chunk is not None and chunk.volume == volume.id:
                transaction.declare_damage(chunk, ranges)


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
        head = head_of(file.path)
        if head is not None:
            return head.stream_id
    return 0


def _put_in_place(fresh: Path, index_path: Path) -> None:
    replaced = index_path.with_name(index_path.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.rename(index_path, replaced)
    os.rename(fresh, index_path)
    sync_directory(index_path.parent)
