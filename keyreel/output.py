"""How commands print: tables and words for people, one JSON document for scripts.

Kept true: what a script reads is only ever on standard output; progress is on standard error, and only on a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import msgspec


class Progress(Protocol):
    """Called with what is done and what there is in all, in the same unit."""

    def __call__(self, done: int, total: int) -> None: ...


def print_json(value: object) -> None:
    """One document, indented, with a line end."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")
    sys.stdout.flush()


def table(head: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """A plain table with columns as wide as they need to be; `empty` is said when there are no rows."""
    if not rows:
        print(empty)
        return
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def progress_bar(what: str, *, bytes_counted: bool = False) -> Iterator[Progress]:
    """A bar on standard error while it is a terminal; otherwise nothing."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    count = DownloadColumn() if bytes_counted else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def bytes_text(size: float) -> str:
    """A size for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def rate_text(bits_per_s: float) -> str:
    """A bit rate for people."""
    return f"{bits_per_s / 1e6:.2f} Mbit/s" if bits_per_s >= 1e6 else f"{bits_per_s / 1e3:.0f} kbit/s"


def span_text(duration_us: int) -> str:
    """A duration for people, like 1:02:03."""
    seconds = max(duration_us, 0) // 1_000_000
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
