"""ChunkFile: tables of sealed, growing and damaged chunks; nothing unchecked is given out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from base.errors import DamageError
from chunks.frametable import FrameTable
from chunks.reader import ChunkFile
from tests.chunks.media import Bench, Media, build


def equal(a: FrameTable, b: FrameTable) -> bool:
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))


@pytest.fixture
def sealed(bench: Bench, media: Callable[..., Media]) -> Path:
    source = media("h264", 3)
    chunk = bench.write(source.config, build(source, fragment_90k=27_000))
    bench.writer.stop()
    return chunk.path


def pictures(file: ChunkFile, table: FrameTable) -> list[bytes]:
    found = []
    for i in range(len(table)):
        data = file.read_fragment(i, table)
        at = int(table.video_at[i] - table.offset[i])
        first = int(table.video_first[i])
        for size in table.video_size[first : first + int(table.video_count[i])].tolist():
            found.append(data[at : at + size])
            at += size
    return found


def test_pictures_come_back_byte_for_byte(sealed: Path, media: Callable[..., Media]) -> None:
    file = ChunkFile(sealed)
    table = file.table()
    source = media("h264", 3)
    assert pictures(file, table) == [data for _, data in source.pictures]
    times = (table.video_dts + table.video_cts).tolist()
    assert [time - times[0] for time in times] == [pts for pts, _ in source.pictures]
    assert np.flatnonzero(table.video_key).tolist() == [0, 25, 50]
    for i in range(len(table)):
        assert table.video_dts[table.video_first[i]] == table.tfdt_90k[i]


def test_the_walk_and_the_footer_tell_the_same(sealed: Path) -> None:
    whole = ChunkFile(sealed).table()
    growing = sealed.with_name("growing.mp4")
    growing.write_bytes(sealed.read_bytes()[: whole.end])
    file = ChunkFile(growing)
    assert not file.sealed
    assert equal(file.table(), whole)
    for fragments in range(len(whole) + 1):
        upto = int(whole.offset[fragments - 1] + whole.length[fragments - 1]) if fragments else 0
        assert equal(
            ChunkFile(growing).table(upto=upto + 5 if fragments < len(whole) else upto), whole.first(fragments)
        )
        assert equal(file.table(upto=upto), whole.first(fragments))


def test_a_growing_file_is_read_further_and_then_found_sealed(sealed: Path) -> None:
    whole = ChunkFile(sealed).table()
    data = sealed.read_bytes()
    path = sealed.with_name("growing.mp4")
    path.write_bytes(data[: int(whole.offset[2]) + 100])
    file = ChunkFile(path)
    early = file.table()
    assert (len(early), file.sealed) == (2, False)
    for fragments in range(3, len(whole) + 1):
        path.write_bytes(data[: int(whole.offset[fragments - 1] + whole.length[fragments - 1])])
        assert equal(file.refresh(), whole.first(fragments))
    path.write_bytes(data)
    assert file.sealed
    assert equal(file.refresh(), whole)
    assert len(early) == 2


def test_any_flipped_bit_of_a_fragment_is_found(sealed: Path) -> None:
    file = ChunkFile(sealed)
    table = file.table()
    start, length = int(table.offset[1]), int(table.length[1])
    with sealed.open("r+b") as raw:
        for place in (*range(60), *range(60, length, 97), *range(length - 124, length)):
            good = os.pread(raw.fileno(), 1, start + place)
            os.pwrite(raw.fileno(), bytes([good[0] ^ 0x10]), start + place)
            with pytest.raises(DamageError):
                file.read_fragment(1, table)
            os.pwrite(raw.fileno(), good, start + place)
    assert file.read_fragment(1, table)


def test_another_fragment_in_its_place_is_found(sealed: Path, bench: Bench, media: Callable[..., Media]) -> None:
    """The same stream, sequence and number written by another opening of a file."""
    data = bytearray(sealed.read_bytes())
    table = ChunkFile(sealed).table()
    other = bytearray(data)
    other[: ChunkFile(sealed).header_bytes] = _other_header(sealed)
    path = sealed.with_name("other.mp4")
    path.write_bytes(other)
    with pytest.raises(DamageError):
        ChunkFile(path).read_fragment(0, table)


def _other_header(path: Path) -> bytes:
    from dataclasses import replace

    from chunks.format import pack_header

    file = ChunkFile(path)
    return pack_header(replace(file.head, opening=bytes(16)), file.config)


def test_a_spoilt_frame_table_falls_back_to_the_walk(sealed: Path) -> None:
    whole = ChunkFile(sealed).table()
    data = bytearray(sealed.read_bytes())
    data[whole.end + 60] ^= 1
    sealed.write_bytes(data)
    assert equal(ChunkFile(sealed).table(), whole)


def test_damage_below_the_durable_end_hides_only_its_fragment(sealed: Path) -> None:
    whole = ChunkFile(sealed).table()
    data = bytearray(sealed.read_bytes()[: whole.end])
    data[int(whole.offset[2]) + 36] ^= 0xFF
    path = sealed.with_name("damaged.mp4")
    path.write_bytes(data)
    assert ChunkFile(path).table().number.tolist() == [1, 2]
    kept = [n for n in whole.number.tolist() if n != 3]
    table = ChunkFile(path).table(upto=whole.end)
    assert table.number.tolist() == kept
    assert all(ChunkFile(path).read_fragment(i, table) for i in range(len(table)))


@pytest.mark.parametrize("size", [0, 7, 40, 300])
def test_a_file_without_its_head_is_refused(sealed: Path, size: int) -> None:
    sealed.write_bytes(sealed.read_bytes()[:size])
    with pytest.raises(DamageError) as found:
        ChunkFile(sealed)
    assert found.value.reason == "unfinished"


def test_a_damaged_head_and_another_file_are_refused(sealed: Path) -> None:
    data = bytearray(sealed.read_bytes())
    data[200] ^= 4
    data[300] ^= 4
    sealed.write_bytes(data)
    with pytest.raises(DamageError, match="CRC"):
        ChunkFile(sealed)
    sealed.write_bytes(b"\0\0\0\x20mdat" * 500)
    with pytest.raises(DamageError, match="not a chunk"):
        ChunkFile(sealed)


def test_the_wrong_chunk_is_refused(sealed: Path) -> None:
    with pytest.raises(DamageError, match="not"):
        ChunkFile(sealed, expect=(7, 2))


def test_closing_twice_does_nothing(sealed: Path) -> None:
    file = ChunkFile(sealed)
    file.close()
    file.close()
    with pytest.raises(OSError):
        file.table()


def test_any_one_flipped_bit_of_a_head_is_read_as_it_was_written(sealed: Path) -> None:
    whole = ChunkFile(sealed)
    data = sealed.read_bytes()
    for at in range(0, whole.header_bytes, 7):
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << at % 8
        sealed.write_bytes(spoilt)
        found = ChunkFile(sealed)
        assert (found.head, found.config, found.header_bytes) == (whole.head, whole.config, whole.header_bytes)
        assert found.read_header() == whole.read_header()
        assert len(found.table()) == len(whole.table())
