"""`keyreel export create` and `keyreel verify`, as a script calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import T0, Recording, audio, video

from base.clock import wall_us
from base.datadir import DataDir
from base.units import US, format_time
from evidence.keys import Keys


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A data folder with four seconds of gate.main, and keys."""
    data = tmp_path / "data"
    datadir = DataDir.create(data)
    recording = Recording(data, name="gate.main")
    datadir.add_volume(recording.volume.id, recording.volume.root)
    recording.add(video(), audio(), chunk_s=2)
    recording.close()
    Keys.ensure(datadir.keys_path, None, wall_us())
    return data


def keyreel(*words: str | Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "keyreel", *map(str, words)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def create(data: Path, to: Path, start_s: float = 0.5, end_s: float = 3.5, case: str = "01/2026", *more: str) -> Any:
    times = ["--start", format_time(T0 + round(start_s * US)), "--end", format_time(T0 + round(end_s * US))]
    words = ["--case", case, "--reason", "theft", "--operator", "An", "--stream", "gate.main", "--to", to, *more]
    return keyreel("export", "create", "--data", data, *times, *words)


def test_a_package_is_made_and_verified(node: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.zip"
    code, out, err = create(node, target, 0.5, 3.5, "01/2026", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["package"] == str(target)
    code, out, _ = keyreel("verify", target, "--data", node, "--json")
    report = json.loads(out)
    assert (code, report["findings"], report["signer"]["expected"]) == (0, [], True)
    assert report["streams"][0]["stream"] == "gate.main"
    assert report["streams"][0]["camera"] == {"signed": False}
    shown = json.loads(keyreel("key", "show", "--data", node, "--json")[1])["keys"]
    assert report["signer"]["key"] == next(key["id"] for key in shown if key["use"] == "ledger")
    code, out, _ = keyreel("verify", target)
    assert code == 0
    assert "NOT COVERED" in out
    assert keyreel("verify", target, "--key", "0" * 64)[0] == 5
    held = json.loads(keyreel("hold", "list", "--all", "--data", node, "--json")[1])["holds"]
    assert [(hold["case"], hold["owner"], hold["released_by"]) for hold in held] == [("01/2026", "An", "An")]


def test_what_was_altered_is_told_with_exit_code_5(node: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert create(node, target)[0] == 0
    path = target / "streams" / "gate.main.mp4"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    code, out, _ = keyreel("verify", target)
    assert code == 5
    assert "was altered" in out


def test_a_dry_run_tells_sizes(node: Path, tmp_path: Path) -> None:
    code, out, _ = create(node, tmp_path / "out", 0.5, 3.5, "01/2026", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["streams"][0]["stream"] == "gate.main"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_each_refusal_says_what_to_do(node: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    for wrong, code, words in (
        (create(node, target, 0.5, 3.5, "?"), 2, "case_pattern"),
        (create(node, target, 100, 200), 3, "has footage"),
        (create(node, tmp_path / "nowhere" / "out"), 2, "is no directory"),
        (keyreel("verify", tmp_path / "nothing"), 3, "no such file"),
        (keyreel("verify", node / "node.json"), 3, "neither a directory nor"),
    ):
        assert (wrong[0], words in wrong[2]) == (code, True), wrong
    (node / "keys" / "keys.json").unlink()
    code, _, err = create(node, target)
    assert (code, "has no keys" in err) == (4, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    assert json.loads(keyreel("hold", "list", "--data", node, "--json")[1])["holds"] == []
