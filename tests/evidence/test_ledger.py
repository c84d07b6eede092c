"""Entries: golden file, the page that describes them, round trips, torn ends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import DamageError, FormatError
from evidence import ledger
from evidence.ledger import CRC, HEADER, Kind, pack_entry, read_entries, unpack_entry
from tests.evidence.ledgers import START_US, chained, contents

GOLDEN = Path(__file__).parent / "golden" / "ledger-v1.ledger"
PAGE = (Path(__file__).parents[2] / "docs" / "format" / "ledger.md").read_text()
TYPES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i64": "q", "2 bytes": "2s", "text": "t", "bytes": "b"}


def rows(section: str) -> list[tuple[str, str]]:
    text = PAGE.split(f"\n{section}\n")[1].split("\n#")[0]
    return re.findall(r"^\| (\w+) \| ([\w ]*) \|", text, re.M)[1:]


def test_the_page_and_the_code_agree_on_every_kind() -> None:
    told = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.M)
    assert [(int(number), name.upper()) for number, name in told] == [(one.value, one.name) for one in Kind]
    for kind, (shape, layout) in ledger.LAYOUTS.items():
        fields = [(name, of) for name, of in rows(f"### {kind.name.lower()}") if name != "token_bytes"]
        assert [name for name, _ in fields if name != "reserved"] == list(shape._fields)
        types = ["xx" if name == "reserved" else TYPES.get(of, of.replace(" bytes", "s")) for name, of in fields]
        assert types == layout.split()


def test_the_page_and_the_code_agree_on_the_entry() -> None:
    fields = [(name, of) for name, of in rows("## Entry") if name not in ("content", "crc")]
    assert ">" + "".join(TYPES.get(of, of.replace(" bytes", "s")) for _, of in fields) == HEADER.format
    assert f"Format version {ledger.FORMAT_VERSION}." in PAGE
    assert f"at most {ledger.ENTRY_BYTES_MAX} |" in PAGE
    context = ledger.SIGNED_CONTEXT.rstrip(b"\0").decode()
    assert f"the bytes `{context}`, one byte 0," in PAGE
    for enum in (ledger.SessionEvent, ledger.ChunkState, ledger.CameraVerdict):
        for one in enum:
            assert re.search(rf"[:,|] {one.value} (?=[a-z])", PAGE), one


def test_golden_file() -> None:
    """Written once by format version 1; what it says never changes."""
    data = GOLDEN.read_bytes()
    entries = list(read_entries(data))
    assert [entry.content for entry in entries[:-1]] == contents()
    assert b"".join(entry.raw for entry in entries) == data
    assert b"".join(entry.raw for entry in chained(contents())) == data


def test_every_kind_comes_back_as_it_was() -> None:
    said = contents()
    assert {ledger.KIND_OF[type(one)] for one in said} | {Kind.HEAD} == set(Kind)
    for entry in chained(said):
        assert unpack_entry(entry.raw) == entry


@given(st.text(max_size=5000), st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=300))
def test_texts_numbers_and_tokens_come_back(text: str, number: int, time_us: int, token: bytes) -> None:
    note = unpack_entry(pack_entry(number, time_us, bytes(32), ledger.Session(1, 2, 3, text)).raw)
    assert note is not None
    assert isinstance(note.content, ledger.Session)
    assert text.startswith(note.content.detail)
    assert len(note.content.detail.encode()) > ledger.TEXT_BYTES_MAX - 4 or note.content.detail == text
    assert (note.number, note.time_us) == (number, time_us)
    stamp = unpack_entry(pack_entry(number, time_us, bytes(32), ledger.Stamp(number, bytes(32), token)).raw)
    assert stamp is not None
    assert isinstance(stamp.content, ledger.Stamp)
    assert stamp.content.token == token


def test_a_file_torn_at_any_byte_has_its_whole_entries() -> None:
    entries = chained(contents())
    data = b"".join(entry.raw for entry in entries)
    ends = [sum(len(entry.raw) for entry in entries[:count]) for count in range(len(entries) + 1)]
    for size in range(len(data) + 1):
        whole = sum(end <= size for end in ends) - 1
        assert list(read_entries(data[:size])) == entries[:whole]


def test_any_flipped_bit_ends_the_reading_there() -> None:
    entries = chained(contents())
    data = b"".join(entry.raw for entry in entries)
    for at in range(len(data)):
        for bit in range(0, 8, 3):
            spoilt = bytearray(data)
            spoilt[at] ^= 1 << bit
            before = sum(1 for count in range(len(entries)) if sum(len(one.raw) for one in entries[: count + 1]) <= at)
            assert list(read_entries(bytes(spoilt))) == entries[:before]


def _altered(raw: bytes, at: int, value: int) -> bytes:
    import zlib

    body = bytearray(raw[: -CRC.size])
    body[at] = value
    return bytes(body) + CRC.pack(zlib.crc32(body))


def test_a_later_version_or_kind_is_refused() -> None:
    raw = pack_entry(5, START_US, bytes(32), ledger.GapNote(1, 2, 3, 4)).raw
    for at, value in ((2, 99), (3, 2)):
        with pytest.raises(FormatError, match="use a newer one"):
            unpack_entry(_altered(raw, at, value))


def test_an_entry_that_is_not_as_its_kind_is_names_itself() -> None:
    raw = pack_entry(5, START_US, bytes(32), ledger.GapNote(1, 2, 3, 4)).raw
    for kind in (Kind.HEAD, Kind.SESSION, Kind.EPOCH, Kind.STAMP):
        with pytest.raises(DamageError, match="ledger entry 5 "):
            unpack_entry(_altered(raw, 2, kind))


def test_what_does_not_fit_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="16 bytes got 3"):
        pack_entry(0, 0, bytes(32), ledger.Head(b"abc", bytes(32), bytes(64)))
    with pytest.raises(ValueError, match="65536 is the most"):
        pack_entry(0, 0, bytes(32), ledger.Stamp(1, bytes(32), bytes(70_000)))
