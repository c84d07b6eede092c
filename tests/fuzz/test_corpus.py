"""The saved corpus and the seeds through every target, with the ordinary modules: no clang, no sanitizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_saved_inputs_break_no_promise(name: str) -> None:
    saved = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    assert saved
    for data in [b"", *seeds(name), *saved]:
        TARGETS[name](data)
