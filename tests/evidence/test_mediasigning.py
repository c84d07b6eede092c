"""Streams signed by the specification, whole and spoilt in every way, and what the verifier says of each GOP."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from evidence.mediasigning import Part, Provenance, StreamReport, Trust, Verdict, Verifier, verify_stream
from evidence.mediasigning.parts import Reason
from evidence.mediasigning.verifier import GOPS_HELD
from tests.evidence.signer import T0, Authority, Camera, Unit, make_camera, pictures, plain, sample

CA = Authority()
TRUST = Trust([CA.certificate])
UNIT_US = 100_000


def report(units: Sequence[Unit], codec: str = "h264", trust: Trust = TRUST, **window: int) -> StreamReport:
    timed = ((T0 + i * UNIT_US, sample(unit)) for i, unit in enumerate(units))
    return verify_stream(timed, codec, trust, **window)  # type: ignore[arg-type]


def parts(units: Sequence[Unit], codec: str = "h264", trust: Trust = TRUST) -> list[Part]:
    verifier = Verifier(codec, trust)  # type: ignore[arg-type]
    fed = [part for i, unit in enumerate(units) for nal in unit for part in verifier.feed(nal, T0 + i * UNIT_US)]
    return fed + verifier.finish()


def told(found: Sequence[Part]) -> list[tuple[str, str]]:
    return [(str(part.verdict), str(part.reason)) for part in found]


def signed(gops: int = 5, gop: int = 6, **options: Any) -> tuple[Camera, list[Unit]]:
    slices = options.pop("slices", 1)
    camera = make_camera(CA, **options)
    return camera, camera.sign(pictures(camera.codec, gops, gop, slices), closing=True)


def sei_at(camera: Camera, units: Sequence[Unit], number: int) -> tuple[int, int]:
    """(unit, place in it) of the `number`-th SEI."""
    kinds = (0x06,) if camera.codec == "h264" else (0x4E,)
    return [(i, j) for i, unit in enumerate(units) for j, nal in enumerate(unit) if nal[0] in kinds][number]


OK = ("authentic", "")
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "at-once": {"late": 0},
    "very-late": {"late": 4},
    "slices": {"slices": 3},
    "without-list": {"hash_list": False},
    "certificate-sei": {"certificate_sei": True},
    "escaped-first": {"escape_first": True},
    "little-endian": {"big_endian": False},
    "old-tag": {"version": 1},
    "sha512": {"hash_name": "sha512"},
    "rsa": {"rsa": True},
    "repeated": {"repeat": 3},
    "parts": {"split": 2},
    "parts-late": {"split": 4, "late": 2},
    "interval": {"every": 3},
    "interval-at-once": {"every": 3, "late": 0},
    "interval-repeated": {"every": 2, "repeat": 2},
    "interval-escaped": {"every": 2, "escape_first": True},
    "interval-without-list": {"every": 2, "hash_list": False},
}


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_camera_signed_is_authentic(way: str, codec: str) -> None:
    _, units = signed(codec=codec, **WAYS[way])
    found = parts(units, codec)
    assert set(told(found)) == {OK}
    assert sum(part.units for part in found) >= sum(len(unit) - 1 for unit in units if len(unit) == 2)
    assert {part.provenance for part in found} == {Provenance.TRUSTED}
    vendor = report(units, codec).vendor
    assert vendor is not None
    assert (vendor.firmware, vendor.serial, vendor.manufacturer) == ("9.1", "ACCC8E000001", "Test Cameras")
    assert {part.key.subject for part in found if part.key} == {"CN=camera"}
    assert all(a.start_us < b.start_us for a, b in pairwise(found))
    assert found[0].camera_us == T0


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_unsigned_footage_says_so_and_nothing_else(codec: str) -> None:
    made = report(pictures(codec, GOPS_HELD + 9, 3), codec)
    assert made.verdict == Verdict.NOT_SIGNED
    assert len(made.ranges) == 1
    assert made.ranges[0].parts == GOPS_HELD + 9
    assert not made.findings
    assert made.provenance is None


@pytest.mark.parametrize("way", WAYS)
def test_a_flipped_byte_names_its_gop(way: str) -> None:
    """In every picture of the third GOP in turn, key picture included."""
    options = dict(WAYS[way])
    _camera, units = signed(**options)
    whole = parts(units)
    for at in range(12, 18):
        spoilt = [list(unit) for unit in units]
        nal = bytearray(spoilt[at][-1])
        nal[len(nal) // 2] ^= 1
        spoilt[at][-1] = bytes(nal)
        found = parts(spoilt)
        bad = [part for part in found if part.verdict is not Verdict.AUTHENTIC]
        assert {part.verdict for part in bad} == {Verdict.NOT_AUTHENTIC}, at
        assert all(T0 + 12 * UNIT_US <= part.start_us <= part.end_us < T0 + 18 * UNIT_US for part in bad), at
        assert any(part.start_us <= T0 + at * UNIT_US <= part.end_us for part in bad), at
        assert len(found) == len(whole), at


@pytest.mark.parametrize("at", [13, 14, 17])
def test_a_lost_picture_is_a_missing_unit(at: int) -> None:
    _, units = signed(slices=2, late=0)
    found = parts(units[:at] + units[at + 1 :])
    assert told(found) == [OK, OK, ("authentic-with-missing-units", "units-missing"), OK, OK]
    assert [part.missing for part in found] == [0, 0, 2, 0, 0]


def test_a_lost_slice_is_a_missing_unit_and_named() -> None:
    _, units = signed(slices=3)
    del units[14][-1]
    (bad,) = (part for part in parts(units) if part.verdict is not Verdict.AUTHENTIC)
    assert (bad.verdict, bad.missing, bad.altered, bad.added) == (Verdict.MISSING_UNITS, 1, 0, 0)
    assert bad.start_us == T0 + 12 * UNIT_US
    assert "1 missing of 18 units" in bad.detail


def test_a_lost_key_picture_spoils_its_gop() -> None:
    _, units = signed()
    del units[12]
    assert told(parts(units)) == [OK, OK, ("not-authentic", "units-altered"), OK, OK]


def test_without_a_list_a_lost_picture_cannot_be_told_from_another_one() -> None:
    _, units = signed(hash_list=False)
    found = parts(units[:14] + units[15:])
    assert told(found) == [OK, OK, ("not-authentic", "units-altered"), OK, OK]


@pytest.mark.parametrize("swapped", [(13, 14), (14, 15), (12, 16)])
def test_pictures_in_another_order_are_not_authentic(swapped: tuple[int, int]) -> None:
    _, units = signed(late=0)
    a, b = swapped
    units[a], units[b] = units[b], units[a]
    found = parts(units)
    bad = [part for part in found if part.verdict is not Verdict.AUTHENTIC]
    assert bad
    assert all(part.verdict is Verdict.NOT_AUTHENTIC for part in bad)
    assert {(part.start_us - T0) // (6 * UNIT_US) for part in bad} == {2}


def test_an_added_picture_is_not_authentic() -> None:
    _, units = signed()
    units.insert(15, [pictures("h264", 1, 2, seed=9)[1][-1]])
    (bad,) = (part for part in parts(units) if part.verdict is not Verdict.AUTHENTIC)
    assert (bad.verdict, bad.added, bad.missing) == (Verdict.NOT_AUTHENTIC, 1, 0)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize("way", ["plain", "at-once", "very-late", "without-list"])
def test_a_dropped_sei_names_its_gop(way: str, number: int) -> None:
    camera, units = signed(**WAYS[way])
    unit, place = sei_at(camera, units, number)
    del units[unit][place]
    found = parts(units)
    expected = [OK] * 5
    expected[number] = ("not-authentic", "signature-missing")
    assert told(found) == expected


def test_a_spoilt_sei_names_its_gop() -> None:
    camera, units = signed()
    unit, place = sei_at(camera, units, 2)
    nal = units[unit][place]
    for at in range(0, len(nal), 5):
        spoilt = [list(one) for one in units]
        spoilt[unit][place] = nal[:at] + bytes((nal[at] ^ 0x10,)) + nal[at + 1 :]
        found = told(parts(spoilt))
        assert found[:2] == [OK, OK], at
        assert found[3:] == [OK, OK], at
        padding = found[2] == OK  # the bytes that fill a signature's place are not signed
        assert padding == (b"\1" * 8 in nal[at - 8 : at + 9]) or found[2][0] == "not-authentic", at
        assert not padding or at > len(nal) - 75, at


def test_a_whole_gop_that_is_gone_is_told() -> None:
    camera, units = signed(late=0)
    found = parts(units[:12] + units[18:])  # with the SEI of the GOP before it
    gone = ("authentic-with-missing-units", "part-missing")
    assert told(found) == [OK, ("not-authentic", "signature-missing"), gone, OK, OK]
    at, place = sei_at(camera, units, 1)
    kept = [*units[:12], [units[at][place], *units[18]], *units[19:]]  # the SEI stays
    found = parts(kept)
    assert told(found) == [OK, OK, gone, OK, OK]
    assert (found[2].units, found[2].missing) == (0, 6)


def test_gops_in_another_order_are_told() -> None:
    """Each with its own signature behind it."""
    _, units = signed(gops=6, late=0)
    for i in range(6, 36, 6):  # the SEI that closes a GOP goes with its last picture
        units[i - 1].append(units[i].pop(next(j for j, nal in enumerate(units[i]) if nal[0] == 6)))
    assert set(told(parts(units))) == {OK}
    blocks = [units[i : i + 6] for i in range(0, 36, 6)]
    blocks[2], blocks[3] = blocks[3], blocks[2]
    gone = ("authentic-with-missing-units", "part-missing")
    found = told(parts([unit for block in blocks for unit in block]))
    assert found == [OK, OK, gone, OK, ("not-authentic", "order-changed"), gone, OK, OK]


def test_a_gop_shown_twice_is_told() -> None:
    _, units = signed(gops=4, late=0)
    for i in range(6, 24, 6):
        units[i - 1].append(units[i].pop(next(j for j, nal in enumerate(units[i]) if nal[0] == 6)))
    found = told(parts([*units[:12], *units[6:12], *units[12:]]))
    assert found == [OK, OK, ("not-authentic", "signature-missing"), OK, OK]


def test_signed_by_another_key_in_between_is_not_authentic() -> None:
    _camera, units = signed(gops=6)
    thief = make_camera(Authority("Thief"), counter=2)
    stolen = thief.sign(pictures("h264", 6, 6, seed=4))
    found = parts(units[:12] + stolen[12:24] + units[24:])
    assert "key-changed" in {str(part.reason) for part in found}
    assert told(found)[-1] == OK
    assert all(
        part.verdict is not Verdict.AUTHENTIC
        for part in found
        if T0 + 12 * UNIT_US <= part.start_us < T0 + 24 * UNIT_US
    )


def test_signed_all_over_by_a_stranger_is_authentic_but_not_trusted() -> None:
    thief = make_camera(Authority("Thief"))
    made = report(thief.sign(pictures("h264", 4, 5), closing=True))
    assert made.verdict == Verdict.AUTHENTIC
    assert made.provenance == Provenance.UNTRUSTED


def test_without_anchors_the_chain_is_not_judged() -> None:
    _, units = signed()
    assert report(units, trust=Trust()).provenance == Provenance.UNKNOWN


def test_certificates_are_judged_at_the_time_of_the_pictures() -> None:
    _, units = signed(days=300)  # valid through 2024 only
    made = report(units)
    assert made.verdict == Verdict.AUTHENTIC
    assert made.provenance == Provenance.EXPIRED


def test_a_chain_with_an_authority_between_leads_to_the_anchor() -> None:
    middle = Authority("Middle")
    middle.certificate = CA.issue("Middle", middle.key.public_key(), ca=True)
    camera = make_camera(middle)
    units = camera.sign(pictures("h264", 3, 4), closing=True)
    assert report(units).provenance == Provenance.UNTRUSTED
    from cryptography.hazmat.primitives import serialization

    camera.chain += middle.certificate.public_bytes(serialization.Encoding.PEM)
    assert report(camera.sign(pictures("h264", 3, 4), closing=True)).provenance == Provenance.TRUSTED


def test_a_leaf_may_not_vouch_for_another() -> None:
    leaf = Authority("Leaf")
    leaf.certificate = CA.issue("Leaf", leaf.key.public_key())
    camera = make_camera(leaf)
    from cryptography.hazmat.primitives import serialization

    camera.chain += leaf.certificate.public_bytes(serialization.Encoding.PEM)
    assert report(camera.sign(pictures("h264", 3, 4), closing=True)).provenance == Provenance.UNTRUSTED


def test_a_key_of_the_users_is_vouched_for_by_his_own_chain() -> None:
    user = make_camera(CA)
    for certificate_sei in (False, True):
        camera = make_camera(CA, user=(user.key, user.chain), certificate_sei=certificate_sei)
        assert set(told(parts(camera.sign(pictures("h264", 3, 4), closing=True)))) == {OK}


def test_a_certificate_sei_that_another_key_signed_is_not_believed() -> None:
    camera = make_camera(CA, certificate_sei=True)
    units = camera.sign(pictures("h264", 3, 4), closing=True)
    other = make_camera(CA)
    camera.chain = other.chain
    units[0][0] = camera._certificate_sei()
    assert {part.verdict for part in parts(units)} <= {Verdict.NOT_COVERED, Verdict.NOT_AUTHENTIC}


@pytest.mark.parametrize("way", ["plain", "at-once", "very-late", "parts", "interval", "certificate-sei"])
def test_a_range_from_the_middle_is_judged_as_far_as_it_is_covered(way: str) -> None:
    camera = make_camera(CA, **WAYS[way])
    units = camera.sign(pictures("h264", 9, 6))
    found = parts(units[18:45])
    if way == "certificate-sei":
        assert {str(part.reason) for part in found} <= {"certificate-missing", "signature-lies-behind"}
        return
    decided = [part for part in found if part.verdict is not Verdict.NOT_COVERED]
    assert set(told(decided)) == {OK}
    assert decided[0].start_us == T0
    assert found[-1].reason is Reason.DANGLING


def test_a_certificate_from_the_beginning_of_the_connection_is_enough() -> None:
    camera = make_camera(CA, certificate_sei=True)
    units = camera.sign(pictures("h264", 9, 6))
    timed = [(T0 + i * UNIT_US, sample(unit)) for i, unit in enumerate(units)]
    made = verify_stream(timed[18:45], "h264", TRUST, end_us=T0 + 30 * UNIT_US, known=[timed[0][1]])
    assert (made.verdict, made.provenance, made.counts) == ("authentic", "trusted", {Verdict.AUTHENTIC: 2})
    alone = verify_stream(timed[18:45], "h264", TRUST, end_us=T0 + 30 * UNIT_US)
    assert (alone.verdict, {part.reason for part in alone.findings}) == ("not-covered", {Reason.NO_KEY})


@pytest.mark.parametrize("way", ["plain", "at-once", "very-late", "parts", "interval", "without-list"])
@pytest.mark.parametrize("cut", [30, 33, 36, 37])
def test_what_a_lost_connection_took_is_no_forgery(way: str, cut: int) -> None:
    """The camera signs on while nobody listens; the next picture is a key picture again."""
    camera = make_camera(CA, **WAYS[way])
    units = camera.sign(pictures("h264", 14, 6), closing=True)
    timed = [(T0 + i * UNIT_US, sample(unit)) for i, unit in enumerate(units)]
    rest = [*timed[:cut], (timed[48][0], b""), *timed[48:]]
    made = verify_stream(rest, "h264", TRUST)
    assert made.verdict == Verdict.MISSING_UNITS
    assert made.counts[Verdict.NOT_AUTHENTIC] == 0, made.findings
    assert made.counts[Verdict.AUTHENTIC] >= 5
    behind = {part.reason for part in made.findings if part.start_us > T0 + 60 * UNIT_US}
    assert not behind, "what came after it is whole"


def test_without_a_known_gap_a_signature_that_is_gone_is_held_against_the_footage() -> None:
    units = make_camera(CA).sign(pictures("h264", 14, 6), closing=True)
    assert report([*units[:33], *units[48:]]).verdict == Verdict.NOT_AUTHENTIC


def test_each_part_tells_where_its_signature_is() -> None:
    for way, behind in (("plain", 1), ("at-once", 0), ("very-late", 4)):
        _, units = signed(**WAYS[way])
        found = parts(units)
        assert [part.signature_us for part in found[:3]] == [T0 + (6 * i + behind) * UNIT_US for i in (1, 2, 3)], way


def test_certificates_that_did_not_sign_are_not_believed() -> None:
    """A stranger's SEI among the camera's is found, and costs no part that the camera signed."""
    for spoilt in (False, True):
        _, units = signed(certificate_sei=True)
        thief = make_camera(Authority("Thief"), counter=1)
        forged = thief.sign(pictures("h264", 3, 6, seed=8))
        unit, place = sei_at(thief, forged, 1)
        nal = forged[unit][place]
        at = nal.index(b"\x03\x00") if not spoilt else nal.rindex(b"\x30") + 9  # inside the signature
        units[14].insert(0, nal[:at] + bytes((nal[at] ^ (1 if spoilt else 0),)) + nal[at + 1 :])
        found = [one for one in told(parts(units)) if one != OK]
        assert found == [("not-authentic", "signature-wrong" if spoilt else "key-changed")]
        assert told(parts(units)).count(OK) == 5


def test_parts_outside_of_the_window_are_left_out() -> None:
    _, units = signed(gops=6)
    made = report(units, start_us=T0 + 12 * UNIT_US, end_us=T0 + 24 * UNIT_US)
    assert (made.ranges[0].start_us, made.ranges[-1].end_us) == (T0 + 12 * UNIT_US, T0 + 23 * UNIT_US)
    assert made.counts == {Verdict.AUTHENTIC: 2}


def test_a_camera_that_stops_signing_is_noticed_while_it_streams() -> None:
    _, units = signed(gops=3)
    more = [*units, *pictures("h264", GOPS_HELD + 4, 6, seed=7)]
    verifier = Verifier("h264", TRUST)
    found = [part for i, unit in enumerate(more) for nal in unit for part in verifier.feed(nal, T0 + i * UNIT_US)]
    assert ("not-authentic", "signature-missing") in told(found)


def test_a_camera_that_starts_again_is_not_held_against_the_footage() -> None:
    camera, units = signed(gops=3)
    camera.counter = 0
    again = camera.sign(pictures("h264", 3, 6, seed=5), closing=True)
    timed = [(T0 + i * UNIT_US, sample(unit)) for i, unit in enumerate([*units, *again])]
    assert verify_stream([*timed[:18], (timed[18][0], b""), *timed[18:]], "h264", TRUST).verdict == Verdict.AUTHENTIC
    unbroken = told(parts([*units, *again]))
    assert unbroken == [OK] * 3 + [("authentic-with-missing-units", "part-missing")] + [OK] * 3


@pytest.mark.parametrize("gops", [3, GOPS_HELD + 5])
def test_a_camera_that_begins_to_sign_was_not_forged_before(gops: int) -> None:
    before = pictures("h264", gops, 3, seed=6)
    units = make_camera(CA).sign(pictures("h264", 8, 6), closing=True)
    made = report([*before, *units])
    assert (made.verdict, made.counts) == ("not-covered", {Verdict.NOT_SIGNED: gops, Verdict.AUTHENTIC: 8})
    assert report([*before, *units[18:]]).verdict == Verdict.NOT_AUTHENTIC, "it had signed before"


def test_losses_all_over_a_long_gop_are_counted() -> None:
    units = make_camera(CA, late=0).sign(pictures("h264", 2, 1_500), closing=True)
    for at in (1_400, 700, 699, 3):
        del units[at]
    found = parts(units)
    assert told(found) == [("authentic-with-missing-units", "units-missing"), OK]
    assert (found[0].missing, found[0].altered, found[0].added, found[0].units) == (4, 0, 0, 1_496)


def test_memory_is_bounded_whatever_comes() -> None:
    """One endless GOP, and SEIs that fit nothing."""
    verifier = Verifier("h264", TRUST)
    picture = pictures("h264", 1, 2)[1][-1]
    for i in range(70_000):
        verifier.feed(picture, T0 + i)
    other = make_camera(CA)
    strange = [nal for u in other.sign(pictures("h264", 80, 2, seed=3)) for nal in u if nal[0] == 6]
    for i, nal in enumerate(strange):
        verifier.feed(nal, T0 + i)
    assert len(verifier._units) <= 1 << 16
    assert len(verifier._waiting) <= 64


@pytest.mark.parametrize(
    "damage", [lambda nal: nal[:-40], lambda nal: nal[:30], lambda nal: nal[:20] + nal, lambda nal: nal + nal]
)
def test_seis_that_do_not_parse_end_nothing(damage: Callable[[bytes], bytes]) -> None:
    camera, units = signed()
    unit, place = sei_at(camera, units, 1)
    units[unit][place] = damage(units[unit][place])
    found = told(parts(units))
    assert found[1][0] == "not-authentic"
    assert [found[0], *found[2:]] == [OK] * 4


def test_whatever_an_sei_holds_the_verifier_goes_on() -> None:
    rng = random.Random(11)
    camera, units = signed(certificate_sei=True)
    places = [sei_at(camera, units, number) for number in range(4)]
    for _ in range(150):
        spoilt = [list(unit) for unit in units]
        unit, place = rng.choice(places)
        nal = bytearray(spoilt[unit][place])
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(18, len(nal))
            nal[at : at + rng.choice((0, 1, 1, 1, 9))] = rng.randbytes(rng.choice((0, 1, 1, 1, 9)))
        spoilt[unit][place] = bytes(nal)
        found = parts(spoilt)
        assert sum(part.units for part in found) in (30, 31)  # an SEI that lost its signature is a unit


def test_an_sei_kept_without_emulation_prevention_is_read() -> None:
    """As some signers leave it in MP4."""
    camera, units = signed()
    for number in range(5):
        unit, place = sei_at(camera, units, number)
        units[unit][place] = plain(units[unit][place])
    assert set(told(parts(units))) == {OK}


# -- footage of others ------------------------------------------------------------------------------------------------


def corpus_samples(path: Path) -> list[tuple[int, bytes]]:
    import av

    with av.open(str(path)) as container:
        found = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    return [(1_740_000_000_000_000 + i * UNIT_US, data) for i, data in enumerate(found)]  # 2025-02-19


@pytest.mark.needs_corpus
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_the_public_signer_is_understood(corpus: Path, codec: Any) -> None:
    trust = Trust.read([corpus / "signed" / "ca.pem"])
    samples = corpus_samples(corpus / "signed" / f"test_signed_{codec}.mp4")
    made = verify_stream(samples, codec, trust)
    assert (made.verdict, made.provenance) == (Verdict.AUTHENTIC, Provenance.TRUSTED)
    assert made.counts == {Verdict.AUTHENTIC: 5}
    assert made.keys[0].subject == "CN=Test camera,OU=Test,O=SomeOrg"
    late = [(time_us + 400 * 86_400 * 1_000_000, data) for time_us, data in samples]
    assert verify_stream(late, codec, trust).provenance == Provenance.EXPIRED
    assert verify_stream(corpus_samples(corpus / "signed" / f"test_{codec}.mp4"), codec, trust).verdict == "not-signed"
    for at in range(0, len(samples), 7):
        time_us, data = samples[at]
        spoilt = [*samples[:at], (time_us, data[:-3] + bytes((data[-3] ^ 4,)) + data[-2:]), *samples[at + 1 :]]
        bad = verify_stream(spoilt, codec, trust).findings
        assert len(bad) == 1
        assert bad[0].verdict is Verdict.NOT_AUTHENTIC
        assert bad[0].start_us <= time_us <= bad[0].end_us
