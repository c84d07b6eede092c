"""What a crash left: known before recording, put right beside it, whatever interrupts that and however often."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chunks.records import GapCause, StoredRecord
from chunks.recover import Bounds, Recovered
from chunks.volume import Volume
from index import ChunkRow, Index
from index.check import check
from recorder import startup
from recorder.committer import Committer
from recorder.startup import Past
from tests.chunks.media import START_US, Media
from tests.recorder.torn import TIMELINE, write_chunks, write_one


def settle(folder: Path, volumes: list[Volume]) -> None:
    """Settle to the end; index and files agree then."""
    with Index.open(folder / "index") as index:
        committer = Committer(index)
        committer.start()
        for volume in volumes:
            Past(index, committer).settle(volume, {}, beside=False)
        committer.stop()
        assert check(index, volumes, deep=True) == []


def _open_chunks(index: Index) -> list[ChunkRow]:
    with index.read() as snapshot:
        return snapshot.open_chunks()


def test_open_chunks_are_known_before_and_sealed_beside(tmp_path: Path, media: Callable[..., Media]) -> None:
    volume = write_chunks(tmp_path, media(), streams=20, told=1)
    with Index.open(tmp_path / "index") as index:
        committer = Committer(index)
        committer.start()
        past = Past(index, committer)
        past.settle(volume, {}, beside=True)
        resumed = past.resume(complete=True)
        with index.read() as snapshot:
            for row in snapshot.streams():
                [chunk] = snapshot.chunks(row.id, *TIMELINE)
                assert chunk.fragments == 3
                assert resumed[row.id].end_us == chunk.end_us
                assert resumed[row.id].gap_cause is GapCause.CRASH
        deadline = time.monotonic() + 20
        while _open_chunks(index) and time.monotonic() < deadline:
            time.sleep(0.05)
        committer.stop()
        assert _open_chunks(index) == []
    settle(tmp_path, [volume])
    assert len(list(volume.root.glob("*/*/*.torn-*"))) == 20


def test_what_the_disk_refuses_to_seal_is_tried_again(
    tmp_path: Path, media: Callable[..., Media], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails now and then: else what lies beyond the bytes that count would stay until the next start."""
    refused: set[Path] = set()

    def recover(path: Path, known: int, bounds: Bounds) -> Recovered:
        if path not in refused:
            refused.add(path)
            raise OSError(errno.EIO, "for a test")
        return real(path, known, bounds)

    real = startup.recover
    monkeypatch.setattr(startup, "recover", recover)
    monkeypatch.setattr(startup, "AGAIN_S", 0.05)
    volume = write_chunks(tmp_path, media(), streams=3, told=1)
    with Index.open(tmp_path / "index") as index:
        committer = Committer(index)
        committer.start()
        past = Past(index, committer)
        past.settle(volume, {}, beside=True)
        deadline = time.monotonic() + 20
        while _open_chunks(index) and time.monotonic() < deadline:
            time.sleep(0.05)
        past.end()
        committer.stop()
        assert _open_chunks(index) == []
        [told_of] = past.recoveries.values()
        assert (told_of.sealed, told_of.failed, told_of.done) == (3, 0, True)
    assert len(refused) == 3


def test_a_chunk_that_a_failed_commit_missed_is_found(tmp_path: Path, media: Callable[..., Media]) -> None:
    """Between chunks that the index knows, so that no number above the last one tells of it."""
    volume = write_chunks(tmp_path, media(), streams=2, chunks=3, missed={2}, torn=False)
    settle(tmp_path, [volume])
    with Index.open(tmp_path / "index") as index, index.read() as snapshot:
        assert [len(snapshot.chunks(row.id, *TIMELINE)) for row in snapshot.streams()] == [3, 3]


def test_the_first_writing_of_what_was_replayed_is_kept_aside(tmp_path: Path, media: Callable[..., Media]) -> None:
    """After a restart: the stream's next chunk, on another volume, says from where on the older file does not count."""
    source = media()
    bad, good = (Volume.create(tmp_path / name, bytes(16)) for name in ("bad", "good"))
    told: list[StoredRecord] = []
    lost: list[StoredRecord] = []
    with Index.open(tmp_path / "index", create=True) as index:
        with index.write() as transaction:
            stream_id = transaction.ensure_stream("s0.main").id
        write_one(good, source, stream_id, 1, told.extend, start_us=START_US - 60_000_000)
        write_one(bad, source, stream_id, 2, lost.extend)
        write_one(good, source, stream_id, 3, told.extend)
        with index.write() as transaction:
            transaction.apply(told)
    for _ in range(2):
        settle(tmp_path, [bad, good])
        assert not list(bad.root.glob("*/*/*.mp4"))
        assert len(list(bad.root.glob("*/*/*.torn-0"))) == 1
