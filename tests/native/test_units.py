"""Whole units to a sink: what goes in comes out, start codes or lengths, and nothing is read past the end."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.sink import CollectSink
from native.units import push_annexb, push_frame, push_prefixed

# NAL units as an encoder makes them: no start code inside, no zero byte at the end (H.264 7.4.1).
NAL = st.binary(min_size=2, max_size=40).map(lambda b: b.replace(b"\0\0", b"\0\3").rstrip(b"\0") + b"\x80")


def _prefixed(nals: list[bytes], width: int = 4) -> bytes:
    return b"".join(len(nal).to_bytes(width, "big") + nal for nal in nals)


@given(st.lists(NAL, min_size=1, max_size=6), st.lists(st.integers(2, 5), min_size=6, max_size=6), st.booleans())
def test_start_codes(nals: list[bytes], zeros: list[int], complete: bool) -> None:
    sample = b"".join(bytes(zeros[i]) + b"\1" + nal for i, nal in enumerate(nals)) + bytes(zeros[0])
    sink = CollectSink()
    assert push_annexb(sink, "h264", 7, 8, sample, complete)
    assert sink.units == [(7, 8, _prefixed(nals), int(complete), 0)]


@given(st.lists(NAL, min_size=1, max_size=6), st.sampled_from([1, 2, 3, 4]))
def test_lengths(nals: list[bytes], width: int) -> None:
    sink = CollectSink()
    assert push_prefixed(sink, "h265", width, -5, 6, memoryview(_prefixed(nals, width)))
    assert sink.units == [(-5, 6, _prefixed(nals), 1, 0)]


@given(st.binary(max_size=80), st.sampled_from(["h264", "h265"]), st.sampled_from([1, 2, 4]))
def test_anything_else_is_dropped_whole(data: bytes, codec: str, width: int) -> None:
    for push in (lambda s: push_annexb(s, codec, 0, 0, data), lambda s: push_prefixed(s, codec, width, 0, 0, data)):
        sink = CollectSink()
        assert push(sink) == bool(sink.units)


def test_bounds() -> None:
    sink = CollectSink()
    assert not push_prefixed(sink, "h264", 4, 0, 0, struct.pack(">I", 5) + b"\x65abc")
    assert not push_prefixed(sink, "h264", 4, 0, 0, struct.pack(">I", 4) + b"\x65abc" + b"\0\0")
    assert not push_annexb(sink, "h264", 0, 0, b"")
    assert sink.units == []
    with pytest.raises(ValueError, match="1 to 4"):
        push_prefixed(sink, "h264", 5, 0, 0, b"")
    with pytest.raises(ValueError, match="mjpeg"):
        push_annexb(sink, "mjpeg", 0, 0, b"")


def test_audio_frames() -> None:
    sink = CollectSink()
    push_frame(sink, 1, 2, b"")
    push_frame(sink, 3, 4, b"abc")
    assert [unit[:3] for unit in sink.units] == [(3, 4, b"abc")]
