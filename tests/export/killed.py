"""A process that exports, and is killed on its way: python killed.py ROOT VOLUME TARGET STREAMS BYTES."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

from base.datadir import DataDir
from clips.store import ChunkStore
from export.job import Job
from export.request import Tools
from index import Index


class Held:
    """Keys as another process made them."""

    def __init__(self, path: Path) -> None:
        self.__dict__.update(pickle.loads(path.read_bytes()))

    def sign(self, data: bytes) -> bytes:
        return b"\0" * 64

    def sign_digest(self, digest: bytes) -> bytes:
        return b"\0" * self.signature_bytes  # type: ignore[attr-defined, no-any-return]


def main(root: Path, volume: str, number: int, upto_bytes: int, name: str) -> None:
    def progress(done: int, total: int) -> None:
        if done >= upto_bytes:
            os.kill(os.getpid(), number)

    keys: Any = Held(root / "keys.pickle")
    with Index.open(root / "index") as index:
        store = ChunkStore({bytes.fromhex(volume): root / "media"})
        datadir = DataDir.open(root / "node")
        tools = Tools(datadir=datadir, index=index, store=store, keys=keys, software="keyreel test")
        Job(tools, pickle.loads((root / name).read_bytes())).run(progress)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], getattr(signal, sys.argv[3]), int(sys.argv[4]), sys.argv[5])
