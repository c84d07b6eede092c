from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from index import Index


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.open(tmp_path / "index", create=True) as opened:
        yield opened
