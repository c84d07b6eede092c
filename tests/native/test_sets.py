"""Parameter sets by kind and id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.sets import ParameterSets
from tests.bitstream import escaped


def bits(text: str) -> bytes:
    text = text.replace(" ", "")
    text += "1"
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def ue(value: int) -> str:
    body = f"{value + 1:b}"
    return "0" * (len(body) - 1) + body


@given(st.lists(st.tuples(st.integers(0, 31), st.integers(0, 255)), min_size=1, max_size=30))
def test_h264_sets_by_ascending_id(entries: list[tuple[int, int]]) -> None:
    sets, want_sps, want_pps = ParameterSets("h264"), {}, {}
    for sps_id, pps_id in entries:
        sps = b"\x67\x42\0\x1e" + bits(ue(sps_id) + f"{pps_id:08b}")
        pps = b"\x68" + bits(ue(pps_id) + ue(sps_id))
        want_sps[sps_id], want_pps[pps_id] = sps, pps
        sets.add(sps)
        sets.add(pps)
    _, sps_held, pps_held = sets.snapshot()
    assert sps_held == tuple(want_sps[key] for key in sorted(want_sps))
    assert pps_held == tuple(want_pps[key] for key in sorted(want_pps))


@pytest.mark.parametrize("sub_layers", range(8 - 1))
@pytest.mark.parametrize("number", [0, 1, 15])
def test_h265_ids_behind_profile_and_emulation_bytes(sub_layers: int, number: int) -> None:
    flags = "".join("11" if i % 2 else "10" for i in range(sub_layers))
    padding = "00" * (8 - sub_layers) if sub_layers else ""
    layers = "".join("0" * (96 if i % 2 else 88) for i in range(sub_layers))
    text = f"0000{sub_layers:03b}1" + "0" * 96 + flags + padding + layers + ue(number)
    sps = b"\x42\x01" + escaped(bits(text))
    other = b"\x42\x01" + escaped(bits(text.replace("1" + "0" * 96, "1" + "0" * 95 + "1")))
    vps, pps = b"\x40\x01" + bits(f"{number:04b}"), b"\x44\x01" + bits(ue(number))
    sets = ParameterSets("h265")
    assert [sets.add(nal) for nal in (vps, sps, pps)] == [True] * 3
    assert sets.snapshot() == ((vps,), (sps,), (pps,))
    assert [sets.add(nal) for nal in (vps, sps, pps)] == [False] * 3
    assert sets.add(other)
    assert sets.snapshot() == ((vps,), (other,), (pps,))


def test_the_snapshot_is_the_same_object_until_something_changes() -> None:
    sets = ParameterSets("h264")
    sets.add(b"\x67\x42\0\x1e\xab")
    first = sets.snapshot()
    assert not sets.add(b"\x67\x42\0\x1e\xab")
    assert sets.snapshot() is first


@given(st.sampled_from(["h264", "h265"]), st.lists(st.binary(max_size=40), max_size=40))
def test_garbage_is_bounded(codec: str, nals: list[bytes]) -> None:
    sets = ParameterSets(codec)
    for nal in nals:
        sets.add(nal)
        sets.add(b"\x67" + nal)
        sets.add(b"\x42\x01" + nal)
    vps, sps, pps = sets.snapshot()
    assert len(vps) <= 16
    assert len(sps) <= 32
    assert len(pps) <= 256


def test_sets_too_large_are_left_to_the_stream() -> None:
    sets = ParameterSets("h264")
    assert not sets.add(b"\x67\x42\0\x1e\xab" + bytes(20_000))
