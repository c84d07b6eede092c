from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simcam.stamps import STAMP_UUID, Stamper, digest_hex, parse_stamp, split_sample, verify
from tests.simcam.viewer import sample


def picture(sequence: int, codec: str = "h264", camera: str = "gate", payload: bytes = b"picture") -> bytes:
    head = b"\x65" if codec == "h264" else b"\x26\x01"
    nal = head + payload + sequence.to_bytes(4, "big")
    return sample([Stamper(camera, codec).nal(sequence, 1_000_000 + sequence, digest_hex([nal])), nal])


@given(
    st.sampled_from(["h264", "h265"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.lists(st.binary(min_size=2, max_size=50), min_size=1, max_size=4),
)
def test_a_stamp_reads_back(codec: str, camera: str, sequence: int, time_us: int, nals: list[bytes]) -> None:
    nal = Stamper(camera, codec).nal(sequence, time_us, digest_hex(nals))
    assert b"\0\0" not in nal, "a stamp never needs emulation prevention"
    stamp = parse_stamp(sample([*nals, nal]), codec)
    assert stamp is not None
    assert (stamp.camera, stamp.sequence, stamp.time_us) == (camera, sequence, time_us)
    assert stamp.digest.hex().encode() == digest_hex(nals)


def test_the_bytes_of_a_stamp() -> None:
    nal = Stamper("gate", "h264").nal(258, 1_700_000_000_000_000, b"00112233445566778899aabbccddeeff")
    expected = b"\x06\x05\x54" + STAMP_UUID
    assert nal == expected + b"000000000000010200060a24181e4000" + b"00112233445566778899aabbccddeeff" + b"gate\x80"
    assert Stamper("gate", "h265").nal(0, 0, b"0" * 32).startswith(b"\x4e\x01\x05\x54" + STAMP_UUID)


def test_a_whole_recording_is_ok() -> None:
    report = verify([picture(n) for n in range(7, 50)], "h264")
    assert report.ok
    assert (report.first, report.last, report.pictures, report.cameras) == (7, 49, 43, ["gate"])
    assert (report.first_us, report.last_us) == (1_000_007, 1_000_049)
    assert verify([picture(n, "h265") for n in range(3)], "h265").ok


def test_what_is_wrong_is_named() -> None:
    report = verify([picture(n) for n in (1, 2, 5, 6, 9)], "h264")
    assert report.missing == [(3, 4), (7, 8)]
    assert report.missing_pictures == 4
    report = verify([picture(n) for n in (1, 3, 2, 4)], "h264")
    assert (report.missing, report.out_of_order) == ([], [2])
    assert verify([picture(1), picture(1)], "h264").duplicates == [1]
    assert verify([picture(1), sample([b"\x65abc"])], "h264").unstamped == 1
    assert not verify([picture(1), picture(2, camera="yard")], "h264").ok
    assert not verify([], "h264").ok


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_any_flipped_bit_is_noticed(at: int, bit: int) -> None:
    good = picture(5, payload=b"a picture of some length")
    changed = bytearray(good)
    changed[at % len(good)] ^= 1 << bit
    try:
        report = verify([picture(4), bytes(changed), picture(6)], "h264")
    except ValueError:
        return  # a length was hit
    time_field = range(4 + 3 + 16 + 16, 4 + 3 + 16 + 32)
    assert not report.ok or at % len(good) in time_field, "only the time in the stamp is not covered"


def test_a_lost_or_added_nal_unit_is_noticed() -> None:
    nals = [b"\x67sps", b"\x65one", b"\x65two"]
    stamp = Stamper("gate", "h264").nal(1, 1, digest_hex(nals))
    assert verify([sample([*nals, stamp])], "h264").ok
    for changed in (nals[:2], [*nals, b"\x41more"], [nals[0], nals[2], nals[1]], [b"\x67sps\x65one", nals[2]]):
        assert verify([sample([*changed, stamp])], "h264").mismatches == [1]


def test_lengths_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="leaves its sample"):
        list(split_sample(b"\0\0\0\x09abc"))


@pytest.mark.parametrize("name", ["", "ü", "a" * 129, "a\nb"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"name|ascii"):
        Stamper(name, "h264")
