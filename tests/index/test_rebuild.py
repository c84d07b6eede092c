from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base.errors import ConfigError
from chunks.records import Gap, GapCause, StoredRecord
from chunks.volume import Volume
from index import Camera, Index
from index.check import check
from index.rebuild import rebuild
from index.register import register_path

BASE_US = 1_790_000_000_000_000
Record = Callable[..., list[StoredRecord]]
Rows = dict[str, list[tuple[bytes, bytes]]]


def dump(path: Path, without: tuple[str, ...] = ("meta",)) -> Rows:
    with Index.open(path, readonly=True) as index, index.read() as snapshot:
        return {
            name: list(snapshot._txn.cursor(db).iternext())
            for name, db in snapshot._db._asdict().items()
            if name not in without
        }


def record_archive(index: Index, volume: Volume, record: Record) -> None:
    with index.write() as transaction:
        transaction.put_camera(Camera(id="cam1", main="rtsp://u:p@host/1"))
        transaction.put_camera(Camera(id="cam2", main="rtsp://u:p@host/2"))
        loss = Gap(1, BASE_US + 1_000_000, BASE_US + 1_400_000, GapCause.PACKET_LOSS, 7)
        transaction.apply(record(1, 1, BASE_US, 30, gap=loss))
        transaction.apply(record(2, 1, BASE_US, 6))
        transaction.apply(record(1, 2, BASE_US + 50_000_000, 10, gap_us=BASE_US + 30_000_000))
        transaction.apply(record(1, 3, BASE_US + 60_000_000, 5, seal=False))


def test_an_index_made_again_has_the_same_rows(index: Index, volume: Volume, record: Record, tmp_path: Path) -> None:
    record_archive(index, volume, record)
    index.close()
    before = dump(index.path)
    shutil.rmtree(index.path)
    seen: list[tuple[int, int]] = []
    report = rebuild(index.path, [volume], lambda done, total: seen.append((done, total)))
    assert dump(index.path) == before
    assert (report.streams, report.chunks, report.cameras, report.findings) == (2, 4, 2, [])
    assert report.fragments > 50
    assert report.key_frames == 15 + 3 + 5 + 3
    assert seen == [(4, 4)]
    with Index.open(index.path, node=volume.node) as again:
        assert check(again, [volume], deep=True) == []
        with again.read() as snapshot:
            assert [camera.id for camera in snapshot.cameras()] == ["cam1", "cam2"]
            assert snapshot.gaps(1, 0, 2**62) == [
                Gap(1, BASE_US + 1_000_000, BASE_US + 1_400_000, GapCause.PACKET_LOSS, 7),
                Gap(1, BASE_US + 30_000_000, BASE_US + 50_000_000, GapCause.OFFLINE),
            ]


def test_the_index_in_place_is_kept_beside_the_new_one(index: Index, volume: Volume, record: Record) -> None:
    record_archive(index, volume, record)
    with pytest.raises(ConfigError, match="open in this process"):
        rebuild(index.path, [volume])
    index.close()
    before = dump(index.path)
    for _ in range(2):
        rebuild(index.path, [volume])
        assert dump(index.path) == before
        assert dump(index.path.with_name("index.replaced")) == before
    assert sorted(path.name for path in index.path.parent.iterdir()) == [
        "index",
        "index.replaced",
        "media",
        "register.json",
    ]


def test_without_the_register_only_cameras_are_missing(index: Index, volume: Volume, record: Record) -> None:
    record_archive(index, volume, record)
    index.close()
    before = dump(index.path, ("meta", "cameras"))
    register_path(index.path).unlink()
    report = rebuild(index.path, [volume])
    assert [finding.where for finding in report.findings] == [str(register_path(index.path))]
    assert dump(index.path, ("meta", "cameras")) == before


def test_files_that_cannot_be_taken_in_are_reported_and_cost_nothing_else(
    index: Index, volume: Volume, record: Record, tmp_path: Path
) -> None:
    record_archive(index, volume, record)
    index.close()
    before = dump(index.path)
    first, *_, last = sorted((volume.root / "cam1.main").glob("*/*.mp4"))
    shutil.copy(first, first.with_name("000000.000Z-77.mp4"))  # a chunk twice
    last.with_name("000001.000Z-78.mp4").write_bytes(b"no chunk at all" * 100)
    last.with_name("000002.000Z-79.mp4").write_bytes(b"")
    last.with_name("000003.000Z-80.mp4").write_bytes(last.read_bytes()[:100])
    last.with_name("notes.mp4").write_bytes(b"not ours")
    report = rebuild(index.path, [volume])
    names = {Path(finding.where).name for finding in report.findings}
    assert names == {"000001.000Z-78.mp4", "000002.000Z-79.mp4", "000003.000Z-80.mp4"}
    assert report.chunks == 5
    assert dump(index.path) == before


def test_chunks_moved_to_another_volume_are_found_there(
    index: Index, volume: Volume, record: Record, tmp_path: Path
) -> None:
    record_archive(index, volume, record)
    index.close()
    other = Volume.create(tmp_path / "other", volume.node)
    shutil.move(volume.root / "cam2.main", other.root / "cam2.main")
    assert rebuild(index.path, [volume, other]).findings == []
    with Index.open(index.path) as again:
        assert check(again, [volume, other], deep=True) == []
        with again.read() as snapshot:
            assert {row.volume for row in snapshot.chunks(2, 0, 2**62)} == {other.id}


def test_a_rebuild_that_died_is_begun_anew(index: Index, volume: Volume, record: Record, monkeypatch: Any) -> None:
    record_archive(index, volume, record)
    index.close()
    before = dump(index.path)

    def die(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(index.path, [volume], die)
    assert dump(index.path) == before
    assert rebuild(index.path, [volume]).findings == []
    assert dump(index.path) == before
