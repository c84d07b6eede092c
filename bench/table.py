"""Results of `make bench` → the tables between the markers of docs/bench.md.

python -m bench.table bench/results/latest.local.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "bench.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def render(results: dict[str, Any]) -> str:
    """One table per bench: its figures as it put them into `extra_info`, and the time pytest-benchmark took."""
    parts = []
    machine: dict[str, str] = {}
    for bench in results["benchmarks"]:
        figures = dict(bench["extra_info"])
        machine = figures.pop("machine", machine)
        figures.pop("smoke", None)
        parts.append(f"### {bench['name']}\n\n| figure | value |\n|---|---|")
        parts += [f"| {name} | {value} |" for name, value in figures.items()]
        stats = bench["stats"]
        if stats["rounds"] > 1:
            parts.append(f"| median of {stats['rounds']} rounds | {stats['median'] * 1e6:.2f} µs |")
        parts.append("")
    where = ", ".join(f"{name} {value}" for name, value in machine.items())
    return f"Measured {results['datetime'][:10]} on: {where}.\n\n" + "\n".join(parts)


def main(path: Path) -> None:
    """Replace the figures in docs/bench.md."""
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    figures = render(json.loads(path.read_text()))
    PAGE.write_text(f"{head}{BEGIN}\n{figures}\n{END}{tail}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
