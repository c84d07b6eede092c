"""Children are restarted, stopped in order, and never outlive their supervisor; all with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from base.errors import ConfigError
from base.log import setup
from base.service import stoppable
from keyreel import supervise
from keyreel.supervise import Child, Supervisor

ORDERLY = """
import pathlib, signal, sys
def end(*_):
    pathlib.Path(sys.argv[1]).write_text("in order")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
signal.pause()
"""

# A supervisor that starts one child bound to its life, tells the child's id, and waits.
PARENT = """
import asyncio, os, sys
from keyreel.supervise import Child, Supervisor
code = "import os, signal, sys; from keyreel.child import die_with; die_with(int(sys.argv[1]))"
code += "; print(os.getpid(), flush=True); signal.pause()"
asyncio.run(Supervisor([Child("c", ("-c", code, str(os.getpid())))]).run())
"""


@pytest.fixture(autouse=True)
def _quiet() -> None:
    setup("test")


async def _until(path: Path, deadline_s: float = 20.0) -> str:
    end = time.monotonic() + deadline_s
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end, f"{path} did not come"
        await asyncio.sleep(0.01)
    return path.read_text()


async def test_stop_is_orderly(tmp_path: Path) -> None:
    ready, end = tmp_path / "ready", tmp_path / "end"
    code = ORDERLY.replace('print("ready", flush=True)', f"pathlib.Path({str(ready)!r}).write_text('ready')")
    with stoppable() as stop:
        running = asyncio.create_task(Supervisor([Child("orderly", ("-c", code, str(end)))]).run())
        await _until(ready)
        stop.set()
        await running
    assert end.read_text() == "in order"


async def test_a_crashed_child_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "RESTART_MIN_S", 0.01)
    log = tmp_path / "starts"
    code = f"import os, signal; open({str(log)!r}, 'a').write('x'); os.kill(os.getpid(), signal.SIGKILL)"
    steady = Child("steady", ("-c", "import signal; signal.pause()"))
    crashing = Child("crashing", ("-c", code))
    with stoppable() as stop:
        running = asyncio.create_task(Supervisor([crashing, steady]).run())
        end = time.monotonic() + 30
        while crashing.restarts < 3:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        stop.set()
        await running
    assert len(log.read_text()) >= 3
    assert steady.restarts == 0


async def test_a_refused_configuration_ends_the_whole() -> None:
    steady = Child("steady", ("-c", "import signal; signal.pause()"))
    with stoppable(), pytest.raises(ConfigError, match="refusing"):
        await Supervisor([Child("refusing", ("-c", "raise SystemExit(4)")), steady]).run()
    assert steady.pid == 0


async def test_a_configuration_spoilt_later_ends_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ran once, was killed, and is refused now: it is tried again, and the others go on."""
    monkeypatch.setattr(supervise, "RESTART_MIN_S", 0.01)
    mark = tmp_path / "ran"
    code = (
        f"import os, pathlib; p = pathlib.Path({str(mark)!r}); ran = p.exists(); p.touch(); os._exit(4 if ran else 137)"
    )
    steady, spoilt = Child("steady", ("-c", "import signal; signal.pause()")), Child("spoilt", ("-c", code))
    with stoppable() as stop:
        running = asyncio.create_task(Supervisor([spoilt, steady]).run())
        end = time.monotonic() + 30
        while spoilt.restarts < 3:
            assert time.monotonic() < end
            assert not running.done()
            await asyncio.sleep(0.01)
        assert steady.restarts == 0
        stop.set()
        await running


async def test_a_deaf_child_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "STOP_MAX_S", 0.05)
    ready = tmp_path / "ready"
    code = "import pathlib, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    code += "pathlib.Path(sys.argv[1]).write_text('ready'); signal.pause()"
    with stoppable() as stop:
        running = asyncio.create_task(Supervisor([Child("deaf", ("-c", code, str(ready)))]).run())
        await _until(ready)
        stop.set()
        await asyncio.wait_for(running, 30)


def _lives(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in ("Z", "X")
    return False


def test_no_child_outlives_its_supervisor() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        # The pipe closes when its last holder, the child, is gone.
        assert parent.stdout.read() == ""
    end = time.monotonic() + 20  # descriptors are closed on the way out, a moment before the process is no more
    while _lives(child):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_orphan_ends_itself() -> None:
    code = "import sys; from keyreel.child import die_with; die_with(1 << 22); print('still here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (128 + signal.SIGKILL, "")


def test_a_living_parent_is_accepted() -> None:
    code = f"import sys; from keyreel.child import die_with; die_with({os.getpid()}); print('still here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "still here\n")
