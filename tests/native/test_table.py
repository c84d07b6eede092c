"""Frame table records against a plain twin; hostile records are refused, never read past."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.fragment import Fragment, FragmentBuilder
from native.table import FRAGMENT_COLUMNS, decode


def fragments(pictures: int, audio: bool, shuffle: int) -> list[Fragment]:
    made: list[Fragment] = []
    builder = FragmentBuilder("h264", made.append, audio_rate_hz=8000 if audio else 0, fragment_90k=20_000)
    for i in range(pictures):
        frame = i + 1 if shuffle and i % 3 == 1 else i - 1 if shuffle and i % 3 == 2 else i
        kind = 0x65 if i % 10 == 0 else 0x41
        data = bytes([kind]) * (5 + i % 7)
        time = 90_000 + frame * 3600 + (i * shuffle) % 5
        builder.push_video(time, i * 40_000, struct.pack(">I", len(data)) + data)
        if audio:
            builder.push_audio(i * 320 + (i % 3) * (shuffle % 2), i * 40_000, bytes(40 + i % (1 + shuffle)))
    builder.finish()
    at = 100
    for number, fragment in enumerate(made, 1):
        at += fragment.prepare(
            number=number, stream_id=1, sequence=2, video_base_90k=0, audio_base=0, wall_us=number * 1000,
            end_us=number * 1000 + 500, camera_us=3, gap_start_us=4, gap_end_us=5, gap_cause=6, gap_packets=7,
        )  # fmt: skip
    return made


def boxes(data: bytes, at: int, end: int) -> dict[bytes, list[tuple[int, int]]]:
    found: dict[bytes, list[tuple[int, int]]] = {}
    while at < end:
        size, kind = struct.unpack_from(">I4s", data, at)
        found.setdefault(kind, []).append((at + 8, at + size))
        at += size
    return found


def twin_samples(data: bytes, traf: tuple[int, int]) -> list[tuple[int, int, int, bool]]:
    """(size, dts, cts, key) by the letter of ISO/IEC 14496-12 8.8."""
    inner = boxes(data, *traf)
    at = inner[b"tfhd"][0][0]
    flags, _ = struct.unpack_from(">II", data, at)
    at += 8
    duration = size = sample_flags = 0
    if flags & 0x8:
        duration = struct.unpack_from(">I", data, at)[0]
        at += 4
    if flags & 0x10:
        size = struct.unpack_from(">I", data, at)[0]
        at += 4
    if flags & 0x20:
        sample_flags = struct.unpack_from(">I", data, at)[0]
    (time,) = struct.unpack_from(">Q", data, inner[b"tfdt"][0][0] + 4)
    at = inner[b"trun"][0][0]
    flags, count, _ = struct.unpack_from(">IIi", data, at)
    at += 12
    first = sample_flags
    if flags & 0x4:
        first = struct.unpack_from(">I", data, at)[0]
        at += 4
    rows = []
    for i in range(count):
        row = [duration, size, first if i == 0 else sample_flags, 0]
        for place, (bit, kind) in enumerate(((0x100, ">I"), (0x200, ">I"), (0x400, ">I"), (0x800, ">i"))):
            if flags & bit:
                row[place] = struct.unpack_from(kind, data, at)[0]
                at += 4
        rows.append((row[1], time, row[3], not row[2] & 0x10000))
        time += row[0]
    return rows


@given(st.integers(1, 40), st.booleans(), st.integers(0, 4))
def test_equals_the_twin(pictures: int, audio: bool, shuffle: int) -> None:
    records, offsets, at = [], [], 100
    for fragment in fragments(pictures, audio, shuffle):
        offsets.append(at)
        records.append(fragment.table_record(at))
        at += len(fragment.to_bytes(at))
    columns, size, dts, cts, key, audio_size, audio_dts = decode(b"".join(records))
    named: dict[str, Any] = dict(zip(FRAGMENT_COLUMNS, columns.tolist(), strict=True))
    video, sound = [], []
    for record in records:
        moof = boxes(record, 0, len(record) - 132)[b"moof"][0]
        trafs = boxes(record, *moof)[b"traf"]
        video += twin_samples(record, trafs[0])
        sound += twin_samples(record, trafs[1]) if len(trafs) > 1 else []
    assert list(zip(size.tolist(), dts.tolist(), cts.tolist(), key.tolist(), strict=True)) == video
    assert list(zip(audio_size.tolist(), audio_dts.tolist(), strict=True)) == [row[:2] for row in sound]
    assert named["offset"] == offsets
    assert named["number"] == list(range(1, len(records) + 1))
    assert (named["camera_us"][0], named["gap_start_us"][0], named["gap_end_us"][0]) == (3, 4, 5)
    assert (named["gap_cause"][0], named["gap_packets"][0]) == (6, 7)
    assert sum(named["video_count"]) == len(video) == pictures


def test_no_records() -> None:
    columns, *rest = decode(b"")
    assert columns.shape == (len(FRAGMENT_COLUMNS), 0)
    assert all(len(column) == 0 for column in rest)


RECORD = fragments(12, True, 2)[0].table_record(100)


@given(st.integers(0, len(RECORD) - 1), st.integers(1, 255), st.integers(0, 3))
def test_spoilt_records_never_lead_outside(place: int, flip: int, cut: int) -> None:
    data = bytearray(RECORD)
    data[place] ^= flip
    try:
        columns, size, *_, audio_size, _ = decode(bytes(data[: len(data) - cut]))
    except ValueError:
        return
    named = dict(zip(FRAGMENT_COLUMNS, columns[:, 0].tolist(), strict=True))
    assert int(size.sum()) + int(audio_size.sum()) == named["media_bytes"]
    assert named["video_at"] + named["media_bytes"] <= named["offset"] + named["length"]


@given(st.binary(max_size=400))
def test_anything_else_is_refused(data: bytes) -> None:
    if data:
        with pytest.raises(ValueError, match="contradicts"):
            decode(data)
