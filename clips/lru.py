"""A bounded memory of costly things, least recently used first out. Safe to use from many threads.

Kept true: the bytes and the number held stay within their bounds, but for one thing larger than the bound, which stays
until the next comes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """`held_bytes` counts what the values were said to take."""

    def __init__(self, bytes_max: int, count_max: int) -> None:
        self.held_bytes = 0
        self._bytes_max = bytes_max
        self._count_max = count_max
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: K) -> bool:
        return key in self._held

    def get(self, key: K) -> V | None:
        """The value, now the most recently used one."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, size_bytes: int) -> None:
        """Keep a value in the place of any older one under its key."""
        with self._lock:
            self.held_bytes += size_bytes - self._held.pop(key, (value, 0))[1]
            self._held[key] = (value, size_bytes)
            while len(self._held) > 1 and (self.held_bytes > self._bytes_max or len(self._held) > self._count_max):
                self.held_bytes -= self._held.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._held.clear()
            self.held_bytes = 0
