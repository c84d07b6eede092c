from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import T0, Recording, video

from base.errors import DamageError, IndexDamage, VolumeError
from base.units import US
from clips.store import ChunkStore
from index import ChunkRow


def rows(recording: Recording) -> list[ChunkRow]:
    recording.flush()
    with recording.index.read() as snapshot:
        return snapshot.chunks(recording.stream_id, T0, T0 + 1000 * US)


def test_tables_are_kept_within_the_bound(recording: Recording) -> None:
    recording.add(video(), chunk_s=1)
    found = rows(recording)
    assert len(found) == 4
    one = ChunkStore({recording.volume.id: recording.volume.root}).open(recording.name, found[0]).table.nbytes
    store = ChunkStore({recording.volume.id: recording.volume.root}, bytes_max=int(one * 2.5))
    opened = [store.open(recording.name, row) for row in found]
    assert store.held_bytes <= one * 2.5
    assert store.open(recording.name, found[3]) is opened[3]
    assert store.open(recording.name, found[0]) is not opened[0]
    assert opened[0].read_fragment(0), "an evicted chunk stays readable for who holds it"


def test_few_files_stay_open(recording: Recording) -> None:
    recording.add(video(gop=5), chunk_s=0.2)
    found = rows(recording)
    assert len(found) == 20
    store = ChunkStore({recording.volume.id: recording.volume.root}, files_max=3)
    before = len(os.listdir("/proc/self/fd"))
    for row in found:
        store.open(recording.name, row)
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    store.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_chunk_in_another_ones_place_is_refused(recording: Recording) -> None:
    recording.add(video(), chunk_s=2)
    first, second = rows(recording)
    paths = recording.chunk_paths()
    paths[0].write_bytes(paths[1].read_bytes())
    with pytest.raises(DamageError, match=str(paths[0])):
        recording.store.open(recording.name, first)
    assert recording.store.open(recording.name, second)


def test_a_missing_file_and_a_cut_one(recording: Recording) -> None:
    recording.add(video(), chunk_s=2)
    first, second = rows(recording)
    paths: list[Path] = recording.chunk_paths()
    paths[0].unlink()
    with pytest.raises(VolumeError, match="gone"):
        recording.store.open(recording.name, first)
    os.truncate(paths[1], 100)
    with pytest.raises(DamageError):
        recording.store.open(recording.name, second)


@pytest.mark.parametrize("field", ["fragments", "samples", "media_bytes", "end_us", "epoch", "run", "origin_90k"])
def test_a_row_that_its_sealed_chunk_contradicts_is_the_indexs_damage(recording: Recording, field: str) -> None:
    recording.add(video(), chunk_s=2)
    row = rows(recording)[0]
    volumes = {recording.volume.id: recording.volume.root}
    assert len(ChunkStore(volumes).open(recording.name, row).table) == row.fragments
    flipped = row._replace(**{field: getattr(row, field) ^ 1024})
    with pytest.raises(IndexDamage):
        ChunkStore(volumes).open(recording.name, flipped)
