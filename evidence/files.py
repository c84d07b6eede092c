"""The files of ledgers: which there are, and what is in them.

Kept true: nothing is written here; files are read in the order of their entries; only the last one may end in the
middle of an entry, anywhere else that is damage and told.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from base.errors import NotFound
from evidence.ledger import Chunk, Entry, Head, Ledger, Opened, read_entries, unpack_entry

SUFFIX: Final = ".ledger"
FILE_BYTES: Final = 256 << 10  # half a day of a stream
SLACK_US: Final = 60_000_000  # stored time of a picture may be a little ahead of that of its entry
_FIRST_READ: Final = 16 << 10


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """One file: its whole entries, and how many bytes behind them are none."""

    path: Path
    entries: list[Entry] = field(default_factory=list)
    torn_bytes: int = 0


def file_name(number: int) -> str:
    """Of the file that begins with this entry."""
    return f"{number:012d}{SUFFIX}"


def ledger_files(folder: Path) -> list[Path]:
    """The files of one ledger, oldest first."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.stem.isdecimal())


def first_entry(path: Path) -> Entry | None:
    """Of a file; None when it has no whole one."""
    with path.open("rb") as file:
        return unpack_entry(file.read(_FIRST_READ))


def read_file(path: Path) -> LedgerFile:
    """All whole entries of one file."""
    data = path.read_bytes()
    entries = list(read_entries(data))
    return LedgerFile(path, entries, len(data) - sum(len(entry.raw) for entry in entries))


def read_ledger(folder: Path) -> Iterator[Entry]:
    """Every entry of a ledger, in order."""
    for path in ledger_files(folder):
        yield from read_file(path).entries


def identity_of(folder: Path) -> Ledger | None:
    """Whose ledger lies in a folder, by its newest file that says so."""
    for path in reversed(ledger_files(folder)):
        entry = first_entry(path)
        if entry is not None and isinstance(entry.content, Ledger):
            return entry.content
    return None


def extract(folder: Path, start_us: int, end_us: int) -> list[Entry]:
    """The part of a ledger that proves a range of stored time, as an unbroken chain.

    It begins with an entry `ledger` and holds all that speaks of chunks that touch [start_us, end_us); it ends with the
    first head behind the last of these, or where the ledger ends when there is none yet. No other files are read.
    """
    files = ledger_files(folder)
    if not files:
        raise NotFound(f"{folder} has no ledger; it is kept since evidence.ledger was switched on")
    begin = max(0, bisect_right(files, start_us - SLACK_US, key=_begun_us) - 1)  # roots come after what they cover
    touched: set[bytes] = set()
    kept: list[list[Entry]] = []
    last = -1  # number of the last entry that belongs
    for path in files[begin:]:
        entries = read_file(path).entries
        kept.append(entries)
        for entry in entries:
            said = entry.content
            if isinstance(said, Chunk) and said.start_us < end_us and said.end_us > start_us:
                touched.add(said.opening)
                last = entry.number
        if entries and entries[0].time_us >= end_us and _closed(entries, last):
            break
    while begin > 0 and not touched <= _opened(kept):
        begin -= 1
        kept.insert(0, read_file(files[begin]).entries)
    first = next((i for i, entries in enumerate(kept) if _speaks(entries, touched)), 0)
    part = [entry for entries in kept[first:] for entry in entries]
    for i, entry in enumerate(part):
        if entry.number > last >= 0 and isinstance(entry.content, Head):
            return part[: i + 1]
    return part


def _begun_us(path: Path) -> int:
    entry = first_entry(path)
    return entry.time_us if entry is not None else 1 << 62


def _opened(kept: list[list[Entry]]) -> set[bytes]:
    return {one.content.opening for entries in kept for one in entries if isinstance(one.content, Opened)}


def _speaks(entries: list[Entry], touched: set[bytes]) -> bool:
    return any(isinstance(one.content, Opened | Chunk) and one.content.opening in touched for one in entries)


def _closed(entries: list[Entry], last: int) -> bool:
    return any(isinstance(one.content, Head) and one.number > last for one in entries)
