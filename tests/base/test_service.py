"""Start and end of a program, in a real process with real signals."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time

import pytest

from base import errors, service

PROGRAM = """
import asyncio, sys
from base.errors import *
from base.service import run_service, stop_event

async def main():
    {body}

sys.exit(run_service(main))
"""


def _start(body: str) -> subprocess.Popen[str]:
    code = PROGRAM.format(body=body.replace("\n", "\n    "))
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True)


def _ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


WAITS = "print('ready', flush=True)\nawait stop_event().wait()\nprint('in order', flush=True)"
HANGS = WAITS + "\nawait asyncio.Event().wait()"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_ends_in_order(number: signal.Signals) -> None:
    process = _start(WAITS)
    _ready(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "in order\n", "")


def test_second_signal_ends_at_once() -> None:
    process = _start(HANGS)
    _ready(process)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "in order\n"
    deadline_s = time.monotonic() + 30
    while process.poll() is None:  # not before half a second, as signals that come together are one request
        assert time.monotonic() < deadline_s
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM


def test_signals_that_come_together_are_one_request() -> None:
    process = _start(WAITS + "\nawait asyncio.sleep(0.05)")
    _ready(process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "in order\n")


def test_errors_on_purpose_are_one_sentence() -> None:
    process = _start("raise ConfigError('the folder is odd; name another')")
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (service.EXIT_CONFIG, "keyreel: the folder is odd; name another\n")


def test_bugs_show_their_traceback() -> None:
    process = _start("raise RuntimeError('bug')")
    _, err = process.communicate(timeout=30)
    assert process.returncode == service.EXIT_FAILED
    assert "Traceback" in err


def test_exit_codes_tell_who_has_to_act() -> None:
    assert [
        service.exit_code(kind("x"))
        for kind in (
            errors.NotFound, errors.UserError, errors.FormatError, errors.DamageError, errors.VolumeError, ValueError
        )
    ] == [3, 2, 4, 5, 6, 1]  # fmt: skip


async def test_a_program_can_run_inside_another() -> None:
    outer = service.stop_event()
    with service.stoppable() as inner:
        task = asyncio.create_task(service.stop_event().wait())
    assert service.stop_event() is outer
    inner.set()
    await task
    assert not outer.is_set()
