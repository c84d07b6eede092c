"""Recovery of torn chunks: what was sealed stays, the tail is kept aside, doing it again changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from base.errors import DamageError
from chunks.format import UUID_BOX
from chunks.reader import ChunkFile
from chunks.records import ChunkOpened, ChunkSealed, FragmentStored, GapCause, StoredRecord
from chunks.recover import Bounds, peek, recover, scan, set_aside
from chunks.volume import Volume
from chunks.writer import VolumeWriter
from native.moof import SEAL_SIZE
from tests.chunks.media import Bench, Media, build


@pytest.fixture
def sealed(bench: Bench, media: Callable[..., Media]) -> tuple[Path, list[StoredRecord]]:
    source = media("h264")
    chunk = bench.write(source.config, build(source, fragment_90k=27_000))
    bench.writer.stop()
    return chunk.path, bench.records


def numbers(records: list[StoredRecord]) -> list[int]:
    return [record.number for record in records if isinstance(record, FragmentStored)]


def test_a_sealed_chunk_is_read_and_never_written(sealed: tuple[Path, list[StoredRecord]]) -> None:
    path, records = sealed
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    assert scan(path) == records
    assert recover(path).records == records
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_torn_chunk_anywhere(sealed: tuple[Path, list[StoredRecord]]) -> None:
    path, records = sealed
    whole, data = ChunkFile(path).table(), path.read_bytes()
    header = ChunkFile(path).header_bytes
    ends = (whole.offset + whole.length).tolist()
    cuts = [header, header + 1, *range(ends[2] - 3, ends[2] + 60, 7), ends[-1], ends[-1] + 1, len(data) - 1]
    for cut in cuts:
        torn = path.with_name("torn.mp4")
        torn.write_bytes(data[:cut])
        sound = sum(end <= cut for end in ends)
        end = ends[sound - 1] if sound else header
        found = recover(torn)
        assert found.cut_bytes == cut - end
        assert found.records[: sound + 1] == records[: sound + 1]
        assert isinstance(found.records[-1], ChunkSealed)
        assert len(found.records) == sound + 2
        if found.cut_bytes:
            assert found.side_path is not None
            assert found.side_path.name == f"torn.mp4.torn-{end}"
            assert found.side_path.read_bytes() == data[end:cut]
            found.side_path.unlink()
        after = torn.read_bytes()
        again = recover(torn)
        assert (again.records, again.cut_bytes, torn.read_bytes()) == (found.records, 0, after)
        table = ChunkFile(torn).table()
        assert ChunkFile(torn).sealed
        for field in fields(table):
            assert np.array_equal(getattr(table, field.name), getattr(whole.first(sound), field.name))


def test_recovery_seals_as_the_writer_does(sealed: tuple[Path, list[StoredRecord]]) -> None:
    path, _ = sealed
    data, end = path.read_bytes(), ChunkFile(path).table().end
    torn = path.with_name("torn.mp4")
    torn.write_bytes(data[:end])
    recover(torn)
    assert torn.read_bytes() == data


def test_peeking_reads_only_the_tail_and_writes_nothing(sealed: tuple[Path, list[StoredRecord]]) -> None:
    path, records = sealed
    whole, data = ChunkFile(path).table(), path.read_bytes()
    known = int(whole.offset[4])
    spoilt = bytearray(data[: whole.end] + b"torn")
    spoilt[int(whole.offset[1]) + 36] ^= 0xFF
    path.write_bytes(spoilt)
    assert peek(path, known) == [records[0], *records[5:-1]]
    assert path.read_bytes() == bytes(spoilt)
    path.write_bytes(data[: whole.end] + b"torn")
    assert peek(path, whole.end) == records[:1]
    assert recover(path, whole.end).records == records
    assert path.read_bytes() == data
    assert peek(path, whole.end) == records


def test_what_was_written_again_elsewhere_is_cut_and_kept_aside(sealed: tuple[Path, list[StoredRecord]]) -> None:
    """By the bytes that were told, or by where the next chunk begins; a seal that was never told does not protect."""
    path, records = sealed
    whole, data = ChunkFile(path).table(), path.read_bytes()
    kept = int(whole.offset[3])
    for bounds in (Bounds(size=kept), Bounds(until_us=int(whole.wall_us[3]))):
        path.write_bytes(data)
        assert peek(path, 0, bounds) == records[:4]
        found = recover(path, 0, bounds)
        assert found.records[:-1] == records[:4]
        assert found.cut_bytes == len(data) - kept
        assert found.side_path is not None
        assert found.side_path.read_bytes() == data[kept:]
        found.side_path.unlink()
        assert recover(path, 0, bounds).records == found.records
    assert peek(path, 0, Bounds(size=0)) == records[:1]
    aside = set_aside(path)
    assert not path.exists()
    assert aside.read_bytes()


def test_a_recovery_that_was_cut_short_keeps_the_first_copy_of_the_tail(
    sealed: tuple[Path, list[StoredRecord]],
) -> None:
    """The tail was kept and cut off, then the power went while the chunk's end was being written."""
    path, _ = sealed
    whole, data = ChunkFile(path).table(), path.read_bytes()
    torn = path.with_name("torn.mp4")
    torn.write_bytes(data[: whole.end] + b"the camera's last words")
    first = recover(torn)
    assert first.side_path is not None
    torn.write_bytes(data[: whole.end] + bytes(512) + data[whole.end + 512 : -100])
    assert recover(torn).records == first.records
    assert torn.read_bytes() == data
    assert first.side_path.read_bytes() == b"the camera's last words"
    assert {one.name for one in torn.parent.glob("torn.mp4*")} == {torn.name, first.side_path.name}


