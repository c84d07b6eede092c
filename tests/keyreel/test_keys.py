"""`keyreel key …` by its command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from base.datadir import DataDir
from base.errors import ConfigError, UserError
from evidence.keys import Keys
from keyreel.main import app

NOW_US = 1_790_000_000_000_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    datadir = DataDir.create(tmp_path / "data")
    Keys.ensure(datadir.keys_path, None, NOW_US)
    return datadir.path


def run(*words: str | Path, data: Path, fails: type[Exception] | None = None, **environment: str) -> str:
    """What it prints, or says when it fails; what `keyreel.main.main` makes of errors is tested there."""
    done = CliRunner().invoke(app, ["key", *map(str, words), "--data", str(data)], env=environment)
    if fails is None:
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout
    assert isinstance(done.exception, fails)
    return done.stderr or str(done.exception)


def documents(text: str) -> Any:
    return json.loads(text)


def test_a_keys_life(data: Path, tmp_path: Path) -> None:
    first = documents(run("show", "--json", data=data))["keys"]
    assert [(key["use"], key["state"]) for key in first] == [("ledger", "in use"), ("export", "in use")]
    assert "PRIVATE" not in json.dumps(first)
    rotated = documents(run("rotate", "--json", data=data))
    assert rotated["endorsed_by"] == first[0]["id"]
    run("revoke", first[0]["id"][:12], "--reason", "stolen", "--since", "2026-03-01T00:00:00Z", data=data)
    states = {key["id"]: key["state"] for key in documents(run("show", "--json", data=data))["keys"]}
    assert states == {first[0]["id"]: "revoked", first[1]["id"]: "in use", rotated["id"]: "in use"}
    assert run("show", "--pem", data=data).count("BEGIN PUBLIC KEY") == 2
    assert "BEGIN CERTIFICATE REQUEST" in run("request", data=data)
    run("backup", "--to", tmp_path / "backup.json", data=data)
    for path in (data / "keys").iterdir():
        path.unlink()
    assert "has no keys" in run("show", data=data, fails=ConfigError)
    run("restore", tmp_path / "backup.json", data=data)
    assert {key["id"] for key in documents(run("show", "--json", data=data))["keys"]} == set(states)


def test_a_password_from_file_and_environment(data: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("of this node\n")
    run("protect", "--password-file", tmp_path / "password", data=data)
    assert "protected by a password" in run("request", data=data, fails=ConfigError)
    run("request", data=data, KEYREEL_KEY_PASSWORD="of this node")
    (data / "keyreel.toml").write_text(f'[evidence]\nkey_password_file = "{tmp_path}/password"\n')
    run("request", data=data)
    (tmp_path / "password").write_text("\n")
    assert "is empty" in run("request", data=data, fails=ConfigError)


def test_what_is_asked_wrong_is_told(data: Path, tmp_path: Path) -> None:
    assert "--use" in run("rotate", "--use", "tea", data=data, fails=SystemExit)
    assert "keys begin with" in run("revoke", "ffffffffffff", "--reason", "none", data=data, fails=UserError)
    assert "cannot be read" in run("import-chain", tmp_path / "none.pem", data=data, fails=UserError)
    assert "no backup" in run("restore", data / "node.json", data=data, fails=UserError)
