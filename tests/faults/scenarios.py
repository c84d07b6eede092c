"""What a node does to its disk, each from begin to end in one process, to be killed or cut at any of its calls.

Kept true: each scenario may be done again after it was interrupted, and then ends; what it promises meanwhile it writes
to `told(folder)`, which lies beside the folder and not in it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import lmdb

import recorder.ledgers
from base.clock import SystemClock
from base.config import Config, EvidenceConfig, RetentionConfig
from base.datadir import DataDir
from base.errors import KeyreelError
from base.units import US
from chunks.volume import Volume
from chunks.writer import OpenChunk, VolumeWriter
from clips.mp4 import ClipFile
from clips.plan import plan
from clips.store import ChunkStore
from index import Index, schema
from index.expire import garbage
from index.holds import Hold, holds, place
from index.rebuild import chunk_files
from index.rebuild import rebuild as rebuild_index
from index.register import Camera
from keyreel.node import known_volumes, open_node, prepare_index, recording
from recorder.committer import Committer
from recorder.keeper import Keeper
from recorder.ledgers import Ledgers
from recorder.purge import Purger
from recorder.share import WHOLE
from recorder.slot import Slot
from recorder.startup import resume
from recorder.storedclock import StoredClock
from tests.chunks.media import START_US, Media, build, encode_video
from tests.recorder.test_purge import HandClock
from tests.recorder.torn import head_of

STREAMS: Final = 2
CHUNKS: Final = 2
DEADLINE_S: Final = 30.0
HOLD: Final = Hold(
    streams=("s0.main",), start_us=START_US, end_us=START_US + 3 * US, reason="a test", owner="nobody",
    created_us=START_US,
)  # fmt: skip
FIRST_90K: Final = 5_000_000  # where `build` begins


def told(folder: Path) -> Path:
    """Where a scenario writes what it promised: a line each time, with the moment."""
    return folder.with_name(f"{folder.name}.told")


def _tell(folder: Path, **promise: object) -> None:
    with told(folder).open("a") as file:
        file.write(json.dumps({"at_ns": time.time_ns(), **promise}) + "\n")


@cache
def media() -> Media:
    """Three seconds, a key frame and a fragment in each."""
    return encode_video("h264")


def first_start(folder: Path) -> None:
    """A node is made in an empty folder."""
    with recording(open_node(folder, create=True)):
        pass


def start(folder: Path) -> None:
    """What every start does before it records: identity, index, then what an earlier process left."""
    first_start(folder)
    datadir = DataDir.open(folder)
    with Index.open(datadir.index_path) as index:
        resume(index, known_volumes(datadir), complete=True)


def record(folder: Path) -> None:
    """Chunks begin, grow, are sealed, and the next begin; each fragment is told when it is durable."""
    _record(folder, None)


def ledger(folder: Path) -> None:
    """The same, with keys made and ledgers kept; what of these is durable is told."""
    recorder.ledgers.TICK_S = 0.01  # type: ignore[misc]
    datadir = DataDir.open(folder)
    ledgers = Ledgers(datadir, Config(evidence=EvidenceConfig(head_s=1)), WHOLE, "a test")
    ledgers.start(StoredClock(SystemClock()), lambda: datadir.volumes, lambda _: 0)
    _record(folder, ledgers)
    ledgers.stop()
    _tell(folder, entries=_durable_entries(ledgers))


def _durable_entries(ledgers: Ledgers) -> dict[str, tuple[int, str]]:
    """By stream: how many entries are on stable storage, and the hash of the last of them."""
    journals = {one.name: one.journal for one in list(ledgers._streams.values()) if one.journal is not None}
    ends = {name: journal._durable for name, journal in journals.items() if journal.durable_number}
    return {name: (end.number, end.previous.hex()) for name, end in ends.items()}


def _record(folder: Path, ledgers: Ledgers | None) -> None:
    datadir = DataDir.open(folder)
    [volume] = known_volumes(datadir)
    with Index.open(datadir.index_path) as index:
        going_on = resume(index, [volume], complete=True)
        committer = Committer(index)
        committer.start()
        writer = VolumeWriter(
            volume, on_commit=committer.submit, on_failure=lambda *_: None, sync_interval_s=0.01,
            witness=ledgers.witness if ledgers is not None else None,
        )  # fmt: skip
        writer.start()
        ids = [committer.call(lambda txn, i=i: txn.ensure_stream(f"s{i}.main").id).result() for i in range(STREAMS)]
        first = {one: going_on[one].next_sequence if one in going_on else 1 for one in ids}
        after_us = max([one.end_us for one in going_on.values()], default=0)
        for step in range(CHUNKS):
            start_us = max(START_US, after_us + US) + step * 10 * US
            _record_chunks(folder, writer, committer, {one: first[one] + step for one in ids}, volume, start_us)
            if ledgers is not None:
                _tell(folder, entries=_durable_entries(ledgers))
        writer.stop()
        committer.stop()


def _record_chunks(
    folder: Path, writer: VolumeWriter, committer: Committer, sequences: dict[int, int], volume: Volume, start_us: int
) -> None:
    """One chunk of each stream, all fragments one after the other."""
    chunks: dict[int, OpenChunk] = {
        one: writer.open_chunk(head_of(volume, one, sequence, start_us), media().config)
        for one, sequence in sequences.items()
    }
    for together in zip(*(build(media()) for _ in chunks), strict=True):
        for chunk, fragment in zip(chunks.values(), together, strict=True):
            begin_us = start_us + (fragment.first_dts_90k - FIRST_90K) * 100 // 9
            end_us = start_us + (fragment.end_dts_90k - FIRST_90K) * 100 // 9
            assert writer.append(
                chunk, fragment, start_us=begin_us, end_us=end_us, video_base_90k=FIRST_90K, audio_base=0
            )
        _until(lambda end_us=end_us: all(committer.durable_until_us.get(one, 0) >= end_us for one in chunks))
        _tell(folder, until_us=dict(committer.durable_until_us))
    for chunk in chunks.values():
        writer.seal(chunk)


def register(folder: Path) -> None:
    """Cameras and a volume come and go."""
    datadir = DataDir.open(folder)
    with Index.open(datadir.index_path) as index:
        for i in range(3):
            with index.write() as transaction:
                transaction.put_camera(Camera(id=f"c{i}", main=f"rtsp://10.0.0.{i}/"))
            _tell(folder, cameras=[f"c{j}" for j in range(i + 1)])
        with index.write() as transaction:
            transaction.remove_camera("c1")
        _tell(folder, cameras=["c0", "c2"])
    more = folder / "more"
    if not (more / "keyreel-volume.json").exists():
        Volume.create(more, datadir.node_id)
    datadir.add_volume(Volume.open(more).id, more, "record")


def grow(folder: Path) -> None:
    """The index's map becomes too small under what is written, more than once."""
    with Index.open(DataDir.open(folder).index_path, map_bytes=1 << 20) as index:
        for end in range(10, 121, 10):  # each begins pages of its own
            with index.write() as transaction:
                for number in range(end):
                    transaction.ensure_stream(f"x{number}.main")
            _tell(folder, streams=end)
        assert index.used_bytes() > 1 << 20, "more than the map that it began with"


