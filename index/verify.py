"""Is an index safe to open: its pages, then its rows, judged in a process of their own.

Kept true: what is judged is never opened by the engine in the process that asks, so no damage ends that process; the
pages are walked by plain Python, and only when they are sound does the engine read the rows; what dies on them is
damaged. Nothing is changed. LMDB's pages have no checksums: what passes here may still be wrong in a value, which is
why every hit is checked against its chunk.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
from lmdb import verify as pages

from base.errors import KeyreelError
from index.environment import Index

FINDINGS_MAX: Final = 20


class Verdict(msgspec.Struct, kw_only=True):
    """What was found; `rows_read` is false when time ran out before the last row."""

    pages: list[str] = []
    rows: list[str] = []
    rows_read: bool = False

    def __str__(self) -> str:
        return "; ".join([*self.pages, *self.rows][:3])


def verify(path: Path, timeout_s: float) -> Verdict:
    """The verdict on an index folder, as far as it is known after `timeout_s`."""
    command = [sys.executable, "-P", "-m", "index.verify", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            out, error = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            out, error = child.communicate()
            return _verdict(out)
    found = _verdict(out)
    if child.returncode and not found.pages:
        last = error.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"code {child.returncode}"]
        found.pages = [f"reading it ended a process: {last[0][:200]}"]
    return found


def _verdict(out: bytes) -> Verdict:
    lines = out.splitlines()
    return msgspec.json.decode(lines[-1], type=Verdict) if lines else Verdict()


def walk_pages(path: Path) -> list[str]:
    """What is wrong with the pages of a data file that may be written to meanwhile, if a reader holds its snapshot."""
    try:
        found: list[str] = pages.verify(str(path))  # type: ignore[no-untyped-call]
        return found[:FINDINGS_MAX]
    except Exception as error:  # whatever stops a walk is damage
        return [str(error) or repr(error)]


def _judge(path: Path) -> None:
    """The child: one line when the pages are known, another when the rows are."""
    from index.rowcheck import check_rows

    found = Verdict(pages=walk_pages(path))
    _tell(found)
    if found.pages:
        return
    try:
        with Index.open(path, readonly=True) as index, index.read() as snapshot:
            found.rows = [f"{one.where}: {one.what}" for one in check_rows(snapshot)][:FINDINGS_MAX]
    except (KeyreelError, ValueError, OverflowError) as error:
        found.rows = [str(error)]
    found.rows_read = True
    _tell(found)


def _tell(verdict: Verdict) -> None:
    sys.stdout.write(msgspec.json.encode(verdict).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _judge(Path(sys.argv[1]))
