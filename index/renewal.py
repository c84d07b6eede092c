"""A damaged, lost or foreign index is set aside and a new one put in its place, as fast for a large archive as a small.

Kept true: the new one has the cameras and the ids of all streams, and says that it is not whole: its chunks are read in
later, beside the recording; what is set aside is kept for forensics, the newest ASIDE_MAX of them; nobody writes to an
index that has been set aside (`Index.held`), and a reader who still looks into one is not harmed, as files are renamed
and unlinked, never cut.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Final

from base.errors import ConfigError, DamageError, FormatError, KeyreelError
from base.log import get_logger
from chunks.reader import head_of
from chunks.volume import Volume, sync_directory
from index.deletions import Deletion
from index.environment import Index
from index.expire import restore_end
from index.files import has_chunks, newest_files
from index.rebuild import deleted_ranges
from index.register import RegisterCopy, read_copy, register_path
from index.verify import verify

ASIDE_MAX: Final = 4
START_WAIT_S: Final = 2.0  # a start waits so long for a verdict; recording is to begin after 5 s at most
REPEAT_S: Final = 3600.0  # within so long an index is made again RENEWALS_MAX times for what rows or chunks say
RENEWALS_MAX: Final = 3
_LOG = get_logger()


def make_ready(path: Path, node: bytes, volumes: Callable[[], list[Volume]], *, verified: bool = True) -> str:
    """Let a sound index lie at the path; says why it was made anew, "" when it was not.

    The caller holds the data folder's lock, or does not ask for `verified`: then only an absent index is made.
    """
    why = why_not_sound(path) if verified else _absent(path)
    if why:
        there = volumes()
        if why != _absent(path) or any(map(has_chunks, there)):
            make_anew(path, node, there, why)
            return why
    Index.open(path, create=True, node=node).close()
    return ""


def _absent(path: Path) -> str:
    return "" if (path / "data.mdb").exists() else "it was gone"


def why_not_sound(path: Path) -> str:
    """What is wrong with the index at rest; "" when it may be opened."""
    if why := _absent(path):
        return why
    verdict = verify(path, START_WAIT_S)
    if verdict.pages or (verdict.rows and not is_worn(path)):
        return str(verdict)
    if not verdict.rows_read:
        _LOG.warning("the index is opened before all of it was verified; that goes on beside the recording")
    return ""


def is_worn(path: Path) -> bool:
    """The index was made anew so often lately that what its rows and the chunks say cannot be chance any more."""
    made = [one.stat().st_mtime for one in _asides(path)[-RENEWALS_MAX:]]
    return len(made) == RENEWALS_MAX and time.time() - made[0] < REPEAT_S


def make_anew(path: Path, node: bytes, volumes: Iterable[Volume], why: str, held: Index | None = None) -> None:
    """Set aside what lies at the path and put a fresh index there; `held` is the open one, when this process has it."""
    fresh = path.with_name(path.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    with (
        held.held() if held is not None else nullcontext()
    ):  # also while it is made: cameras change in one or the other
        _fill(fresh, path, node, volumes)
        aside = _set_aside(path)
        os.rename(fresh, path)
        sync_directory(path.parent)
    _LOG.error("the index is made again from the chunks", why=why, set_aside=str(aside or "nothing"))


def _fill(fresh: Path, path: Path, node: bytes, volumes: Iterable[Volume]) -> None:
    """A new index with all that is needed to record."""
    with Index.open(fresh, create=True, node=node) as index, index.write() as transaction:
        copy = _register(path)
        if copy is not None:
            transaction.restore_register(copy)
        for name, stream_id in _streams_on(volumes, set(copy.streams) if copy is not None else set()).items():
            with suppress(DamageError):  # two streams with one id: chunks of two nodes
                transaction.register_stream(stream_id, name)
        for record in _deleted(path):
            restore_end(transaction, record)
        transaction.set_whole(read_in=False)


def _deleted(path: Path) -> list[Deletion]:
    try:
        return deleted_ranges(path)
    except KeyreelError as error:  # recording is worth more than numbers that no file has any more
        _LOG.error("what was deleted by intent cannot be told", error=str(error))
        return []


def _register(path: Path) -> RegisterCopy | None:
    """The cameras as they were; a copy that cannot be read is kept beside, as a new one will take its name."""
    copy = register_path(path)
    try:
        return read_copy(copy)
    except FormatError:
        raise
    except ConfigError as error:
        aside = copy.with_name(copy.name + ".damaged")
        _LOG.error("the cameras are lost, add them again", error=str(error), kept=str(aside))
        os.replace(copy, aside)
        return None


def _streams_on(volumes: Iterable[Volume], known: set[str]) -> dict[str, int]:
    """Ids of streams that only the chunks know, each told by one of its newest files."""
    found: dict[str, int] = {}
    for volume in volumes:
        for name, files in newest_files(volume).items():
            if name not in known and name not in found:
                heads = (head_of(file.path) for file in files)
                found.update({head.stream_name: head.stream_id for head in heads if head is not None})
    return found


def _set_aside(path: Path) -> Path | None:
    if not path.exists():
        return None
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    while aside.exists():
        aside = aside.with_name(aside.name + "+")
    os.rename(path, aside)
    os.utime(aside)
    for old in _asides(path)[:-ASIDE_MAX]:
        shutil.rmtree(old, ignore_errors=True)
    return aside


def _asides(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.damaged-*"))
