from __future__ import annotations

import json
from pathlib import Path

import pytest

from base.datadir import DataDir
from base.errors import NotFound, UserError
from index import Index
from keyreel.holds import add, let_go, show
from tests.index.test_transaction import BASE_US, chunk

START, END = "2026-09-21T14:13:21Z", "2026-09-21T14:13:45Z"
MORE = {"reason": "a theft", "owner": "Lan", "case": "26-1187", "expires": "", "review": ""}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    datadir = DataDir.create(tmp_path / "data")
    with Index.open(datadir.index_path, create=True) as index, index.write() as transaction:
        transaction.apply(chunk(1, 1, BASE_US, 40))
    return datadir.path


def test_a_hold_is_placed_listed_and_released(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(data, False, False)
    assert "nothing is held" in capsys.readouterr().out
    add(data, ["cam1.main"], START, END, False, **MORE)
    assert capsys.readouterr().out == f"hold 1: cam1.main is kept from {START} to {END}\n"
    show(data, False, True)
    listed = json.loads(capsys.readouterr().out)
    assert (listed["holds"][0]["start"], listed["holds"][0]["active"]) == ("2026-09-21T14:13:21.000000Z", True)
    assert listed["kept"][0]["chunks"] == 1
    let_go(data, 1, "Minh", "closed", False)
    with pytest.raises(UserError, match="released already"):
        let_go(data, 1, "Minh", "closed", False)
    capsys.readouterr()
    show(data, True, False)
    text = capsys.readouterr().out
    assert "released by Minh" in text
    assert "26-1187" in text


def test_what_does_not_exist_is_not_held(data: Path) -> None:
    with pytest.raises(NotFound):
        add(data, ["gate.main"], START, END, False, **MORE)
    with pytest.raises(NotFound):
        let_go(data, 7, "Minh", "", False)
