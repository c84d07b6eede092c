"""VolumeWriter: order and durability of records, bounds, failures."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from base.errors import VolumeError
from chunks import writer as writer_module
from chunks.reader import ChunkFile
from chunks.records import ChunkOpened, ChunkSealed, FragmentStored, Gap, GapCause, StoredRecord
from chunks.recover import recover
from chunks.volume import Volume
from chunks.writer import OpenChunk, VolumeWriter
from tests.chunks.media import START_US, Bench, Media, build


def test_records_tell_what_the_file_holds(bench: Bench, media: Callable[..., Media]) -> None:
    source = media()
    fragments = build(source)
    chunk = bench.write(source.config, fragments)
    bench.writer.stop()
    opened, *stored, sealed = bench.records
    assert isinstance(opened, ChunkOpened)
    assert isinstance(sealed, ChunkSealed)
    file = ChunkFile(chunk.path, expect=(7, 1))
    table = file.table()
    assert (opened.head, opened.config, opened.size) == (file.head, file.config, file.header_bytes)
    assert opened.config == source.config
    for i, record in enumerate(stored):
        assert isinstance(record, FragmentStored)
        assert (record.offset, record.length, record.number) == (table.offset[i], table.length[i], i + 1)
        assert (record.start_us, record.end_us, record.key) == (table.wall_us[i], table.end_us[i], table.key[i])
        assert (record.samples, record.media_bytes) == (table.video_count[i], table.media_bytes[i])
    assert (sealed.size, sealed.table_offset) == (os.path.getsize(chunk.path), chunk.size)
    assert sealed.end_us == chunk.end_us == table.end_us[-1]
    assert os.stat(chunk.path).st_blocks * 512 < chunk.size + 65536, "preallocated blocks were not given back"
    assert bench.writer.queue_bytes == 0


def test_nothing_is_told_before_it_is_synced(
    bench: Bench, media: Callable[..., Media], monkeypatch: pytest.MonkeyPatch
) -> None:
    held, go = threading.Event(), threading.Event()
    sync = os.fdatasync

    def slow(handle: int) -> None:
        held.set()
        assert go.wait(20)
        sync(handle)

    monkeypatch.setattr(os, "fdatasync", slow)
    source = media()
    bench.write(source.config, build(source))
    assert held.wait(20)
    assert bench.records == []
    assert bench.writer.queue_bytes > 0
    go.set()
    bench.writer.stop()
    assert len(bench.records) == 5


def test_many_chunks_take_one_sync(bench: Bench, media: Callable[..., Media], monkeypatch: pytest.MonkeyPatch) -> None:
    if not writer_module.SYNCFS_PROVES:
        pytest.skip("this kernel's syncfs does not report errors")
    monkeypatch.setattr(os, "fdatasync", lambda handle: pytest.fail("synced file by file"))
    source = media()
    for _ in range(writer_module.SYNC_EACH_MAX + 1):
        bench.write(source.config, build(source))
    bench.writer.stop()
    assert bench.failures == []
    assert sum(isinstance(record, ChunkSealed) for record in bench.records) == writer_module.SYNC_EACH_MAX + 1


def test_a_full_queue_refuses_and_queues_nothing(tmp_path: Path, media: Callable[..., Media]) -> None:
    volume = Volume.create(tmp_path / "disk", bytes(16))
    records: list[StoredRecord] = []
    writer = VolumeWriter(volume, on_commit=records.extend, on_failure=lambda *_: None, queue_bytes_max=4000)
    source = media()
    bench = Bench(volume, writer, records, [])
    chunk = writer.open_chunk(bench.head(), source.config)
    taken = []
    for fragment in build(source):
        before = (chunk.size, chunk.fragments, chunk.end_us)
        base = fragment.first_dts_90k
        taken.append(writer.append(chunk, fragment, start_us=1, end_us=2, video_base_90k=base, audio_base=0))
        if not taken[-1]:
            assert (chunk.size, chunk.fragments, chunk.end_us) == before
    assert False in taken
    writer.start()
    writer.stop()
    assert sum(isinstance(record, FragmentStored) for record in records) == sum(taken)


def test_a_failed_sync_is_final_and_keeps_what_was_not_synced(
    bench: Bench, media: Callable[..., Media], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fail(handle: int) -> None:
        tried.append(handle)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    source = media()
    fragments = build(source)
    chunk = bench.write(source.config, fragments)
    bench.writer.stop()
    assert bench.records == []
    assert len(tried) == 1
    [(error, chunks)] = bench.failures
    assert (error.reason, chunks) == ("eio", [chunk])
    assert chunk.failed
    assert [fragment for _, fragment, _ in bench.writer.unsynced()] == fragments
    assert not bench.writer.append(chunk, fragments[0], start_us=1, end_us=2, video_base_90k=0, audio_base=0)


def test_a_refused_write_loses_only_what_it_refused(bench: Bench, media: Callable[..., Media]) -> None:
    """The process's own file size limit plays the full disk: a short write, then an error."""
    source = media()
    fragments = build(source)
    chunk = bench.writer.open_chunk(bench.head(), source.config)
    base = fragments[0].first_dts_90k
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = chunk.size
    try:
        for fragment in fragments:
            bench.writer.append(chunk, fragment, start_us=1, end_us=2, video_base_90k=base, audio_base=0)
            if chunk.fragments == 1:
                before = chunk.size
                resource.setrlimit(resource.RLIMIT_FSIZE, (before + 100, hard))
        bench.writer.stop()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [type(record) for record in bench.records] == [ChunkOpened, FragmentStored]
    assert len(bench.failures) == 1
    assert [fragment for _, fragment, _ in bench.writer.unsynced()] == fragments[1:]
    assert chunk.path.stat().st_size == before + 100
    assert len(recover(chunk.path, before).records) == 3


