"""`keyreel check` and `keyreel rebuild`: is the index right, and make it again.

Kept true: check changes nothing; rebuild runs only while nobody records, and needs nothing but the chunk files.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from base.datadir import DataDir
from base.service import EXIT_DAMAGE, EXIT_DONE
from index import Index
from index.check import check as check_index
from index.rebuild import rebuild as rebuild_index
from keyreel.node import known_volumes
from keyreel.output import print_json, progress_bar


def check(data: Path, deep: bool, as_json: bool) -> int:
    """Print every finding; the exit code says whether there was one."""
    datadir = DataDir.open(data)
    volumes = known_volumes(datadir)
    with Index.open(datadir.index_path, readonly=True) as index:
        findings = check_index(index, volumes, deep=deep)
    if as_json:
        print_json({"findings": msgspec.to_builtins(findings)})
    else:
        for finding in findings:
            print(f"{finding.where}: {finding.what}")
        print(f"{len(findings)} findings" if findings else "index and chunks agree")
    return EXIT_DAMAGE if findings else EXIT_DONE


def rebuild(data: Path, as_json: bool) -> int:
    """Replace the index by one made from the chunks; the exit code says whether all of them could be taken in."""
    datadir = DataDir.open(data)
    volumes = known_volumes(datadir)
    with datadir.lock(), progress_bar("chunks read") as progress:
        report = rebuild_index(datadir.index_path, volumes, progress)
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        for finding in report.findings:
            print(f"{finding.where}: {finding.what}")
        print(f"index made again: {report}")
    return EXIT_DAMAGE if report.findings else EXIT_DONE
