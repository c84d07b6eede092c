"""`keyreel import`: a recorded file becomes part of a stream, whether the node records meanwhile or not.

Kept true: the file is judged before the data folder is touched; while no recorder runs the folder's lock is held, and
what a crash left is put right first, as at a recorder's start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from base.claims import StreamClaims
from base.clock import wall_us
from base.errors import UserError, VolumeError
from base.log import setup
from base.units import format_time, parse_time
from chunks.path import STREAM_NAME
from chunks.records import GapCause
from index import Index, StreamRow
from keyreel.node import Node, open_node, recording
from keyreel.output import Progress, bytes_text, print_json, progress_bar
from recorder.importer import ImportReport, Place, claimed, import_file
from recorder.pipeline import Resume, Rotation
from recorder.startup import resume, resume_of
from recorder.volumes import draining_volumes, present, wanted_volumes
from sources.file import FileSource

PROGRESS_STEP_BYTES: Final = 1 << 20


def run(data: Path, file: Path, stream: str, start: str | None, config: Path | None, as_json: bool) -> None:
    """Import one file and say what was stored."""
    started_us = parse_time(start) if start else None
    if STREAM_NAME.fullmatch(stream) is None or not all(stream.rpartition(".")):
        raise UserError(f"stream name {stream[:64]!r} is not <camera>.<quality>; write it like gate.card")
    with closing(FileSource(file)) as source:
        node = open_node(data, config, create=True)
        setup("import", node.config.log)
        with (
            _node_held(node) as alone,
            Index.open(node.datadir.index_path) as index,
            progress_bar(file.name, bytes_counted=True) as progress,
        ):
            report = _import(node, index, source, stream, started_us, alone, _in_steps(progress))
        _tell(report, file, source.layout.left_out, as_json)


@contextmanager
def _node_held(node: Node) -> Iterator[bool]:
    """Hold the data folder when nobody does, else work beside the recorder; yields which it is."""
    if node.datadir.locked():
        yield False
    else:
        with recording(node):
            yield True


def _import(
    node: Node, index: Index, source: FileSource, name: str, started_us: int | None, alone: bool, progress: Progress
) -> ImportReport:
    datadir = node.datadir
    with index.write() as transaction:
        stream = transaction.ensure_stream(name)
    with claimed(StreamClaims(datadir.run_path), stream):
        draining = draining_volumes(datadir, node.config)
        taking = {one: path for one, path in wanted_volumes(datadir, node.config).items() if one not in draining}
        volume = max(present(taking), key=lambda one: one.free_bytes(), default=None)
        if volume is None:
            raise VolumeError("there is no volume to import to; add one", reason="missing")
        recorder = node.config.recorder
        place = Place(
            stream=stream,
            resume=_past(node, index, stream, alone),
            volume=volume,
            rotation=Rotation(recorder.chunk_s * 1_000_000, recorder.chunk_bytes_max),
            fragment_90k=recorder.fragment_ms * 90,
            unit_bytes_max=recorder.unit_bytes_max,
            now_us=wall_us(),
        )
        return import_file(index, source, place, started_us, progress)


def _past(node: Node, index: Index, stream: StreamRow, alone: bool) -> Resume:
    """Where the stream goes on; of streams that no camera fills nobody knows why they pause."""
    volumes = node.datadir.volumes
    if alone:
        there = present(volumes)
        past = resume(index, there, complete=len(there) == len(volumes)).get(stream.id, Resume())
    else:
        with index.read() as snapshot:
            past = resume_of(snapshot, stream, False, volumes)
    with index.read() as snapshot:
        has_camera = any(stream.name in camera.stream_names() for camera in snapshot.cameras())
    if not has_camera:
        past.gap_cause = GapCause.UNKNOWN
    return past


def _in_steps(progress: Progress) -> Progress:
    """The same progress, told once a megabyte."""
    told = -PROGRESS_STEP_BYTES

    def step(done: int, total: int) -> None:
        nonlocal told
        if done - told >= PROGRESS_STEP_BYTES or done == total:
            told = done
            progress(done, total)

    return step


def _tell(report: ImportReport, file: Path, left_out: list[str], as_json: bool) -> None:
    start, end = format_time(report.start_us), format_time(report.end_us)
    if as_json:
        counts = {
            "chunks": report.chunks, "pictures": report.pictures, "media_bytes": report.media_bytes,
            "skipped_packets": report.skipped_packets,
        }  # fmt: skip
        words = {
            "stream": report.stream,
            "file": str(file),
            "start": start,
            "end": end,
            "times_from": report.times_from,
        }
        print_json(msgspec.to_builtins(words | counts | {"left_out": left_out}))
        return
    print(f"{report.stream}: {start} to {end} from {file}, times by {report.times_from}")
    print(f"{report.pictures} pictures, {bytes_text(report.media_bytes)} in {report.chunks} chunks")
    if report.skipped_packets:
        print(f"left out: {report.skipped_packets} packets before the first key frame, damaged or without a time")
    if left_out:
        print(f"not stored: {', '.join(left_out)}")
