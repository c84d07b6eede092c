"""A ledger as a recorder keeps it, of chunks that are on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from signers import signer

from chunks.reader import ChunkFile
from evidence.ledger import (
    Chunk,
    ChunkState,
    Entry,
    Head,
    Ledger,
    Opened,
    pack_entry,
    signed_bytes,
)
from evidence.tree import leaf_hash, root_of

LEDGER = bytes(range(16, 32))


class LedgerMaker:
    """Entries end to end."""

    def __init__(self, keys: Any = None, stream: str = "cam.main") -> None:
        self.entries: list[Entry] = []
        self.keys = keys or signer()
        self.add(0, Ledger(LEDGER, bytes(16), 1, stream, "keyreel test"))

    def add(self, time_us: int, content: Any) -> Entry:
        before = self.entries[-1] if self.entries else None
        entry = pack_entry(len(self.entries), time_us, before.hash if before else bytes(32), content)
        self.entries.append(entry)
        return entry

    def sign(self, time_us: int) -> None:
        key = hashlib.sha256(self.keys.public_key).digest()
        unsigned = self.add(time_us, Head(LEDGER, key, bytes(64)))
        self.entries.pop()
        self.add(time_us, Head(LEDGER, key, self.keys.sign(signed_bytes(unsigned.raw))))

    def chunk(self, path: Path, *, roots: tuple[int, ...] = (), sealed: bool = True) -> None:
        """A chunk's entries: its beginning, roots while it grew, and the one at its end."""
        chunk = ChunkFile(path)
        table, head = chunk.table(), chunk.head
        leaves = [leaf_hash(chunk.read_fragment(i, table)) for i in range(len(table))]
        header = hashlib.sha256(chunk.read_header()).digest()
        at = head.start_us, chunk.header_bytes, header
        self.add(at[0], Opened(head.opening, head.volume, head.sequence, head.epoch, head.run, *at))
        for count in [*(one for one in roots if one < len(leaves)), *([len(leaves)] if sealed else [])]:
            state = ChunkState.SEALED if count == len(leaves) else ChunkState.GROWING
            end_us = int(table.end_us[count - 1])
            size = int(table.length[:count].sum())
            said = Chunk(
                head.opening, head.sequence, state, 1, count, head.start_us, end_us, size, root_of(leaves[:count])
            )
            self.add(end_us, said)
        self.sign(int(table.end_us[-1]))

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{0:012}.ledger").write_bytes(b"".join(entry.raw for entry in self.entries))
