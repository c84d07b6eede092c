from __future__ import annotations

import pytest

from base.errors import UserError
from simcam.faults import Faults, PacketFaults

PACKETS = [bytes([0x80, 96, 0, n]) + bytes(8) + bytes([n]) * 20 for n in range(200)]


def through(faults: Faults, size: int = 5, seed: str = "cam") -> tuple[list[bytes], int]:
    worker = PacketFaults(faults, seed)
    out: list[bytes] = []
    damaged = 0
    for at in range(0, len(PACKETS), size):
        sent, hurt = worker.apply(PACKETS[at : at + size])
        out += sent
        damaged += hurt
    return out + worker.apply(())[0], damaged


def test_a_good_camera_changes_nothing() -> None:
    assert not Faults().on_packets
    assert through(Faults()) == (PACKETS, 0)


def test_loss_leaves_packets_out_and_says_so() -> None:
    out, damaged = through(Faults(loss=0.1))
    assert 150 < len(out) < 200
    assert out == [packet for packet in PACKETS if packet in out]
    assert damaged > 0
    assert through(Faults(loss=0.1)) == (out, damaged), "a run can be repeated"
    assert through(Faults(loss=0.1), seed="other")[0] != out


@pytest.mark.parametrize("size", [1, 5, 50])
def test_reordering_loses_nothing_and_stays_near(size: int) -> None:
    out, damaged = through(Faults(reorder=0.2), size)
    assert damaged == 0
    assert out != PACKETS
    assert sorted(out) == sorted(PACKETS)
    assert max(abs(PACKETS.index(packet) - at) for at, packet in enumerate(out)) <= 10


def test_duplicates_come_twice_in_a_row() -> None:
    out, damaged = through(Faults(duplicate=0.2))
    assert damaged == 0
    assert 210 < len(out) < 270
    assert list(dict.fromkeys(out)) == PACKETS


def test_corruption_spares_the_header() -> None:
    out, damaged = through(Faults(corrupt=0.5), 1)
    changed = [(a, b) for a, b in zip(out, PACKETS, strict=True) if a != b]
    assert len(changed) == damaged > 0
    assert all(a[:12] == b[:12] and len(a) == len(b) for a, b in changed)


@pytest.mark.parametrize(("marker", "bit"), [("always", 0x80), ("never", 0)])
def test_markers_are_wrong_as_asked(marker: str, bit: int) -> None:
    assert {packet[1] & 0x80 for packet in through(Faults(marker=marker))[0]} == {bit}


def test_garbage_is_never_a_frame() -> None:
    worker = PacketFaults(Faults(garbage=1.0), "cam")
    pieces = [worker.garbage() for _ in range(100)]
    assert all(pieces)
    assert not any(b"$" in piece for piece in pieces)
    assert PacketFaults(Faults(), "cam").garbage() == b""


def test_faults_are_set_from_text_all_or_none() -> None:
    faults = Faults()
    faults.set({"loss": "0.25", "stall": "yes", "marker": "never", "sdp_bytes": "1000"})
    assert (faults.loss, faults.stall, faults.marker, faults.sdp_bytes) == (0.25, True, "never", 1000)
    for wrong in ({"los": "1"}, {"loss": "much"}, {"marker": "maybe"}, {"sdp_bytes": "1.5"}):
        with pytest.raises(UserError):
            faults.set({"stall": "no", **wrong})
        assert faults.stall
