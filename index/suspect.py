"""How any process of a node tells the recorder that the index is wrong: one small file beside the index folder.

Kept true: telling never fails and never waits; one word at a time stands there, the gravest; who acts on it takes it
away. The recorder judges, whoever told: only what is `PROVEN` by a chunk that passed its checks, or `ASKED` for by the
operator, needs no verification.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Literal

import msgspec

from base.errors import IndexDamage

Weight = Literal["met", "proven", "asked"]
_ORDER: tuple[Weight, ...] = ("met", "proven", "asked")


class Suspicion(msgspec.Struct):
    """`met`: reading it failed; `proven`: a chunk says otherwise; `asked`: the operator wants it made again."""

    weight: Weight
    why: str


def tell(index_path: Path, weight: Weight, why: str) -> None:
    """Let the recorder look at the index."""
    path = _path(index_path)
    with contextlib.suppress(OSError):
        told = look(index_path)
        if told is not None and _ORDER.index(told.weight) >= _ORDER.index(weight):
            return
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_bytes(msgspec.json.encode(Suspicion(weight, why[:1000])))
        os.replace(fresh, path)


def tell_error(index_path: Path, error: IndexDamage) -> None:
    """What an error means for the index."""
    tell(index_path, "proven" if error.reason == PROVEN else "met", str(error))


def look(index_path: Path) -> Suspicion | None:
    """What is told now."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(_path(index_path).read_bytes(), type=Suspicion)
    return None


def take(index_path: Path) -> Suspicion | None:
    """What is told, taken away."""
    told = look(index_path)
    with contextlib.suppress(FileNotFoundError):
        _path(index_path).unlink()
    return told


PROVEN = "index-contradicted"  # reason of an IndexDamage that a sound chunk proves


def _path(index_path: Path) -> Path:
    return index_path.with_name(index_path.name + ".suspect")
