"""Paths of chunks, there and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import UserError
from chunks.path import ChunkName, chunk_path, parse_chunk_path


def test_a_path() -> None:
    path = chunk_path(Path("/media"), "gate.main", 1_772_328_600_123_999, 42)
    assert path == Path("/media/gate.main/2026-03-01/013000.123Z-42.mp4")
    assert parse_chunk_path(path) == ChunkName("gate.main", 1_772_328_600_123_000, 42)


@given(
    st.integers(0, 4_000_000_000_000_000),
    st.integers(0, 2**32 - 1),
    st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}\.(main|sub)", fullmatch=True),
)
def test_there_and_back(start_us: int, sequence: int, stream: str) -> None:
    found = parse_chunk_path(chunk_path(Path("v"), stream, start_us, sequence))
    assert found == ChunkName(stream, start_us // 1000 * 1000, sequence)


@pytest.mark.parametrize("stream", ["", "..", "a/b", ".hidden", "x" * 129, "a\nb", "é"])
def test_names_that_are_no_path_component(stream: str) -> None:
    with pytest.raises(UserError):
        chunk_path(Path("v"), stream, 0, 1)


@pytest.mark.parametrize(
    "text",
    [
        "x.mp4", "gate/2026-03-01/x.mp4", "gate/2026-3-1/013000.123Z-42.mp4", "gate/2026-13-01/013000.123Z-42.mp4",
        "gate/2026-03-01/253000.123Z-42.mp4", "gate/2026-03-01/013000.123Z-42.mp4.torn-99",
    ],
)  # fmt: skip
def test_other_files_are_no_chunks(text: str) -> None:
    assert parse_chunk_path(Path(text)) is None
