from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from support import Recording, recordings


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    yield from recordings(tmp_path)
