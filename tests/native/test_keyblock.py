from __future__ import annotations

import bisect
import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import keyblock

MAX = 2**63 - 1
Frames = list[tuple[int, int]]


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def twin_encode(sequence: int, frames: Frames) -> bytes:
    """The block as docs/format/index.md says it, in plain Python."""
    out = sequence.to_bytes(4, "little") + bytes([len(frames)]) + varint(frames[0][1])
    time_step = offset_step = 0
    for (time_us, offset), (next_us, next_offset) in itertools.pairwise(frames):
        out += varint(zigzag(next_us - time_us - time_step)) + varint(zigzag(next_offset - offset - offset_step))
        time_step, offset_step = next_us - time_us, next_offset - offset
    return out


def twin_extend(sequence: int, frames: Frames) -> list[tuple[int, bytes]]:
    size = keyblock.KEY_FRAMES_MAX
    parts = [frames[i : i + size] for i in range(0, len(frames), size)]
    return [(part[0][0], twin_encode(sequence, part)) for part in parts]


def decode(start_us: int, block: bytes) -> list[tuple[int, int, int]]:
    count = keyblock.count(block)
    times, sequences, offsets = np.empty(count, np.int64), np.empty(count, np.uint32), np.empty(count, np.int64)
    assert keyblock.decode_into(block, start_us, times, sequences, offsets, 0) == count
    return list(zip(times.tolist(), sequences.tolist(), offsets.tolist(), strict=True))


@st.composite
def ascending(draw: st.DrawFn, limit: int = MAX) -> list[int]:
    steps = st.one_of(st.integers(1, 5_000_000), st.integers(1, 2**40), st.integers(1, 2**62))
    value, values = draw(st.integers(0, 2**62)), []
    for step in draw(st.lists(steps, max_size=150)):
        values.append(value)
        if value > limit - step:
            break
        value += step
    return values


@st.composite
def key_frames(draw: st.DrawFn) -> Frames:
    return list(zip(draw(ascending()), draw(ascending()), strict=False))


@given(st.integers(0, 2**32 - 1), key_frames(), st.integers(0, 200))
def test_blocks_are_as_the_format_says_however_they_grew(sequence: int, frames: Frames, cut: int) -> None:
    expected = twin_extend(sequence, frames)
    assert keyblock.extend(sequence, 0, b"", frames) == expected
    blocks = keyblock.extend(sequence, 0, b"", frames[:cut])
    *full, (start_us, block) = blocks or [(0, b"")]
    assert full + list(keyblock.extend(sequence, start_us, block, frames[cut:])) == expected
    one_by_one: list[tuple[int, bytes]] = [(0, b"")]
    for frame in frames:
        start_us, block = one_by_one.pop()
        one_by_one += keyblock.extend(sequence, start_us, block, [frame])
    assert not frames or one_by_one == expected
    found = [row for start_us, block in expected for row in decode(start_us, block)]
    assert found == [(time_us, sequence, offset) for time_us, offset in frames]


@given(key_frames().filter(bool), st.data())
def test_floor_and_ceiling_agree_with_bisection(frames: Frames, data: st.DataObject) -> None:
    frames = frames[: keyblock.KEY_FRAMES_MAX]
    ((start_us, block),) = keyblock.extend(9, 0, b"", frames)
    times = [time_us for time_us, _ in frames]
    near = st.builds(lambda time_us, by: min(max(time_us + by, 0), MAX), st.sampled_from(times), st.integers(-1, 1))
    time_us = data.draw(st.one_of(near, st.integers(0, MAX)))
    after = bisect.bisect_right(times, time_us)
    expected = (frames[after - 1][0], 9, frames[after - 1][1]) if after else None
    assert keyblock.floor(block, start_us, time_us) == expected
    at = bisect.bisect_left(times, time_us)
    expected = (frames[at][0], 9, frames[at][1]) if at < len(frames) else None
    assert keyblock.ceiling(block, start_us, time_us) == expected


@given(st.binary(max_size=200), st.integers(-(2**63), MAX), st.integers(-(2**63), MAX))
def test_any_bytes_are_read_within_their_bounds(block: bytes, start_us: int, time_us: int) -> None:
    for ask in (keyblock.floor, keyblock.ceiling):
        try:
            found = ask(block, start_us, time_us)
        except ValueError:
            continue
        assert found is None or (found[0] >= start_us and 0 <= found[2] <= MAX)
    try:
        rows = decode(start_us, block)
    except ValueError:
        return
    assert all(a[0] < b[0] and a[2] < b[2] for a, b in itertools.pairwise(rows))


def test_every_flipped_byte_and_every_cut_gives_an_error_or_ascending_rows() -> None:
    rng = random.Random(3)
    frames = [(1_790_000_000_000_000 + i * 2_000_000 + rng.randint(-900, 900), 900 + i * 999_999) for i in range(64)]
    ((start_us, block),) = keyblock.extend(70_000, 0, b"", frames)
    variants = [block[:size] for size in range(len(block))]
    variants += [
        block[:i] + bytes([block[i] ^ 1 << bit]) + block[i + 1 :] for i in range(len(block)) for bit in range(8)
    ]
    errors = 0
    for variant in variants:
        try:
            rows = decode(start_us, variant)
            assert all(a[0] < b[0] and a[2] < b[2] for a, b in itertools.pairwise(rows))
        except ValueError:
            errors += 1
    assert errors > len(block)  # at least every cut


@pytest.mark.parametrize("frames", [[(5, 5), (5, 6)], [(5, 5), (6, 5)], [(-1, 0)], [(0, -1)], [(5, 5), (4, 6)]])
def test_what_does_not_ascend_is_refused(frames: Frames) -> None:
    with pytest.raises(ValueError, match="does not come after"):
        keyblock.extend(1, 0, b"", frames)
    ((start_us, block),) = keyblock.extend(1, 0, b"", frames[:1]) if min(frames[0]) >= 0 else [(0, b"")]
    with pytest.raises(ValueError, match="does not come after"):
        keyblock.extend(1, start_us, block, frames[1:] or frames)


def test_a_block_of_another_chunk_is_not_extended() -> None:
    ((start_us, block),) = keyblock.extend(1, 0, b"", [(5, 5)])
    with pytest.raises(ValueError, match="belongs to chunk 1"):
        keyblock.extend(2, start_us, block, [(6, 6)])


def test_columns_that_are_too_short_are_refused() -> None:
    ((start_us, block),) = keyblock.extend(1, 0, b"", [(5, 5), (6, 6)])
    times, sequences, offsets = np.empty(2, np.int64), np.empty(2, np.uint32), np.empty(2, np.int64)
    for at in (-1, 1, 2**62):
        with pytest.raises(ValueError, match="too short"):
            keyblock.decode_into(block, start_us, times, sequences, offsets, at)
