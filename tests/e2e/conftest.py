"""The node fixture: makes real nodes, and kills what a test leaves running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.node import Node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Makes nodes; whatever still runs at the end of the test is killed."""
    made: list[Node] = []

    def make(name: str = "data", config: str = "") -> Node:
        made.append(Node(tmp_path / name, config))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None:
            one.kill()
