"""A playback process over a data folder, and requests to it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from base.units import format_time
from bench import fetch
from bench.footage import LOAD, make
from simcam.encode import LoopSpec

READY_MAX_S = 60.0


class Served:
    """`keyreel play` on a port of its own."""

    def __init__(self, data: Path) -> None:
        self.port = fetch.free_port()
        command = [sys.executable, "-m", "keyreel", "play", "--data", str(data)]
        self.process = subprocess.Popen([*command, "--listen", f"127.0.0.1:{self.port}"], stderr=subprocess.DEVNULL)
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + READY_MAX_S
        while time.monotonic() < end:
            try:
                self.open("/healthz").read()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("playback does not answer")

    def open(self, path: str, body: object = None, *, byte_range: str = "") -> Any:
        """GET, or POST of `body` as JSON; returns the response before its body is read."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if byte_range:
            request.add_header("Range", byte_range)
        return urllib.request.urlopen(request)

    def stop(self) -> None:
        """End the process."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


class Recorded(NamedTuple):
    """A playback process over a data folder, and when its recording begins and ends."""

    served: Served
    data: Path
    first_us: int
    last_us: int


@contextmanager
def recorded(data: Path, seconds: int, loop: LoopSpec = LOAD) -> Iterator[Recorded]:
    """Make a recording of `gate.main`, and serve it."""
    datadir, first_us, last_us = make(data, seconds, loop=loop)
    served = Served(datadir.path)
    try:
        yield Recorded(served, datadir.path, first_us, last_us)
    finally:
        served.stop()


def stream_path(stream: str, call: str, start_us: int, end_us: int, **more: object) -> str:
    """Path and query of a call on a range of a stream."""
    query = urlencode({"start": format_time(start_us), "end": format_time(end_us), **more})
    return f"/api/v1/streams/{stream}/{call}?{query}"
