"""`keyreel clip`: a range of a stream as one MP4 file.

Kept true: the file appears under its name only when it is whole and synced; its bytes are those the API would send.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

from base.datadir import DataDir
from base.errors import UserError
from base.leases import Leases
from base.units import format_time, parse_time
from clips.mp4 import ClipFile
from clips.plan import plan
from clips.store import ChunkStore
from keyreel.cameras import open_index
from keyreel.output import Progress, bytes_text, print_json, progress_bar
from keyreel.show import stream_id_of


def write_clip(data: Path, stream: str, start: str, end: str, output: Path, as_json: bool) -> None:
    """Cut [start, end) of a stream into `output`; `-` writes to standard output."""
    start_us, end_us = parse_time(start), parse_time(end)
    to_stdout = str(output) == "-"
    if to_stdout and as_json:
        raise UserError("--json and --output - both want standard output; choose a file")
    datadir = DataDir.open(data)
    store = ChunkStore(datadir.volumes)
    with open_index(data) as index:
        with index.read() as snapshot:
            stream_id = stream_id_of(snapshot, stream)
        lease = Leases(datadir.run_path).take(stream_id, start_us, end_us)  # before the index is asked
        with index.read() as snapshot:
            clip = ClipFile(plan(snapshot, store, stream_id, start_us, end_us))
    with progress_bar(output.name, bytes_counted=True) as progress:
        if to_stdout:
            _copy(clip, sys.stdout.buffer, progress)
        else:
            _write_whole(clip, output, progress)
    lease.release()
    if as_json:
        print_json(
            {"stream": stream, "start": format_time(clip.start_us), "end": format_time(clip.end_us)}
            | {"file": str(output), "bytes": clip.size, "etag": clip.etag}
        )
    elif not to_stdout:
        print(f"{output}: {bytes_text(clip.size)}, {format_time(clip.start_us)} to {format_time(clip.end_us)}")


def _write_whole(clip: ClipFile, output: Path, progress: Progress) -> None:
    """Write beside the target, sync, then give it its name; nothing is left behind after a failure."""
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as file:
            _copy(clip, file, progress)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, output)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error}; choose another --output") from None
    finally:
        part.unlink(missing_ok=True)


def _copy(clip: ClipFile, file: BinaryIO, progress: Progress) -> None:
    done = 0
    for piece in clip.read(0, clip.size):
        file.write(piece)
        done += len(piece)
        progress(done, clip.size)
