"""Which pictures of a recorded data folder play, in a process of its own: python -m tests.faults.played FOLDER

prints JSON: a hash of each picture that a clip of everything gives, and the ranges declared damaged in it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from base.errors import DamageError
from chunks.records import GapCause
from chunks.volume import Volume
from clips.plan import ClipPlan, plan
from clips.store import ChunkStore
from index import Index

TRIES = 10_000


def pictures(made: ClipPlan) -> list[str]:
    """Every picture of the plan, read and checked; what fails is remembered by the store, as a clip's reader does."""
    found = []
    for piece in made.pieces:
        table = piece.chunk.table
        for i in range(piece.first, piece.last):
            try:
                data = piece.chunk.read_fragment(i)
            except DamageError:
                made.store.mark_damaged(piece.chunk.row, i)
                raise
            at = int(table.video_at[i] - table.offset[i])
            first = int(table.video_first[i])
            for size in table.video_size[first : first + int(table.video_count[i])].tolist():
                found.append(hashlib.sha256(data[at : at + size]).hexdigest())
                at += size
    return found


def play(index: Index, volume: Volume) -> tuple[list[str], list[tuple[int, int]], int]:
    """Play everything of the one stream until nothing more turns out damaged: pictures, gaps, and how often."""
    store = ChunkStore({volume.id: volume.root})
    for tries in range(TRIES):
        try:
            with index.read() as snapshot:
                made = plan(snapshot, store, snapshot.streams()[0].id, 0, 1 << 60)
            found = pictures(made)
        except DamageError:
            continue
        return found, [(gap.start_us, gap.end_us) for gap in made.gaps if gap.cause is GapCause.DAMAGE], tries
    raise AssertionError("it never played")


def main() -> None:
    """Play FOLDER."""
    folder = Path(sys.argv[1])
    with Index.open(folder / "index", readonly=True) as index:
        found, gaps, tries = play(index, Volume.open(folder / "media"))
    print(json.dumps({"pictures": found, "gaps": gaps, "tries": tries}))


if __name__ == "__main__":
    main()