def test_what_the_disk_held_before_is_no_part_of_a_chunk(
    sealed: tuple[Path, list[StoredRecord]], tmp_path: Path, media: Callable[..., Media]
) -> None:
    """Zeros, another chunk's fragments, and this chunk's own behind a hole: cut at the first, nothing is spliced."""
    path, records = sealed
    whole, data = ChunkFile(path).table(), path.read_bytes()
    writer = VolumeWriter(Volume.create(tmp_path / "other", bytes(16)), on_commit=_ignore, on_failure=_ignore)
    other = Bench(writer.volume, writer, [], [], sequence=1)
    writer.start()
    stale = other.write(media("h264").config, build(media("h264"), fragment_90k=27_000)).path
    writer.stop()
    end = int(whole.offset[3])
    own = data[end : whole.end]
    for rest in (bytes(1 << 16), stale.read_bytes()[end:], bytes(512) + own[512:], own[int(whole.length[3]) :]):
        torn = path.with_name("recycled.mp4")
        torn.write_bytes(data[:end] + rest)
        found = recover(torn)
        assert found.records[:-1] == records[:4]
        assert found.cut_bytes == len(rest)
        assert found.side_path is not None
        found.side_path.unlink()


def _ignore(*_: object) -> None:
    pass


def test_the_first_bad_fragment_ends_what_is_not_known_durable(sealed: tuple[Path, list[StoredRecord]]) -> None:
    path, _ = sealed
    whole = ChunkFile(path).table()
    data = bytearray(path.read_bytes()[: whole.end])
    data[int(whole.video_at[3]) + 20] ^= 1
    path.write_bytes(data)
    found = recover(path)
    assert numbers(found.records) == [1, 2, 3]
    assert found.cut_bytes == whole.end - int(whole.offset[3])


def test_damage_in_what_is_known_durable_cuts_nothing(sealed: tuple[Path, list[StoredRecord]]) -> None:
    path, _ = sealed
    whole = ChunkFile(path).table()
    for place in (int(whole.offset[3]) + 36, int(whole.offset[3]) + 150, int(whole.offset[3] + whole.length[3]) - 50):
        data = bytearray(path.read_bytes()[: whole.end])
        data[place] ^= 0xFF
        damaged = path.with_name("damaged.mp4")
        damaged.write_bytes(data + b"torn")
        found = recover(damaged, whole.end)
        assert found.cut_bytes == 4
        assert set(numbers(found.records)) >= set(whole.number.tolist()) - {4}
        table = ChunkFile(damaged).table()
        kept = [i for i, number in enumerate(table.number.tolist()) if number != 4]
        assert all(ChunkFile(damaged).read_fragment(i, table) for i in kept)


def test_stale_fragments_behind_the_end_are_not_taken(sealed: tuple[Path, list[StoredRecord]]) -> None:
    """Recycled blocks: a valid fragment of this very chunk, but at another place."""
    path, _ = sealed
    whole = ChunkFile(path).table()
    data = path.read_bytes()
    second = data[int(whole.offset[1]) : int(whole.offset[1] + whole.length[1])]
    path.write_bytes(data[: whole.end] + second)
    assert len(recover(path).records) == len(whole) + 2


def test_a_spoilt_gap_cause_is_an_unknown_one(sealed: tuple[Path, list[StoredRecord]]) -> None:
    path, records = sealed
    assert isinstance(records[1], FragmentStored)
    end = records[1].offset + records[1].length
    data = bytearray(path.read_bytes()[:end])
    seal = len(data) - SEAL_SIZE + UUID_BOX.size
    data[seal + 64 : seal + 72] = (1).to_bytes(8, "big")  # gap_end_us
    data[seal + 76 : seal + 78] = b"UU"  # gap_cause
    path.write_bytes(data)
    stored = scan(path)[1]
    assert isinstance(stored, FragmentStored)
    assert stored.gap is not None
    assert stored.gap.cause is GapCause.UNKNOWN


def test_an_empty_chunk_is_sealed_empty(bench: Bench, media: Callable[..., Media]) -> None:
    chunk = bench.writer.open_chunk(bench.head(), media().config)
    bench.writer.stop()
    found = recover(chunk.path)
    assert [type(record) for record in found.records] == [ChunkOpened, ChunkSealed]
    assert len(ChunkFile(chunk.path).table()) == 0


def test_a_file_without_a_head_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(bytes(5000))
    with pytest.raises(DamageError):
        recover(path)
    assert path.read_bytes() == bytes(5000)


def test_preallocated_zeroes_are_cut(sealed: tuple[Path, list[StoredRecord]]) -> None:
    path, _ = sealed
    whole, data = ChunkFile(path).table(), path.read_bytes()
    path.write_bytes(data[: whole.end] + bytes(100_000))
    found = recover(path, whole.end)
    assert (found.cut_bytes, path.read_bytes()) == (100_000, data)
