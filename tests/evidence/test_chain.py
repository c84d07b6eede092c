from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence import ledger
from evidence.chain import FINDINGS_MAX, claims, prove
from evidence.ledger import Chunk, Entry, pack_entry
from tests.evidence.ledgers import START_US, chained, check, contents, signed_head


def long_chain() -> list[Entry]:
    """Two heads, and entries after the last one."""
    first = chained(contents())
    again = chained([ledger.GapNote(1, 2, 3, 4)] * 4, number=len(first), previous=first[-1].hash)
    open_end = chained([ledger.GapNote(1, 2, 3, 4)], number=again[-1].number + 1, previous=again[-1].hash, sign=False)
    return [*first, *again, *open_end]


def test_a_chain_proves_itself_up_to_its_last_head() -> None:
    entries = long_chain()
    proven = prove(entries, check)
    assert proven.sound
    assert (proven.first, proven.last, proven.entries, proven.heads) == (0, 16, 17, 2)
    assert proven.signed_upto == 14
    assert proven.signed_until_us == entries[15].time_us
    assert proven.last_hash == entries[-1].hash
    assert proven.ledger == contents()[0]


def test_a_chain_goes_on_over_files() -> None:
    entries = long_chain()
    part = prove(entries[:6], check)
    whole = prove(entries[6:], check, part)
    assert whole.sound
    assert whole.signed_upto == 14


def test_a_part_that_begins_with_a_file_proves_itself() -> None:
    first = chained(contents())
    later = chained(contents(), number=11, previous=first[-1].hash)
    proven = prove(later, check)
    assert proven.sound
    assert (proven.first, proven.signed_upto) == (11, 20)


def _replaced(entry: Entry, content: ledger.Content) -> Entry:
    return pack_entry(entry.number, entry.time_us, entry.previous, content)


def _alter(entries: list[Entry]) -> list[Entry]:
    entries[6] = _replaced(entries[6], ledger.GapNote(1, 2, 3, 4))
    return entries


CHANGES: dict[str, tuple[Callable[[list[Entry]], list[Entry]], int]] = {
    "altered": (_alter, 7),
    "left out": (lambda entries: entries[:5] + entries[6:], 6),
    "exchanged": (lambda entries: [*entries[:3], entries[4], entries[3], *entries[5:]], 4),
    "doubled": (lambda entries: [*entries[:5], entries[4], *entries[5:]], 4),
    "beginning cut": (lambda entries: entries[2:], 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_done_to_a_chain_is_found_and_named(change: str) -> None:
    do, number = CHANGES[change]
    proven = prove(do(long_chain()), check)
    assert proven.findings[0].number == number
    assert proven.signed_upto == -1


def test_every_entry_left_out_exchanged_or_doubled_is_found() -> None:
    entries = long_chain()
    for at in range(len(entries) - 1):
        assert not prove([*entries[:at], *entries[at + 1 :]], check).sound
        assert not prove([*entries[:at], entries[at + 1], entries[at], *entries[at + 2 :]], check).sound
        assert not prove([*entries[: at + 1], *entries[at:]], check).sound


def test_a_rewritten_chain_has_no_signature() -> None:
    """All hashes made anew by somebody who has another key."""
    said = contents()
    said[6] = ledger.GapNote(1, 2, 3, 4)
    forged = chained(said, sign=False)
    forged.append(signed_head(len(forged), forged[-1].time_us, forged[-1].hash, Ed25519PrivateKey.generate()))
    proven = prove(forged, check)
    assert [(one.number, one.what) for one in proven.findings] == [(10, "the signature does not hold")]
    assert proven.signed_upto == -1


def test_another_ledger_that_goes_on_is_found() -> None:
    first = chained(contents())
    said = contents()
    assert isinstance(said[0], ledger.Ledger)
    said[0] = said[0]._replace(node=bytes(16))
    assert not prove([*first, *chained(said, number=11, previous=first[-1].hash)], check).sound
    foreign = chained([contents()[0]._replace(ledger=bytes(16)), *contents()[1:]])  # type: ignore[call-arg]
    assert "another ledger" in prove(foreign, check).findings[0].what


def test_time_that_goes_back_is_found() -> None:
    entries = chained(contents(), sign=False)
    back = pack_entry(10, START_US - 1, entries[-1].hash, ledger.GapNote(1, 2, 3, 4))
    assert [one.number for one in prove([*entries, back], check).findings] == [10]


def test_findings_are_bounded() -> None:
    entries = chained([contents()[0], *[ledger.GapNote(1, 2, 3, 4)] * (FINDINGS_MAX + 50)], sign=False)
    proven = prove(entries, check)
    assert proven.sound
    spoilt = [entry for entry in entries if entry.number % 2 == 0]
    proven = prove([*spoilt, *spoilt, *spoilt], check)
    assert len(proven.findings) == FINDINGS_MAX
    assert proven.more_findings


def test_claims_are_gathered_by_opening() -> None:
    one, two = bytes(16), bytes(range(16))
    said: list[ledger.Content] = [
        contents()[0],
        Chunk(one, 1, 1, 1, 5, 0, 5, 50, bytes(32)),
        Chunk(two, 2, 1, 1, 3, 5, 8, 30, bytes(32)),
        Chunk(one, 1, 1, 1, 7, 0, 7, 70, bytes(32)),
        Chunk(one, 1, 4, 8, 2, 7, 9, 20, bytes(32)),
        Chunk(two, 2, 4, 5, 2, 8, 9, 20, bytes(32)),
    ]
    found = claims(chained(said))
    assert [claim.sequence for claim in found.values()] == [1, 2]
    assert found[one].covered == 9
    assert found[two].covered == 3  # 4 is under no root
    assert [number for number, _ in found[one].roots] == [1, 3, 4]
    assert found[one].signed(3).covered == 7
    assert found[one].signed(0).covered == 0
    assert found[one].signed(9).opened is None


def test_a_claim_is_believed_as_far_as_it_is_signed() -> None:
    said = claims(chained(contents()))
    (claim,) = said.values()
    assert (claim.opened_number, claim.covered) == (4, 7)
    assert claim.signed(3).opened is None
    assert claim.signed(4).opened == claim.opened
    assert claim.signed(4).covered == 0
    assert claim.signed(5) == claim
