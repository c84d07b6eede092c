"""The thread that keeps the ledgers: without a key, with a disk that takes nothing, over restarts, in its bounds."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import pytest

from base.clock import SystemClock
from base.config import load
from base.datadir import DataDir
from base.errors import VolumeError
from chunks.reader import head_of
from chunks.records import ChunkOpened, StoredRecord
from chunks.volume import Volume
from chunks.writer import OpenChunk, VolumeWriter
from evidence.chain import Proven, claims, prove
from evidence.files import read_ledger
from evidence.keys import Keys
from evidence.ledger import Chunk, ChunkState, Content, Head, Missed, Session, pack_entry
from evidence.proof import prove_chunk
from native.fragment import Fragment
from recorder import ledgers as ledgers_module
from recorder.ledgers import Ledgers, make_keys
from recorder.share import WHOLE
from recorder.storedclock import StoredClock
from tests.chunks.media import Media, build
from tests.chunks.test_format import head

DEADLINE_S = 30.0
STREAM = "gate.main"


def until(what: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.02)


class Rig:
    """A data folder, a volume, its writer and the ledgers of one recorder's life after the other."""

    def __init__(self, path: Path, fragments: Callable[[], list[Fragment]]) -> None:
        self.datadir = DataDir.create(path / "data")
        self.volume = Volume.create(path / "disk", bytes(16))
        self.folder = self.datadir.ledger_path / STREAM
        self.fragments = fragments
        self.sequence = 0
        self.records: list[StoredRecord] = []
        self.begin()

    def begin(self) -> None:
        self.ledgers = Ledgers(self.datadir, load(), WHOLE, "keyreel test")
        stored = StoredClock(SystemClock())
        self.ledgers.start(stored, lambda: {self.volume.id: self.volume.root}, lambda stream: 0)
        self.writer = VolumeWriter(
            self.volume, on_commit=self.records.extend, on_failure=self._failed, sync_interval_s=0.05,
            witness=self.ledgers.witness,
        )  # fmt: skip
        self.writer.start()

    def _failed(self, error: VolumeError, chunks: list[OpenChunk]) -> None:
        self.told = {chunk.path: chunk.durable_size for chunk in chunks}
        self.ledgers.volume_failed(self.volume.id)

    def record(self, *, seal: bool = True) -> None:
        """One chunk of real fragments; its head has an opening of its own."""
        from dataclasses import replace

        self.sequence += 1
        start_us = SystemClock().wall_us()
        config = self.config
        one = replace(
            head(), stream_name=STREAM, sequence=self.sequence, opening=self.sequence.to_bytes(16, "big"),
            volume=self.volume.id, start_us=start_us, gap_start_us=0,
        )  # fmt: skip
        chunk = self.writer.open_chunk(one, config)
        fragments = self.fragments()
        for i, fragment in enumerate(fragments):
            assert self.writer.append(
                chunk, fragment, start_us=start_us + i * 10, end_us=start_us + i * 10 + 10,
                video_base_90k=fragments[0].first_dts_90k, audio_base=0,
            )  # fmt: skip
        if seal:
            self.writer.seal(chunk)

    def end(self) -> None:
        self.writer.stop()
        self.ledgers.stop()

    def entries(self) -> list[Content]:
        return [entry.content for entry in read_ledger(self.folder)]

    def heads(self) -> int:
        return sum(isinstance(one, Head) for one in self.entries())

    def proven(self) -> Proven:
        keys = Keys.open(self.datadir.keys_path)
        return prove(read_ledger(self.folder), keys.check_signature)

    def check_chunks(self) -> int:
        """Every fragment of every chunk is proven; how many."""
        said = claims(read_ledger(self.folder))
        count = 0
        for path in sorted((self.volume.root / STREAM).glob("*/*.mp4")):
            sequence = int(path.stem.rpartition("-")[2])
            proof = prove_chunk(path, said[sequence.to_bytes(16, "big")])
            assert proof.sound
            assert proof.proven == proof.fragments > 0
            count += proof.proven
        return count


