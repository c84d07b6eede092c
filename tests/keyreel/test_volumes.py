"""`keyreel volume`: what is added, drained and removed, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chunks.volume import IDENTITY_NAME, Volume


def volume(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keyreel", "volume", *words, "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def told(data: Path, *words: str) -> dict[str, Any]:
    done = volume(data, *words, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with two added volumes."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        told(tmp_path / "data", "add", str(tmp_path / name))
    return tmp_path / "data"


def test_added_volumes_are_listed_with_state_and_room(data: Path, tmp_path: Path) -> None:
    listed = told(data, "list")["volumes"]
    assert [Path(one["path"]).name for one in listed] == ["one", "two"]
    assert {one["state"] for one in listed} == {"ok"}
    assert all(one["free_bytes"] > 0 and one["takes_chunks"] for one in listed)
    again = told(data, "add", str(tmp_path / "one"))
    assert again["id"] == listed[0]["id"], "adding twice is adding once"
    assert str(tmp_path / "two") in volume(data, "list").stdout
    (tmp_path / "two" / IDENTITY_NAME).unlink()
    assert [one["state"] for one in told(data, "list")["volumes"]] == ["ok", "quarantined"]


def test_a_volume_is_known_by_its_identity_where_ever_it_is_mounted(data: Path, tmp_path: Path) -> None:
    (tmp_path / "two").rename(tmp_path / "elsewhere")
    told(data, "add", str(tmp_path / "elsewhere"))
    assert [Path(one["path"]).name for one in told(data, "list")["volumes"]] == ["one", "elsewhere"]


def test_draining_and_removing(data: Path, tmp_path: Path) -> None:
    one = told(data, "list")["volumes"][0]["id"]
    refused = volume(data, "remove", one)
    assert (refused.returncode, "drain" in refused.stderr) == (2, True)
    assert told(data, "drain", one)["draining"]
    assert [each["state"] for each in told(data, "list")["volumes"]] == ["draining", "ok"]
    last = volume(data, "drain", str(tmp_path / "two"))
    assert (last.returncode, "last one" in last.stderr) == (2, True)
    assert not told(data, "drain", one, "--undo")["draining"]
    told(data, "drain", one)
    told(data, "remove", one)
    assert [Path(each["path"]).name for each in told(data, "list")["volumes"]] == ["two"]
    assert (tmp_path / "one" / IDENTITY_NAME).exists()


def test_what_cannot_become_a_volume(data: Path, tmp_path: Path) -> None:
    before = (data / "node.json").read_bytes()
    typo = volume(data, "add", str(tmp_path / "thre"))
    assert (typo.returncode, "not a directory" in typo.stderr) == (6, True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").write_bytes(b"x")
    full = volume(data, "add", str(tmp_path / "full"))
    assert (full.returncode, "not empty" in full.stderr) == (4, True)
    Volume.create(tmp_path / "foreign", b"another node's id"[:16])
    foreign = volume(data, "add", str(tmp_path / "foreign"))
    assert (foreign.returncode, "another node" in foreign.stderr) == (4, True)
    unknown = volume(data, "drain", "nothing")
    assert (unknown.returncode, str(tmp_path / "one") in unknown.stderr) == (3, True)
    assert (data / "node.json").read_bytes() == before
