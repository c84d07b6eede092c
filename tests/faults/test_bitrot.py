"""Bits flip in chunk files, disks lose ranges: all of it is found, and only what was hit, or needs it, is missing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from base.units import US
from chunks.reader import ChunkFile, FrameTable
from chunks.records import GapCause
from chunks.scrubreport import REPORT_NAME, read_report
from recorder.committer import Committer
from recorder.scrub import Scrubber
from tests import support
from tests.faults.conftest import AT_LENGTH
from tests.faults.played import play

ROUNDS = 10 if AT_LENGTH else 1
FLIPS = 100  # in each round
BLOCK_BYTES = 4096  # what a file system reads at least


@pytest.fixture
def recording(tmp_path: Path) -> support.Recording:
    """Three minutes in chunks of 30 s, half a second a fragment; the last chunk grows."""
    one = support.Recording(tmp_path / "bad")
    one.add(support.video(), repeat=45, chunk_s=30.0, fragment_90k=45_000, seal=False)
    one.flush()
    return one


def scrub(recording: support.Recording) -> None:
    (recording.volume.root / REPORT_NAME).unlink(missing_ok=True)
    committer = Committer(recording.index)
    committer.start()
    scrubber = Scrubber(recording.index, committer, 0, 30, lambda: False)
    scrubber.follow([recording.volume])
    deadline_s = time.monotonic() + 60
    while not ((status := scrubber.status(recording.volume.id)) and status.last_ended_us and not status.running):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    scrubber.stop()
    committer.stop()


def test_flipped_bits_cost_what_they_hit(recording: support.Recording) -> None:
    """In sealed chunks, where scrubbing finds them first, and in one that grows, where reading does."""
    dice = random.Random(11)
    paths = recording.chunk_paths()
    tables = [ChunkFile(path).table() for path in paths]
    places = [(number, i) for number, table in enumerate(tables, 1) for i in range(len(table))]
    for _ in range(ROUNDS):
        chosen = dice.sample(places, FLIPS)
        flips = []
        for number, i in chosen:
            table = tables[number - 1]
            at = int(table.offset[i]) + dice.randrange(int(table.length[i]))
            flips.append((paths[number - 1], at, dice.randrange(8)))
        for flip in flips:
            turn(*flip)
        expected = playable(recording, tables, set(chosen))
        scrub(recording)
        sealed = {(number, i) for number, i in chosen if number < len(paths)}
        damage = {(one.sequence, one.offset) for one in read_report(recording.volume.root).damage}
        assert damage == {(number, int(tables[number - 1].offset[i])) for number, i in sealed}
        assert set(damage_gaps(recording)) == {
            (int(tables[number - 1].wall_us[i]), int(tables[number - 1].end_us[i])) for number, i in sealed
        }
        found, told, _ = play(recording.index, recording.volume)
        assert found == expected
        for number, i in chosen:
            start_us, end_us = int(tables[number - 1].wall_us[i]), int(tables[number - 1].end_us[i])
            assert number == len(paths) or (start_us, end_us) in told
        for flip in flips:
            turn(*flip)
        scrub(recording)
    found, told, _ = play(recording.index, recording.volume)
    assert (len(found), told) == (len(recording.pictures), [])
    recording.close()


def damage_gaps(recording: support.Recording) -> list[tuple[int, int]]:
    """What the index declares damaged."""
    with recording.index.read() as snapshot:
        gaps = snapshot.gaps(recording.stream_id, 0, 1 << 60)
    return [(gap.start_us, gap.end_us) for gap in gaps if gap.cause is GapCause.DAMAGE]


def playable(recording: support.Recording, tables: list[FrameTable], hit: set[tuple[int, int]]) -> list[str]:
    """Hashes of the pictures that should play: all but those hit, and those between one and the next key frame."""
    found, at = [], 0
    for number, table in enumerate(tables, 1):
        lost = False
        for i in range(len(table)):
            count = int(table.video_count[i])
            lost = (number, i) in hit or (lost and not table.key[i])
            if not lost:
                found += [digest for _, _, digest in recording.pictures[at : at + count]]
            at += count
    assert at == len(recording.pictures)
    return found


def overlapping(table: FrameTable, at: int) -> list[int]:
    """Fragments of which a part lies in the file system's block at a file offset."""
    low = at // BLOCK_BYTES * BLOCK_BYTES
    return [
        i
        for i in range(len(table))
        if int(table.offset[i]) < low + BLOCK_BYTES and int(table.offset[i] + table.length[i]) > low
    ]


def turn(path: Path, at: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def test_a_range_that_the_disk_cannot_give_is_the_only_thing_missing(
    recording: support.Recording, disk: Callable[[str], None]
) -> None:
    paths = recording.chunk_paths()
    tables = [ChunkFile(path).table() for path in paths]
    block = int(tables[0].offset[9]) // BLOCK_BYTES * BLOCK_BYTES
    recording.close()
    lost = {(number, i) for number, table in enumerate(tables, 1) for i in overlapping(table, block)}
    disk(f"read-eio {block} {block + BLOCK_BYTES}")
    command = [sys.executable, "-m", "tests.faults.played", str(recording.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pictures"] == playable(recording, tables, lost)
    assert {number for number, _ in lost} == {*range(1, len(paths) + 1)}, "something of each chunk"
    assert tables[0].end_us[-1] - tables[0].wall_us[0] > 20 * US
