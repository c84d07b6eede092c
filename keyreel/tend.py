"""`keyreel check` and `keyreel rebuild`: is the index right, and make it again.

Kept true: check changes nothing; rebuild needs nothing but the chunk files; while the node records, its recorder is
asked to make the index again beside the recording, so at any moment one process alone replaces it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec

from base.datadir import DataDir
from base.errors import ConfigError
from base.service import EXIT_DAMAGE, EXIT_DONE
from base.status import IndexStatus, read_status
from index import Index
from index.check import check as check_index
from index.check import leftovers
from index.rebuild import rebuild as rebuild_index
from index.suspect import tell
from keyreel.node import known_volumes
from keyreel.output import Progress, print_json, progress_bar
from keyreel.show import live_status

POLL_S: Final = 0.1
ANSWER_S: Final = 30.0  # a recorder says something of itself every second


def check(data: Path, deep: bool, as_json: bool) -> int:
    """Print every finding; the exit code says whether there was one."""
    datadir = DataDir.open(data)
    volumes = known_volumes(datadir)
    with Index.open(datadir.index_path, readonly=True) as index:
        findings = check_index(index, volumes, deep=deep)
    notes = leftovers(datadir.index_path, volumes)
    if as_json:
        print_json({"findings": msgspec.to_builtins(findings), "notes": msgspec.to_builtins(notes)})
    else:
        for finding in findings:
            print(f"{finding.where}: {finding.what}")
        for note in notes:
            print(f"note: {note.where}: {note.what}")
        print(f"{len(findings)} findings" if findings else "index and chunks agree")
    return EXIT_DAMAGE if findings else EXIT_DONE


def rebuild(data: Path, as_json: bool) -> int:
    """Replace the index by one made from the chunks; the exit code says whether all of them could be taken in."""
    datadir = DataDir.open(data)
    with progress_bar("chunks read") as progress:
        if datadir.locked():
            return _tell_renewal(_ask_recorder(datadir, progress), as_json)
        volumes = known_volumes(datadir)
        with datadir.lock():
            report = rebuild_index(datadir.index_path, volumes, progress)
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        for finding in report.findings:
            print(f"{finding.where}: {finding.what}")
        print(f"index made again: {report}")
    return EXIT_DAMAGE if report.findings else EXIT_DONE


def _ask_recorder(datadir: DataDir, progress: Progress) -> IndexStatus:
    """Have the recorder make its index again, and watch it."""
    before = live_status(datadir)
    if before is None:
        raise ConfigError(f"{datadir.path} is in use, and no recorder there answers; stop what uses it, or ask again")
    made_us = before.index.made_us
    tell(datadir.index_path, "asked", "keyreel rebuild")
    deadline_s = time.monotonic() + ANSWER_S
    while True:
        status = read_status(datadir.run_path)
        if status is not None and status.index.made_us > made_us:
            progress(status.index.chunks_done, status.index.chunks_total)
            if status.index.read_in:
                return status.index
            deadline_s = time.monotonic() + ANSWER_S
        if time.monotonic() > deadline_s or not datadir.locked():
            raise ConfigError("the recorder did not answer; see its log, or stop it and run keyreel rebuild again")
        time.sleep(POLL_S)


def _tell_renewal(status: IndexStatus, as_json: bool) -> int:
    if as_json:
        print_json(msgspec.to_builtins(status))
    else:
        away = "" if status.whole else "; volumes that are away are read when they are back"
        print(f"index made again by the recorder: {status.chunks_done} chunks, {status.findings} findings{away}")
    return EXIT_DAMAGE if status.findings else EXIT_DONE