def upgrade(folder: Path) -> None:
    """This version opens an index of the version before: all that changes its format, and nothing else."""
    Index.open(DataDir.open(folder).index_path).close()
    assert index_format(folder) == str(schema.FORMAT_VERSION)


def make_old(folder: Path) -> None:
    """Give the index the format of the version before, which counted nothing; not one of the scenarios."""
    with lmdb.open(str(DataDir.open(folder).index_path), max_dbs=64, map_size=1 << 30) as env:
        for name in (schema.USAGE_DB, schema.ENDS):
            database = env.open_db(name, create=False)
            with env.begin(write=True) as txn:
                txn.drop(database)
        meta = env.open_db(schema.META, create=False)
        with env.begin(write=True) as txn:
            txn.put(schema.META_FORMAT, str(schema.FORMAT_WITHOUT_USAGE).encode(), db=meta)


def index_format(folder: Path) -> str:
    """As the index itself has it."""
    with lmdb.open(str(DataDir.open(folder).index_path), max_dbs=64, readonly=True) as env:
        meta = env.open_db(schema.META, create=False)
        with env.begin() as txn:
            return bytes(txn.get(schema.META_FORMAT, db=meta) or b"").decode()


def rebuild(folder: Path) -> None:
    """The index is made again."""
    datadir = DataDir.open(folder)
    rebuild_index(datadir.index_path, known_volumes(datadir))
    prepare_index(datadir)


def purge(folder: Path) -> None:
    """A chunk is held, then all else goes for its age."""
    datadir = DataDir.open(folder)
    [volume] = known_volumes(datadir)
    config = Config(retention=RetentionConfig(grace_s=0.2, days_max=7))
    with Index.open(datadir.index_path) as index:
        with index.write() as transaction:
            if not holds(transaction):
                place(transaction, HOLD)
        _tell(folder, held=HOLD.streams[0])
        committer = Committer(index)
        committer.start()
        keeper = Keeper(index, committer, config, datadir, HandClock(wall=START_US + 100 * 86_400 * US))
        slot = Slot(volume.id, volume.root, make_writer=_never, settle=lambda *_: None, on_failed=_never)
        slot.reason = ""
        purger = Purger(slot, keeper)

        def is_done() -> bool:
            purger.step()
            with index.read() as snapshot:
                return len(chunk_files(volume)) == 1 and not any(garbage(snapshot))

        _until(is_done)
        keeper.log.close()
        committer.stop()


def _never(*_: object) -> Any:
    raise AssertionError


def serve(folder: Path) -> None:
    """Each chunk that the index knows as a clip beside the folder; what is damaged is left out."""
    datadir = DataDir.open(folder)
    store = ChunkStore(datadir.volumes)
    with Index.open(datadir.index_path, readonly=True) as index, index.read() as snapshot:
        for stream in snapshot.streams():
            for row in snapshot.chunks(stream.id, 0, 1 << 60):
                with contextlib.suppress(KeyreelError):
                    clip = ClipFile(plan(snapshot, store, stream.id, row.start_us, row.end_us))
                    data = b"".join(clip.read(0, clip.size))
                    folder.with_name(f"{folder.name}.{stream.name}-{row.sequence}.clip").write_bytes(data)


SCENARIOS: Final[dict[str, Callable[[Path], None]]] = {
    one.__name__: one for one in (first_start, start, record, ledger, register, grow, upgrade, rebuild, purge, serve)
}


def _until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.002)
