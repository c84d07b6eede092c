"""`keyreel demo` does what the README says, twice in the same folder."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keyreel.demo import CAMERAS

pytestmark = pytest.mark.slow


def _demo(data: Path) -> list[str]:
    """What the demo prints until its line per stream; then Ctrl-C, and an orderly end."""
    command = [sys.executable, "-m", "keyreel", "demo", "--data", str(data), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("yard.main"):
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return lines + out.splitlines()


def test_four_cameras_and_it_goes_on(tmp_path: Path) -> None:
    spans = []
    for _ in range(2):
        lines = _demo(tmp_path)
        assert any("Open http://127.0.0.1:" in line for line in lines)
        cells = {line.split()[0]: line.split() for line in lines if ".main" in line}
        assert cells.keys() == {f"{name}.main" for name in CAMERAS}
        assert {row[1] for row in cells.values()} == {"recording"}
        codecs = [row[2] for row in cells.values()]
        assert [sum(word in codec for codec in codecs) for word in ("avc1", "hvc1", "aac", "pcmu")] == [2, 2, 1, 1]
        assert "stopped in order" in lines[-1]
        minutes, seconds = cells["gate.main"][3].split(":")[1:]
        spans.append(int(minutes) * 60 + int(seconds))
    assert 0 < spans[0] < spans[1]
