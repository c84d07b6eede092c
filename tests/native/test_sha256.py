"""Leaf hashes by every way this machine has, against hashlib, whole and in pieces."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.tree import leaf_hash
from native.sha256 import IMPLEMENTATIONS, fragment_leaves, leaves
from tests.chunks.media import Media, build

BLOCK = os.urandom(70_000)


def twin(piece: bytes) -> bytes:
    return sha256(b"\0" + piece).digest()


@pytest.mark.parametrize("by", IMPLEMENTATIONS)
def test_every_length_around_a_block_and_every_number_of_lanes(by: str) -> None:
    pieces = [BLOCK[:size] for size in [*range(200), 4095, 4096, 65519, 65520, 70_000]]
    assert leaves(pieces, by) == [twin(piece) for piece in pieces]
    for count in range(40):
        some = [BLOCK[i : 1000 + 37 * i] for i in range(count)]
        assert leaves(some, by) == [twin(piece) for piece in some]


@given(st.lists(st.integers(0, 5000), max_size=40), st.integers(0, 60_000))
def test_uneven_lengths_equal_the_twin(sizes: list[int], at: int) -> None:
    pieces = [BLOCK[at : at + size] for size in sizes]
    for by in IMPLEMENTATIONS:
        assert leaves(pieces, by) == [twin(piece) for piece in pieces] == [leaf_hash(piece) for piece in pieces]


@pytest.fixture
def media_of(tmp_path: Path) -> Callable[[int], Media]:
    """Pictures of this many bytes, so that fragments lie over many slabs."""
    from tests.chunks.media import encode_video

    small = encode_video("h264", pictures=50)

    def make(filler_bytes: int) -> Media:
        pictures = [
            (pts, data + filler_bytes.to_bytes(4, "big") + BLOCK[:filler_bytes]) for pts, data in small.pictures
        ]
        return Media(small.config, pictures)

    return make


@pytest.mark.parametrize("filler_bytes", [10, 9_000, 61_234])
def test_a_fragments_leaf_is_over_its_bytes_in_the_file(
    media_of: Callable[[int], Media], filler_bytes: int, tmp_path: Path
) -> None:
    fragments = build(media_of(filler_bytes), fragment_90k=9_000)
    with pytest.raises(ValueError, match="once it lies in a file"):
        fragment_leaves(fragments)
    path = tmp_path / "file"
    wanted, offset = [], 0
    with path.open("w+b") as file:
        for number, fragment in enumerate(fragments, 1):
            length = fragment.prepare(
                number=number, stream_id=1, sequence=1, video_base_90k=0, audio_base=0, wall_us=1, end_us=2, seed=7
            )
            assert fragment.write(file.fileno(), offset) == length
            wanted.append((offset, length))
            offset += length
        data = path.read_bytes()
    expected = [twin(data[at : at + length]) for at, length in wanted]
    for by in IMPLEMENTATIONS:
        assert fragment_leaves(fragments, by) == expected
    assert fragment_leaves([]) == []
