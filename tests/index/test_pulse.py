"""An index may be told to ask its disk before each transaction."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from index import Camera, Index
from index import pulse as pulse_module
from index.pulse import Pulse


def test_a_disk_that_answers_costs_nothing_but_a_read(index: Index) -> None:
    index.pulse = Pulse(index.path / "data.mdb")
    with index.write() as transaction:
        transaction.put_camera(Camera(id="cam1", main="rtsp://host/1"))
    with index.read() as snapshot:
        assert [camera.id for camera in snapshot.cameras()] == ["cam1"]


@pytest.mark.parametrize("path", ["empty", "absent"])
def test_nothing_to_read_is_an_answer(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").touch()
    Pulse(tmp_path / path).wait()


def test_no_transaction_begins_before_the_answer_and_other_threads_go_on(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe stands for the disk: a read of it waits in the kernel until something is written."""
    monkeypatch.setattr(pulse_module.os, "preadv", lambda handle, buffers, _offset: os.readv(handle, buffers))
    there, other = os.pipe()
    index.pulse = Pulse(index.path / "data.mdb")
    index.pulse._handle = there
    begun = threading.Event()

    def read() -> None:
        with index.read():
            begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        assert not begun.is_set()
    os.write(other, bytes(1))
    reader.join(10)
    assert begun.is_set()
    os.close(other)
    os.close(there)
