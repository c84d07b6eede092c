"""The index: what is recorded, where, and since when; an LMDB environment that can always be made again."""

from __future__ import annotations

from index.environment import Index
from index.register import Camera
from index.rows import ChunkRow, KeyFrame, StreamRow, Timeline
from index.snapshot import Snapshot
from index.transaction import Transaction

__all__ = ["Camera", "ChunkRow", "Index", "KeyFrame", "Snapshot", "StreamRow", "Timeline", "Transaction"]