@pytest.fixture
def rig(tmp_path: Path, media: Callable[..., Media], monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(ledgers_module, "TICK_S", 0.05)
    monkeypatch.setattr(ledgers_module, "RETRY_S", 0.1)
    monkeypatch.setattr("evidence.keys.RSA_BITS", 1024)
    source = media("h264")
    Rig.config = source.config  # type: ignore[attr-defined]
    one = Rig(tmp_path, lambda: build(source, fragment_90k=9_000))
    yield one
    one.end()


def test_each_sealed_chunk_is_signed_and_proven(rig: Rig) -> None:
    for count in range(1, 4):
        rig.record()
        until(lambda count=count: rig.folder.exists() and rig.heads() >= count)
    rig.end()
    assert rig.proven().sound
    assert rig.check_chunks() >= 3 * 10
    assert isinstance(rig.entries()[-1], Head)
    assert rig.ledgers.status.reason == ""
    assert rig.ledgers.status.heads == rig.heads()
    assert rig.ledgers.status.entries > rig.ledgers.status.heads


def test_a_head_signs_nothing_that_is_not_synced(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each signing everything before it was synced; files are read with the sizes of the last sync."""
    from evidence.journal import Journal

    broken: list[int] = []
    real = Journal.append_entry

    def watched(self: Journal, entry: object) -> int:
        if self.durable_number != self.at.number:
            broken.append(self.at.number)
        return real(self, entry)  # type: ignore[arg-type]

    monkeypatch.setattr(Journal, "append_entry", watched)
    for count in range(1, 4):
        rig.record()
        until(lambda count=count: rig.folder.exists() and rig.heads() >= count)
    assert not broken


def test_a_ledger_goes_on_over_restarts(rig: Rig) -> None:
    for _ in range(3):
        rig.record()
        rig.end()
        rig.begin()
    rig.end()
    proven = rig.proven()
    assert proven.sound
    assert proven.heads >= 3
    assert rig.check_chunks() >= 3 * 10


def test_a_failed_volume_ends_its_chunks_at_what_was_told(rig: Rig) -> None:
    from chunks.recover import Bounds, recover

    rig.record(seal=False)
    until(lambda: rig.records and rig.writer.queue_bytes == 0)
    rig.record(seal=False)
    rig.writer.refuse(VolumeError("it left", reason="missing"))
    until(lambda: rig.folder.exists() and any(isinstance(one, Chunk) for one in rig.entries()))
    rig.end()
    for path, size in rig.told.items():
        if path.exists() and size:
            recover(path, 0, Bounds(size))  # what a slot does when the volume is back
    said = claims(read_ledger(rig.folder))
    proofs = [prove_chunk(path, said[one]) for path in rig.told if path.exists() and (one := _opening(path)) in said]
    assert proofs
    assert all(proof.sound and proof.proven == proof.fragments for proof in proofs)
    states = {one.state for one in rig.entries() if isinstance(one, Chunk)}
    assert states == {ChunkState.GIVEN_UP}
    assert rig.proven().sound


def _opening(path: Path) -> bytes:
    found = head_of(path)
    return found.opening if found is not None else b""


def test_what_a_crash_left_uncovered_is_read_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder dies before the ledger heard of one chunk's end, and of another chunk at all."""
    from chunks.recover import recover

    monkeypatch.setattr("recorder.found.LOOK_S", 0.05)
    rig.record(seal=False)
    until(lambda: rig.writer.queue_bytes == 0)
    rig.ledgers.note(7, STREAM, Session(1, 1, 0, ""))  # the life ends with a root over some of the chunk
    rig.end()
    covered = [one for one in rig.entries() if isinstance(one, Chunk)][-1]
    assert covered.state == ChunkState.GROWING
    rig.ledgers = Ledgers(rig.datadir, load(), WHOLE, "keyreel test")  # hears nothing
    rig.writer = VolumeWriter(rig.volume, on_commit=rig.records.extend, on_failure=lambda error, chunks: None)
    rig.writer.start()
    rig.record()
    rig.writer.stop()
    first = min((rig.volume.root / STREAM).glob("*/*.mp4"), key=lambda path: path.stem[-1])
    rig.begin()
    recover(first, 0)  # only now is it sealed
    until(lambda: len(claims(read_ledger(rig.folder))) == 2)
    rig.end()
    states = [one.state for one in rig.entries() if isinstance(one, Chunk)]
    assert ChunkState.FOUND in states
    assert rig.proven().sound
    assert rig.check_chunks() >= 2 * 10


def test_a_disk_that_takes_nothing_costs_no_record_and_no_entry(rig: Rig) -> None:
    rig.datadir.ledger_path.write_bytes(b"")  # where the folder should be
    rig.record()
    until(lambda: rig.ledgers.status.reason == "disk")
    until(lambda: sum(isinstance(record, ChunkOpened) for record in rig.records) == 1)
    rig.record()
    until(lambda: rig.ledgers.status.waiting >= 3)
    rig.datadir.ledger_path.unlink()
    until(lambda: rig.ledgers.status.reason == "")
    rig.end()
    assert rig.proven().sound
    assert rig.check_chunks() >= 2 * 10
    assert not [one for one in rig.entries() if isinstance(one, Missed)]


def test_what_passes_the_bounds_is_told_and_the_rest_stays_provable(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.datadir.ledger_path.write_bytes(b"")
    rig.record()
    until(lambda: rig.ledgers.status.reason == "disk")
    monkeypatch.setattr(ledgers_module, "ENTRIES_MAX", 1000)
    for number in range(300):
        rig.ledgers.note(7, STREAM, Session(number, 1, 0, ""))
    next(iter(rig.ledgers._streams.values())).scribe.waiting_max = 50
    until(lambda: next(iter(rig.ledgers._streams.values())).scribe.missed > 200)
    rig.datadir.ledger_path.unlink()
    until(lambda: rig.ledgers.status.reason == "")
    rig.end()
    assert rig.proven().sound
    (missed,) = [one for one in rig.entries() if isinstance(one, Missed)]
    assert missed.entries > 200
    assert rig.ledgers.status.missed == missed.entries
    assert missed.reason == "disk"


def test_without_its_key_a_node_records_and_says_that_nothing_is_signed(rig: Rig) -> None:
    rig.record()
    until(lambda: rig.folder.exists() and rig.heads() >= 1)
    rig.end()
    private = next(rig.datadir.keys_path.glob("ledger-*.pem"))
    kept = private.read_bytes()
    private.unlink()
    rig.begin()
    until(lambda: rig.ledgers.status.reason == "no-key")
    assert "is missing" in rig.ledgers.status.detail
    before = rig.heads()
    rig.record()
    until(lambda: sum(isinstance(one, Chunk) for one in rig.entries()) >= 2)
    assert rig.heads() == before
    private.write_bytes(kept)
    private.chmod(0o600)
    until(lambda: rig.heads() > before)
    assert rig.ledgers.status.reason == ""
    rig.end()
    assert rig.proven().sound


def test_keys_that_are_gone_are_not_made_anew_in_silence(rig: Rig) -> None:
    rig.record()
    until(lambda: rig.folder.exists() and rig.heads() >= 1)
    rig.end()
    for path in rig.datadir.keys_path.iterdir():
        path.unlink()
    rig.begin()
    until(lambda: rig.ledgers.status.reason == "no-key")
    assert not list(rig.datadir.keys_path.glob("*.pem"))


def test_a_rotated_key_is_taken_up(rig: Rig) -> None:
    rig.record()
    until(lambda: rig.folder.exists() and rig.heads() >= 1)
    new = Keys.open(rig.datadir.keys_path).rotate("ledger", None, SystemClock().wall_us())
    rig.record()
    until(lambda: any(isinstance(one, Head) and one.key.hex() == new.id for one in rig.entries()))
    rig.end()
    assert rig.proven().sound
    assert len({one.key for one in rig.entries() if isinstance(one, Head)}) == 2


def test_too_many_hashes_at_once_are_let_go_of_and_counted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers_module, "LEAVES_MAX", 5)
    rig.record()
    until(lambda: rig.ledgers.status.missed > 0)
    monkeypatch.undo()
    rig.ledgers.note(7, STREAM, Session(1, 1, 0, ""))
    rig.end()
    assert rig.proven().sound


def test_trouble_with_one_ledger_is_that_ledgers_alone(rig: Rig) -> None:
    """One folder is not to be written, another ledger is of a later version: the third is written and signed."""
    later = pack_entry(0, 1, bytes(32), Session(1, 1, 0, "")).raw
    body = bytearray(later[:-4])
    body[3] = 9
    (rig.datadir.ledger_path / "later.main").mkdir(parents=True)
    kept = bytes(body) + crc32(body).to_bytes(4, "big")
    (rig.datadir.ledger_path / "later.main" / "000000000000.ledger").write_bytes(kept)
    hall = rig.datadir.ledger_path / "hall.main"
    hall.write_bytes(b"")
    rig.ledgers.note(8, "hall.main", Session(1, 1, 0, ""))
    rig.ledgers.note(9, "later.main", Session(1, 1, 0, ""))
    until(lambda: rig.ledgers.status.reason in ("disk", "format"))
    rig.record()
    until(lambda: rig.folder.exists() and rig.heads() >= 1)
    assert (rig.datadir.ledger_path / "later.main" / "000000000000.ledger").read_bytes() == kept
    hall.unlink()
    until(lambda: hall.is_dir() and any(isinstance(entry.content, Session) for entry in read_ledger(hall)))
    rig.end()
    assert rig.proven().sound


def test_a_node_that_keeps_no_ledgers_has_keys_for_its_exports(tmp_path: Path) -> None:
    datadir = DataDir.create(tmp_path / "data")
    make_keys(datadir, load(), SystemClock().wall_us())
    assert Keys.open(datadir.keys_path).export_key(None).certificates_pem
    (datadir.keys_path / "keys.json").write_text("{")
    make_keys(datadir, load(), SystemClock().wall_us())  # says so, and records all the same
    assert (datadir.keys_path / "keys.json").read_text() == "{"


@pytest.mark.needs_mount
def test_a_full_disk_takes_all_of_it_when_there_is_room_again(rig: Rig) -> None:
    folder = rig.datadir.ledger_path
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "keyreel-test", folder], check=True)
    try:
        rig.record()
        until(lambda: rig.folder.exists() and rig.heads() >= 1)
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1024))
        for number in range(100):  # more than the room in the file's last page
            rig.ledgers.note(7, STREAM, Session(number, 1, 0, "x" * 100))
        until(lambda: rig.ledgers.status.reason == "disk")
        assert "No space left" in rig.ledgers.status.detail
        rig.record()
        until(lambda: rig.ledgers.status.waiting > 100)
        assert rig.proven().sound
        filler.unlink()
        until(lambda: rig.ledgers.status.reason == "" and rig.ledgers.status.waiting == 0)
        rig.end()
        assert rig.proven().sound
        assert rig.check_chunks() >= 2 * 10
        assert [one.run for one in rig.entries() if isinstance(one, Session)] == list(range(100))
    finally:
        rig.end()
        subprocess.run(["umount", "-l", folder], check=True)