def test_what_was_not_synced_can_be_written_elsewhere(
    bench: Bench, media: Callable[..., Media], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = media()
    fragments = build(source)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", lambda handle: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        chunk = bench.write(source.config, fragments, seal=False)
        bench.writer.stop()
    other = Volume.create(tmp_path / "other", bytes(16))
    records: list[StoredRecord] = []
    writer = VolumeWriter(other, on_commit=records.extend, on_failure=lambda *_: None)
    writer.start()
    again = writer.open_chunk(bench.head(), chunk.config)
    base = fragments[0].first_dts_90k
    for _, fragment, record in bench.writer.unsynced():
        assert writer.append(
            again, fragment, start_us=record.start_us, end_us=record.end_us, video_base_90k=base, audio_base=0
        )
    writer.seal(again)
    writer.stop()
    file = ChunkFile(again.path)
    table = file.table()
    assert len(table) == len(fragments)
    assert all(file.read_fragment(i, table) for i in range(len(table)))


@pytest.mark.parametrize(("code", "reason"), [(28, "enospc"), (30, "readonly"), (5, "eio")])
def test_a_file_that_cannot_be_made(
    bench: Bench, media: Callable[..., Media], monkeypatch: pytest.MonkeyPatch, code: int, reason: str
) -> None:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pwrite", fail)
    source = media()
    chunk = bench.write(source.config, build(source))
    bench.writer.stop()
    [(error, chunks)] = bench.failures
    assert (error.reason, chunks) == (reason, [chunk])
    assert bench.records == []


def test_a_volume_that_is_gone(tmp_path: Path) -> None:
    volume = Volume.create(tmp_path / "disk", bytes(16))
    (tmp_path / "disk" / "keyreel-volume.json").unlink()
    (tmp_path / "disk").rmdir()
    failures: list[tuple[VolumeError, list[OpenChunk]]] = []
    writer = VolumeWriter(volume, on_commit=print, on_failure=lambda e, c: failures.append((e, c)))
    writer.start()
    writer.stop()
    assert [(error.reason, chunks) for error, chunks in failures] == [("missing", [])]


def test_a_chunk_is_never_written_over(bench: Bench, media: Callable[..., Media]) -> None:
    source = media()
    chunk = bench.write(source.config, build(source))
    bench.sequence -= 1
    bench.write(source.config, build(source))
    bench.writer.stop()
    [(error, _)] = bench.failures
    assert "File exists" in str(error)
    assert chunk.path.stat().st_size >= chunk.size


def test_a_gap_travels_in_the_seal(bench: Bench, media: Callable[..., Media]) -> None:
    source = media()
    [first, *_] = build(source)
    chunk = bench.writer.open_chunk(bench.head(), source.config)
    gap = Gap(7, START_US - 5_000_000, START_US - 1_000_000, GapCause.OVERLOAD, 12)
    bench.writer.append(
        chunk, first, start_us=START_US, end_us=START_US + 1, video_base_90k=first.first_dts_90k, audio_base=0,
        camera_us=START_US - 77, gap=gap,
    )  # fmt: skip
    bench.writer.stop()
    table = ChunkFile(chunk.path).table()
    found = Gap(
        7, int(table.gap_start_us[0]), int(table.gap_end_us[0]), GapCause(int(table.gap_cause[0])),
        int(table.gap_packets[0]),
    )  # fmt: skip
    assert (found, int(table.camera_us[0])) == (gap, START_US - 77)
    stored = bench.records[1]
    assert isinstance(stored, FragmentStored)
    assert stored.gap == gap
