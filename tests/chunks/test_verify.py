"""A chunk file is verified whole: every flipped bit is found, where it is, and nothing else is blamed."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from base.errors import DamageError
from chunks.directread import DirectReader
from chunks.reader import ChunkFile
from chunks.verify import verify_chunk
from tests import support


@pytest.fixture
def chunk(tmp_path: Path) -> Path:
    with support_recording(tmp_path / "made") as recording:
        recording.add(support.video(), repeat=3, fragment_90k=45_000)
        recording.flush()
        [path] = recording.chunk_paths()
    return path


class support_recording(support.Recording):
    def __enter__(self) -> support_recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def flipped(path: Path, at: int, bit: int = 0) -> Path:
    """A copy with one bit turned."""
    copy = path.with_name("copy.mp4")
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    copy.write_bytes(data)
    return copy


def test_a_sound_chunk(chunk: Path) -> None:
    found = verify_chunk(chunk)
    table = ChunkFile(chunk).table()
    assert (found.damaged, found.findings) == ([], [])
    assert found.fragments == len(table) > 20
    assert found.bytes == int(table.length.sum())
    assert found.end is not None
    assert found.end[0] == chunk.stat().st_size
    assert found.keys == list(zip(table.wall_us[table.key].tolist(), table.offset[table.key].tolist(), strict=True))


def test_every_flipped_bit_is_found_where_it_is(chunk: Path) -> None:
    table = ChunkFile(chunk).table()
    size, dice = chunk.stat().st_size, random.Random(5)
    starts, ends = table.offset, table.offset + table.length
    for at in [*(dice.randrange(int(starts[0])) for _ in range(8)), *(dice.randrange(size) for _ in range(60))]:
        copy = flipped(chunk, at, dice.randrange(8))
        hit = [i for i in range(len(table)) if starts[i] <= at < ends[i]]
        found = verify_chunk(copy)
        assert [one.number for one in found.damaged] == [int(table.number[i]) for i in hit]
        assert bool(found.findings) == (not hit)
        for one, i in zip(found.damaged, hit, strict=True):
            assert (one.start_us, one.end_us) == (int(table.wall_us[i]), int(table.end_us[i]))


def test_without_a_table_the_fragments_are_walked_and_lost_ones_told(chunk: Path) -> None:
    table = ChunkFile(chunk).table()
    copy = flipped(chunk, int(table.offset[4]) + 3)  # the box of a fragment
    os.truncate(copy, int(table.end))
    found = verify_chunk(copy)
    assert found.findings == ["it has no frame table at its end"]
    [lost] = found.damaged
    assert (lost.offset, lost.length) == (int(table.offset[4]), int(table.length[4]))
    assert (lost.start_us, lost.end_us) == (int(table.end_us[3]), int(table.wall_us[5]))


@pytest.mark.parametrize("harm", ["truncate", "hole", "zeros", "not a chunk"])
def test_what_happens_to_files(chunk: Path, harm: str) -> None:
    """No crash, and the damage is told; a hole in a file reads as zeros."""
    copy = chunk.with_name("copy.mp4")
    shutil.copy(chunk, copy)
    table = ChunkFile(chunk).table()
    middle = int(table.offset[len(table) // 2])
    if harm == "truncate":
        os.truncate(copy, middle + 100)
    elif harm == "not a chunk":
        copy.write_bytes(b"not a chunk" * 5000)
        with pytest.raises(DamageError):
            verify_chunk(copy)
        return
    else:
        with copy.open("r+b") as file:
            file.seek(middle + 100)
            file.write(bytes(65536 if harm == "zeros" else 4096))
    found = verify_chunk(copy)
    assert found.findings or found.damaged
    sound = found.fragments - len(found.damaged)
    assert sound >= len(table) // 2 - 1


def test_valid_fragments_in_the_wrong_place_are_damage(chunk: Path) -> None:
    """Two records change places: their checksums are right, their places not."""
    table = ChunkFile(chunk).table()
    data = bytearray(chunk.read_bytes())
    copy = chunk.with_name("copy.mp4")
    lengths = table.length.tolist()
    first, second = next((i, j) for i in range(len(lengths)) for j in range(i) if lengths[i] == lengths[j])
    a, b, size = int(table.offset[first]), int(table.offset[second]), lengths[first]
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    copy.write_bytes(data)
    assert [one.number for one in verify_chunk(copy).damaged] == sorted([first + 1, second + 1])


def test_a_stale_block_of_another_chunk_is_damage(chunk: Path, tmp_path: Path) -> None:
    """The same pictures of another camera, whole and with right checksums, where this one's belong."""
    with support_recording(tmp_path / "other", name="other.main") as recording:
        recording.add(support.video(), repeat=3, fragment_90k=45_000)
        recording.flush()
        [other] = recording.chunk_paths()
    mine, theirs = ChunkFile(chunk).table(), ChunkFile(other).table()
    data = bytearray(chunk.read_bytes())
    i = next(i for i in range(len(mine)) if mine.length[i] == theirs.length[i])
    at, size = int(theirs.offset[i]), int(theirs.length[i])
    data[int(mine.offset[i]) : int(mine.offset[i]) + size] = other.read_bytes()[at : at + size]
    copy = chunk.with_name("copy.mp4")
    copy.write_bytes(data)
    assert [one.number for one in verify_chunk(copy).damaged] == [i + 1]


def test_reading_past_the_cache_gives_what_is_in_the_file(tmp_path: Path) -> None:
    data = os.urandom(9_000_001)
    (tmp_path / "file").write_bytes(data)
    with DirectReader(tmp_path / "file") as reader:
        for offset, length in (
            (0, 10),
            (4095, 2),
            (5000, 5_000_000),
            (8_999_990, 11),
            (9_000_000, 100),
            (9_000_001, 5),
        ):
            assert bytes(reader.read(offset, length)) == data[offset : offset + length]
