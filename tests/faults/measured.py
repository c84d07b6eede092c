"""What tests measured on the way, shown at the end of a run; for the documents."""

from __future__ import annotations

LINES: list[str] = []
