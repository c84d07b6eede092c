"""The command line as a script sees it: output, exit codes, one sentence for every refusal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMANDS = (
    [], ["serve"], ["record"], ["play"], ["demo"], ["status"], ["timeline"], ["clip"], ["import"], ["check"],
    ["rebuild"], ["version"], ["camera"], ["camera", "add"], ["camera", "discover"],
    ["camera", "import"], ["camera", "list"], ["camera", "start"], ["camera", "stop"],
    ["camera", "remove"],
)  # fmt: skip
GATE = "rtsp://admin:secret@10.0.0.9/live"


def keyreel(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keyreel", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def answer(*words: str | Path) -> Any:
    done = keyreel(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    done = keyreel(*command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_help_loads_nothing_of_the_product() -> None:
    heavy = {"numpy", "av", "lmdb", "aiohttp", "structlog", "uvloop"}
    code = f"import sys, keyreel.main; print(*sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_usage_errors() -> None:
    assert keyreel("status").returncode == 2
    assert keyreel("nonsense").returncode == 2
    assert keyreel("version").stdout.strip() == answer("version")["version"]


def test_an_error_is_a_document_too_when_one_was_asked_for(tmp_path: Path) -> None:
    done = keyreel("camera", "remove", "gate", "--data", tmp_path / "none", "--json")
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 4
    assert error["reason"]
    assert error["detail"] in done.stderr


def test_a_register_from_the_command_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    added = keyreel("camera", "add", "gate", GATE, "--sub", GATE + "2", "--data", data)
    assert (added.returncode, added.stdout) == (0, "camera gate: gate.main, gate.sub\n")
    assert keyreel("camera", "add", "gate", GATE, "--sub", GATE + "2", "--data", data).returncode == 0, "no change"

    other = keyreel("camera", "add", "gate", "rtsp://10.0.0.1/", "--data", data)
    assert other.returncode == 2
    assert "--replace" in other.stderr
    assert "secret" not in other.stderr
    assert keyreel("camera", "add", "gate", "rtsp://10.0.0.1/", "--replace", "--data", data).returncode == 0

    cameras = answer("camera", "list", "--data", data)["cameras"]
    assert [(camera["id"], camera["main"], camera["sub"]) for camera in cameras] == [("gate", "rtsp://10.0.0.1/", None)]
    assert keyreel("camera", "remove", "gate", "--data", data).returncode == 0
    assert keyreel("camera", "remove", "gate", "--data", data).returncode == 3
    assert answer("camera", "list", "--data", data)["cameras"] == []


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    keyreel("camera", "add", "gate", GATE, "--data", tmp_path)
    for command in (["camera", "list"], ["camera", "list", "--json"], ["status"], ["status", "--json"]):
        done = keyreel(*command, "--data", tmp_path)
        assert done.returncode == 0
        assert "gate" in done.stdout
        assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["Gate", GATE], "camera id"),
        (["gate", "ftp://10.0.0.9/"], "rtsp://"),
        (["gate", GATE, "--transport", "quic"], "tcp or udp"),
        (["gate", GATE, "--sub", "ftp://x"], "sub"),
    ],
)
def test_a_wrong_camera_is_refused_and_makes_nothing(tmp_path: Path, words: list[str], says: str) -> None:
    done = keyreel("camera", "add", *words, "--data", tmp_path / "data")
    assert done.returncode == 2
    assert says in done.stderr
    assert not (tmp_path / "data").exists()


def test_status_before_the_first_start(tmp_path: Path) -> None:
    assert keyreel("status", "--data", tmp_path).returncode == 4
    keyreel("camera", "add", "gate", GATE, "--data", tmp_path)
    status = answer("status", "--data", tmp_path)
    assert status["recorder"] is None
    assert [(stream["name"], stream["state"]) for stream in status["streams"]] == [("gate.main", "not-running")]


def test_timeline_of_nothing(tmp_path: Path) -> None:
    keyreel("camera", "add", "gate", GATE, "--data", tmp_path)
    found = answer("timeline", "gate.main", "--data", tmp_path)
    assert (found["spans"], found["gaps"], found["durable_until"]) == ([], [], None)
    unknown = keyreel("timeline", "gate.sub", "--data", tmp_path)
    assert unknown.returncode == 3
    assert "gate.main" in unknown.stderr
    for start, end in (
        ("2026-01-01T00:00:00", "2026-01-02T00:00:00Z"),
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
    ):
        done = keyreel("timeline", "gate.main", "--start", start, "--end", end, "--data", tmp_path)
        assert done.returncode == 2
