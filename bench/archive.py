"""An index of months, made without footage: what seeks, timelines and playlists are measured on.

The data set: streams × chunks of 10 minutes, 4 Mbit/s, GOPs of 4 s (one in twenty of 0.4 to 7.6 s), times and sizes
that jitter as cameras' do, an absence of 45 s every two hours; blocks and rows are made by the product's own packing,
in the order in which recording fills them. 50 million key frames over 2,000 streams; 2 million over 100 in a smoke run;
or as many as

    KEYREEL_ARCHIVE_KEY_FRAMES=1.3e9 KEYREEL_ARCHIVE=/big/disk/archive make bench PYTEST="-k 'seek or month'"

says: 1.3e9 over 2,000 streams are 30 days. A data folder that already lies in KEYREEL_ARCHIVE is used again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from base.datadir import DataDir
from base.media import StreamConfig, VideoConfig
from bench.sizes import scaled
from chunks.records import GapCause
from index import Index, Snapshot, Transaction
from index.expire import count_all
from index.schema import CHUNK, CHUNK_SEALED, DATABASES, GAP, SEQUENCE_KEY, START, TIME_KEY
from native import keyblock

BEGIN_US: Final = 1_790_000_000_000_000
CHUNK_US: Final = 600_000_000
GOP_US: Final = 4_000_000
ABSENCE_US: Final = 45_000_000
ABSENCE_EVERY: Final = 12  # chunks
BYTES_PER_US: Final = 0.5  # 4 Mbit/s
CONFIG: Final = StreamConfig(VideoConfig("h264", (), (b"\x67" + bytes(30),), (b"\x68" + bytes(6),)))
ID: Final = bytes(16)
PAGE_BYTES: Final = 4096
Times = npt.NDArray[np.int64]

KEY_FRAMES: Final = int(float(os.environ.get("KEYREEL_ARCHIVE_KEY_FRAMES") or scaled(full=50_000_000, smoke=2_000_000)))
STREAMS: Final = scaled(full=2000, smoke=100)


@dataclass(frozen=True)
class Archive:
    """A data folder whose index is full, and what it took."""

    datadir: DataDir
    key_frames: int
    end_us: int
    bytes_per_key_frame: float


def archive(scratch: Path) -> Archive:
    """The archive in KEYREEL_ARCHIVE, else in `scratch`; made when it is not there. All of it is read once."""
    folder = Path(os.environ.get("KEYREEL_ARCHIVE") or scratch)
    made = folder / "archive-is-whole"
    datadir = DataDir.create(folder)
    with Index.open(datadir.index_path, create=True, node=datadir.node_id) as index:
        if not made.exists():
            build(index, KEY_FRAMES, STREAMS)
            made.touch()
        with index.read() as snapshot:
            streams = [row.id for row in snapshot.streams()]
            key_frames = sum(len(snapshot.key_frames(stream_id, 0, 2**62)) for stream_id in streams)
            end_us = max(snapshot.chunks(streams[0], BEGIN_US, 2**62)[-1].end_us, BEGIN_US)
            return Archive(datadir, key_frames, end_us, bytes_in_use(snapshot) / key_frames)


def gops(rng: np.random.Generator) -> tuple[Times, Times]:
    """Starts and offsets of one chunk's GOPs, and where the last one ends."""
    count = CHUNK_US // GOP_US
    lengths = np.where(rng.random(count) < 0.95, GOP_US, rng.integers(GOP_US // 10, 19 * GOP_US // 10, count))
    lengths += np.rint(rng.normal(0, 1_500, count)).astype(np.int64)
    sizes = (lengths * BYTES_PER_US * rng.normal(1, 0.2, count).clip(0.3, 2)).astype(np.int64)
    return np.concatenate(([0], lengths.cumsum())), np.concatenate(([900], 900 + sizes.cumsum()))


def build(index: Index, key_frames: int, streams: int) -> None:
    """Chunk after chunk, all streams in turn; every chunk is sealed."""
    rng = np.random.default_rng(7)
    with index.write() as transaction:
        ids = [transaction.ensure_stream(f"cam{number}.main").id for number in range(1, streams + 1)]
        for stream_id in ids:
            transaction._put_config(stream_id, 1, CONFIG)
    starts = dict.fromkeys(ids, BEGIN_US)
    for sequence in range(1, max(1, round(key_frames / streams * GOP_US / CHUNK_US)) + 1):
        with index.write() as transaction:
            for stream_id, start_us in starts.items():
                times, offsets = gops(rng)
                if sequence > 1 and (sequence + stream_id) % ABSENCE_EVERY == 0:
                    start_us = put_absence(transaction, stream_id, start_us)
                put_chunk(transaction, stream_id, sequence, start_us + times, offsets)
                starts[stream_id] = start_us + int(times[-1])
    with index.write() as transaction:
        for key, row in count_all(transaction).items():
            transaction._txn.put(key, row, db=transaction._db.usage)


def put_absence(transaction: Transaction, stream_id: int, start_us: int) -> int:
    """A gap as a lost connection leaves it; its end."""
    gap = GAP.pack(start_us + ABSENCE_US, GapCause.OFFLINE, 0)
    transaction._txn.put(TIME_KEY.pack(stream_id, start_us), gap, db=transaction._db.gaps)
    return start_us + ABSENCE_US


def put_chunk(transaction: Transaction, stream_id: int, sequence: int, times: Times, offsets: Times) -> None:
    txn, databases = transaction._txn, transaction._db
    frames = zip(times[:-1].tolist(), offsets[:-1].tolist(), strict=True)
    for block_us, block in keyblock.extend(sequence, 0, b"", frames):
        txn.put(TIME_KEY.pack(stream_id, block_us), block, db=databases.key_frames)
    start_us, end_us, size = int(times[0]), int(times[-1]), int(offsets[-1])
    row = CHUNK.pack(
        sequence, 1, 1, CHUNK_SEALED, ID, end_us, size + 9000, start_us * 9 // 100, len(times) * 50, 600, size - 900,
        size,
    )  # fmt: skip
    txn.put(TIME_KEY.pack(stream_id, start_us), row, db=databases.chunks)
    txn.put(SEQUENCE_KEY.pack(stream_id, sequence), START.pack(start_us), db=databases.sequences)


def bytes_in_use(snapshot: Snapshot) -> int:
    """Pages of all databases; free pages are not counted, they are used again."""
    stats = [snapshot._txn.stat(database) for database in snapshot._db]
    assert len(stats) == len(DATABASES)
    return PAGE_BYTES * sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
