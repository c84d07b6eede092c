"""Pages that a seek reads when nothing of the index is in memory but its branch pages; a process of its own, as pages
that another process has mapped cannot be dropped.

python -m bench.cold INDEX SEEKS END_US
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from bench.archive import BEGIN_US, PAGE_BYTES
from index import Index, Snapshot

LEAVES_PER_BRANCH = (
    20  # one in so many leaf pages is read to have the branch pages read; a branch page names some hundred
)


def read_bytes() -> int:
    """What this process made the disk read."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def drop_cached(path: Path) -> None:
    """Let go of the file's pages; before it is opened as an index here."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def pages_per_seek(snapshot: Snapshot, seeks: int, end_us: int) -> float:
    """Read the branch pages in, then count."""
    streams = [row.id for row in snapshot.streams()]
    leaves = snapshot._txn.stat(snapshot._db.key_frames)["leaf_pages"] // len(streams)
    count = max(1, leaves // LEAVES_PER_BRANCH)
    for stream_id in streams:
        for i in range(count):
            snapshot.seek(stream_id, BEGIN_US + (end_us - BEGIN_US) * i // count)
    rng = random.Random(2)
    before = read_bytes()
    for _ in range(seeks):
        assert snapshot.seek(rng.choice(streams), rng.randint(BEGIN_US, end_us)) is not None
    return (read_bytes() - before) / PAGE_BYTES / seeks


def main(path: Path, seeks: int, end_us: int) -> None:
    """Print the pages per seek."""
    drop_cached(path / "data.mdb")
    with Index.open(path) as index, index.read() as snapshot:
        print(pages_per_seek(snapshot, seeks, end_us))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
