"""Processes that die by SIGKILL in their n-th write, sync or change of a name below a folder, some tens a second.

One process has the shim loaded and everything imported; for each point it forks, and the child runs a scenario.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, Final, Self

ROOT: Final = Path(__file__).resolve().parents[2]


class Killer:
    """Use as a context; `run` gives the exit code as `subprocess` does, so 0 or minus SIGKILL."""

    def __init__(self, shim: Path) -> None:
        environment = {**os.environ, "LD_PRELOAD": str(shim)}
        self._calls = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.killer"], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def calls(self, scenario: str, folder: Path) -> int:
        """Do a scenario to its end; how many calls there are to die in."""
        assert self.run(scenario, folder) == 0
        return self._calls

    def run(self, scenario: str, folder: Path, kill_at: int = 0) -> int:
        """Do a scenario in a folder; 0 kills nobody."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([scenario, str(folder), kill_at]) + "\n")
        self._process.stdin.flush()
        code, self._calls = json.loads(self._process.stdout.readline())
        return int(code)


def serve() -> None:
    """Fork a child for each line that comes."""
    from tests.faults import scenarios

    scenarios.media()
    for line in sys.stdin:
        answer, question = os.pipe()
        child = os.fork()
        if child == 0:
            _die_on_the_way(scenarios.SCENARIOS, question, *json.loads(line))
        os.close(question)
        calls = os.read(answer, 16) or b"0"
        os.close(answer)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([code, int(calls)]), flush=True)


def _die_on_the_way(scenarios: dict[str, Any], answer: int, name: str, folder: str, kill_at: int) -> None:
    os.environ["DISKSHIM"] = folder
    os.environ["DISKSHIM_KILL_AT"] = str(kill_at)
    os.dup2(2, 1)  # what the scenario prints is no answer
    try:
        scenarios[name](Path(folder))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os.write(answer, str(ctypes.CDLL(None).diskshim_calls()).encode())
    os._exit(0)


if __name__ == "__main__":
    serve()
