from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chunks.boxes import walk
from clips.tables import TrackTable, run_lengths, sample_tables


def parsed(data: bytes) -> dict[bytes, tuple[int, list[int]]]:
    """(version, 32-bit words after it) of each table."""
    return {
        kind: (data[start], list(struct.unpack(f">{(end - start - 4) // 4}I", data[start + 4 : end])))
        for kind, start, end in walk(data)
    }


def expanded(words: list[int], width: int = 2) -> list[list[int]]:
    count, rows = words[0], words[1:]
    assert len(rows) == count * width
    return [rows[i : i + width] for i in range(0, len(rows), width)]


@given(st.lists(st.integers(0, 3), max_size=60))
def test_run_lengths_rebuild_their_input(values: list[int]) -> None:
    counts, kept = run_lengths(np.array(values, np.int64))
    assert np.repeat(kept, counts).tolist() == values
    assert all(a != b for a, b in pairwise(kept))


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 1 << 20), st.integers(1, 4000), st.integers(-5000, 5000), st.booleans()),
            min_size=1,
            max_size=5,
        ),
        min_size=1,
        max_size=12,
    ),
    st.data(),
)
def test_every_reader_gets_back_what_went_in(
    chunks: list[list[tuple[int, int, int, bool]]], data: st.DataObject
) -> None:
    samples = [sample for chunk in chunks for sample in chunk]
    size, step, cts, key = (np.array(column) for column in zip(*samples, strict=True))
    dts = np.concatenate(([0], np.cumsum(step)[:-1])).astype(np.int64)
    offsets = [data.draw(st.integers(0, 1 << 40)) for _ in chunks]
    entries = [data.draw(st.integers(1, 3)) for _ in chunks]
    table = TrackTable(
        size, dts, int(dts[-1] + step[-1]), np.array(offsets), np.array([len(c) for c in chunks]), np.array(entries),
        cts=cts, key=key,
    )  # fmt: skip
    made = sample_tables(table)
    boxes = parsed(made)
    assert [d for n, d in expanded(boxes[b"stts"][1]) for _ in range(n)] == step.tolist()
    if any(cts):
        assert boxes[b"ctts"][0] == 1
        signed = [(c ^ 1 << 31) - (1 << 31) for n, c in expanded(boxes[b"ctts"][1]) for _ in range(n)]
        assert signed == cts.tolist()
    if all(key):
        assert b"stss" not in boxes
    else:
        assert boxes[b"stss"][1][1:] == [i + 1 for i, is_key in enumerate(key) if is_key]
    fixed, count, *sizes = boxes[b"stsz"][1]
    assert count == len(samples)
    assert (sizes or [fixed] * count) == size.tolist()
    runs = expanded(boxes[b"stsc"][1], 3)
    last = [run[0] for run in runs[1:]] + [len(chunks) + 1]
    per_chunk = [(run[1], run[2]) for run, stop in zip(runs, last, strict=True) for _ in range(run[0], stop)]
    assert per_chunk == [(len(chunk), entry) for chunk, entry in zip(chunks, entries, strict=True)]
    assert list(struct.unpack(f">{len(chunks)}Q", made[-8 * len(chunks) :])) == offsets
