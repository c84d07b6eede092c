"""A disk that cannot give some of its sectors, below a real file system: what lies there is a gap, the rest plays."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chunks.reader import ChunkFile
from chunks.scrubreport import read_report
from tests import support
from tests.faults.conftest import AT_LENGTH
from tests.faults.device import Disk, FileSystem
from tests.faults.test_bitrot import FLIPS, damage_gaps, overlapping, playable, scrub

pytestmark = pytest.mark.needs_device
FILESYSTEMS: list[FileSystem] = ["ext4", "xfs"]


@pytest.mark.parametrize("filesystem", FILESYSTEMS if AT_LENGTH else FILESYSTEMS[:1])
def test_what_lies_in_bad_sectors_is_the_only_thing_missing(
    tmp_path: Path, disk_of: Callable[[FileSystem], Disk], filesystem: FileSystem
) -> None:
    """In the middle of a fragment, at a chunk's end, in its head; and what is missing is back when the disk is well."""
    disk = disk_of(filesystem)
    with contextlib.closing(support.Recording(disk.root)) as recording:
        judge(disk, recording)


@pytest.mark.at_length
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_what_memory_holds_is_no_witness(disk_of: Callable[[FileSystem], Disk], filesystem: FileSystem) -> None:
    """All of it was just read and lies in the page cache; what the disk cannot give any more is damage all the same."""
    disk = disk_of(filesystem)
    with contextlib.closing(support.Recording(disk.root)) as recording:
        recording.add(support.video(), repeat=15, chunk_s=30.0, fragment_90k=45_000)
        recording.flush()
        disk.sync()
        assert len(played(recording.root)) == len(recording.pictures)
        path = recording.chunk_paths()[0]
        middle = int(ChunkFile(path).table().offset[9])
        for at, found in ((0, "head"), (middle, "cannot give"), (path.stat().st_size - 1, "frame table")):
            where = disk.place(path, at) // 512 * 512
            disk.eio(where, where + 512, "reads")
            scrub(recording)
            report = read_report(recording.volume.root)
            told = [one.what for one in report.damage] + report.findings
            assert any(found in one for one in told), (at, told)
            disk.well()
            scrub(recording)
            assert damage_gaps(recording) == []


@pytest.mark.at_length
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_bits_that_rot_on_the_disk_cost_what_they_hit(
    disk_of: Callable[[FileSystem], Disk], filesystem: FileSystem
) -> None:
    disk, dice = disk_of(filesystem), random.Random(7)
    with contextlib.closing(support.Recording(disk.root)) as recording:
        recording.add(support.video(), repeat=45, chunk_s=30.0, fragment_90k=45_000)
        recording.flush()
        disk.sync()
        paths = recording.chunk_paths()
        tables = [ChunkFile(path).table() for path in paths]
        hit = set(
            dice.sample([(number, i) for number, table in enumerate(tables, 1) for i in range(len(table))], FLIPS)
        )
        for number, i in hit:
            table = tables[number - 1]
            at = int(table.offset[i]) + dice.randrange(int(table.length[i]))
            disk.flip(disk.place(paths[number - 1], at), 1 << dice.randrange(8))
        disk.drop_caches()
        assert played(recording.root) == playable(recording, tables, hit)
        scrub(recording)
        assert len(damage_gaps(recording)) == FLIPS
        assert played(recording.root) == playable(recording, tables, hit)


def judge(disk: Disk, recording: support.Recording) -> None:
    recording.add(support.video(), repeat=30, chunk_s=30.0, fragment_90k=45_000)
    recording.flush()
    disk.sync()
    paths = recording.chunk_paths()
    tables = [ChunkFile(path).table() for path in paths]
    everything = {(number, i) for number, table in enumerate(tables, 1) for i in range(len(table))}
    middle = int(tables[1].offset[9] + tables[1].length[9] // 2)
    for chunk, at, lost in (
        (1, middle, {(2, i) for i in overlapping(tables[1], middle)}),
        (2, paths[2].stat().st_size - 100, set()),
        (0, 0, {(number, i) for number, i in everything if number == 1}),
    ):
        where = disk.place(paths[chunk], at) // 512 * 512
        disk.eio(where, where + 512, "reads")
        disk.drop_caches()
        assert played(recording.root) == playable(recording, tables, lost), "by reading"
        disk.drop_caches()
        scrub(recording)
        told = {(1, -1)} if at == 0 else lost
        assert len(damage_gaps(recording)) == len(told)
        assert played(recording.root) == playable(recording, tables, lost), "by what scrubbing declared"
        disk.well()
        disk.drop_caches()
        scrub(recording)
        assert damage_gaps(recording) == []
        assert len(played(recording.root)) == len(recording.pictures)


def played(folder: Path) -> list[str]:
    """What a program that begins now can play."""
    command = [sys.executable, "-m", "tests.faults.played", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["pictures"])
