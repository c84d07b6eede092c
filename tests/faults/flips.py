"""Bits of an index flipped at rest, and what clips come of it: run as a process, as damage may end one.

    python -m tests.faults.flips FOLDER FIRST LAST

prints a line of JSON for each turn: how many clips were as they should be, refused, or wrong, and whether a rebuild
gave them back.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
from pathlib import Path

from base.errors import KeyreelError
from chunks.volume import Volume
from clips.mp4 import ClipFile
from clips.plan import plan
from clips.store import ChunkStore
from index import Index
from index.rebuild import rebuild
from index.register import register_path
from index.renewal import make_ready

Ranges = list[tuple[int, int]]


def clips(index: Index, volume: Volume, ranges: Ranges) -> list[str]:
    """A hash of each range's clip; "refused" where it is refused."""
    found = []
    store = ChunkStore({volume.id: volume.root})
    for start_us, end_us in ranges:
        try:
            with index.read() as snapshot:
                stream = snapshot.streams()[0]
                file = ClipFile(plan(snapshot, store, stream.id, start_us, end_us))
            digest = hashlib.sha256()
            for block in file.read(0, file.size):
                digest.update(block)
            found.append(digest.hexdigest())
        except KeyreelError:
            found.append("refused")
    store.close()
    return found


def turn(folder: Path, number: int, ranges: Ranges, right: list[str]) -> dict[str, object]:
    """One damaged copy of the index, served as a node would."""
    volume = Volume.open(folder / "media")
    index_path = folder / f"turn{number}" / "index"
    shutil.copytree(folder / "index", index_path)
    shutil.copy(register_path(folder / "index"), register_path(index_path))
    dice = random.Random(number)
    data = bytearray((index_path / "data.mdb").read_bytes())
    used = [at for at in range(len(data)) if data[at]]  # zeros are mostly room that nothing uses
    flips = [(dice.choice(used), dice.randrange(8)) for _ in range(1 + number % 2)]
    for at, bit in flips:
        data[at] ^= 1 << bit
    (index_path / "data.mdb").write_bytes(data)
    renewed = make_ready(index_path, volume.node, lambda: [volume])
    with Index.open(index_path) as index:
        before = clips(index, volume, ranges)
    rebuild(index_path, [volume])
    with Index.open(index_path) as index:
        after = clips(index, volume, ranges)
    shutil.rmtree(index_path.parent)
    refused = before.count("refused")
    wrong = [one for one, expected in zip(before, right, strict=True) if one not in (expected, "refused")]
    return {
        "number": number, "flips": flips, "renewed": renewed, "right": len(ranges) - len(wrong) - refused,
        "refused": refused, "wrong": len(wrong), "mended": after == right,
    }  # fmt: skip


def main() -> None:
    """Turns FIRST to LAST."""
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    ranges: Ranges = [(a, b) for a, b in json.loads((folder / "ranges.json").read_text())]
    volume = Volume.open(folder / "media")
    with Index.open(folder / "index", readonly=True) as index:
        right = clips(index, volume, ranges)
    assert "refused" not in right
    for number in range(first, last):
        print(json.dumps(turn(folder, number, ranges, right)), flush=True)


if __name__ == "__main__":
    main()
