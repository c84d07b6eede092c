"""What is remembered of devices: by place, over processes, until it is forgotten."""

from __future__ import annotations

from pathlib import Path

from base.identities import VALUE_CHARACTERS_MAX, Identities, forget

HERE = "rtsp://10.0.0.9:554/main"
FIRST = {"certificate": "", "realm": "IP Camera(C1234)", "server": "Rtsp Server/2.0", "name": "Media"}


def test_the_first_device_is_learnt_and_another_is_told(tmp_path: Path) -> None:
    known = Identities(tmp_path)
    known.follow()
    assert known.judge("gate.main", HERE, FIRST) == ""
    assert known.judge("gate.main", HERE, FIRST) == ""
    other = known.judge("gate.main", HERE, {**FIRST, "realm": "IP Camera(D9999)"})
    assert other == "realm 'IP Camera(C1234)' became 'IP Camera(D9999)'"
    assert "(none)" in known.judge("gate.main", HERE, {**FIRST, "server": ""})
    assert known.judge("gate.main", HERE, {**FIRST, "certificate": "ab"}) == "", "what it had not told is learnt"
    assert "certificate" in known.judge("gate.main", HERE, {**FIRST, "certificate": "cd"})
    assert known.judge("yard.main", HERE, {**FIRST, "realm": "x"}) == ""


def test_another_address_is_another_place(tmp_path: Path) -> None:
    known = Identities(tmp_path)
    known.judge("gate.main", HERE, FIRST)
    assert known.judge("gate.main", HERE + "2", {"realm": "other"}) == ""


def test_it_outlives_the_process_until_it_is_forgotten(tmp_path: Path) -> None:
    first = Identities(tmp_path)
    first.judge("gate.main", HERE, FIRST)
    assert not first.follow()
    again = Identities(tmp_path)
    again.follow()
    assert "realm" in again.judge("gate.main", HERE, {**FIRST, "realm": "y"})
    assert forget(tmp_path, ["gate.main", "no.main"]) == ["gate.main"]
    assert again.follow(), "somebody else changed the file"
    assert again.judge("gate.main", HERE, {**FIRST, "realm": "y"}) == ""
    assert forget(tmp_path, ["gate.main"]) == [], "not saved yet"
    again.follow()
    assert forget(tmp_path, ["gate.main"]) == ["gate.main"]


def test_two_processes_keep_each_other_s_streams(tmp_path: Path) -> None:
    one, two = Identities(tmp_path), Identities(tmp_path)
    one.judge("a.main", HERE, FIRST)
    two.judge("b.main", HERE, FIRST)
    one.follow()
    two.follow()
    one.follow()
    assert forget(tmp_path, ["a.main", "b.main"]) == ["a.main", "b.main"]


def test_a_damaged_file_and_long_words_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "identities.json").write_bytes(b"\xff{")
    known = Identities(tmp_path)
    known.follow()
    assert known.judge("gate.main", HERE, {"server": "x" * 100_000}) == ""
    known.follow()
    assert (tmp_path / "identities.json").stat().st_size < VALUE_CHARACTERS_MAX + 200
