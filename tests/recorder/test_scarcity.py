"""A worker that does not delete hears how scarce room is, and forgets it when nobody says so any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from base.status import RecorderStatus, VolumeStatus, status_path, write_status
from chunks.volume import Volume
from chunks.writer import VolumeWriter
from recorder.scarcity import HEARD_S, Listener
from recorder.slot import Slot


def slot_of(root: Path) -> Slot:
    volume = Volume.create(root, bytes(16))
    one = Slot(volume.id, root, make_writer=_never, settle=lambda *_: None, on_failed=_never)
    one.writer = VolumeWriter(volume, on_commit=_never, on_failure=_never)
    return one


def _never(*_: object) -> Any:
    raise AssertionError


def say(run_path: Path, at_us: int, **scarcity: float) -> None:
    volumes = [VolumeStatus(id=name, path="/", state="ok", scarcity=value) for name, value in scarcity.items()]
    write_status(
        run_path,
        RecorderStatus(worker=0, workers=2, pid=1, started_us=1, updated_us=at_us, version="1", volumes=volumes),
    )


def test_what_the_first_worker_says_is_every_workers_measure(tmp_path: Path) -> None:
    one, other = slot_of(tmp_path / "a"), slot_of(tmp_path / "b")
    assert one.writer is not None
    assert other.writer is not None
    listener = Listener(tmp_path)
    listener.follow({one.id: one, other.id: other})
    listener.listen(100.0)
    assert (one.writer.scarcity, other.writer.scarcity) == (0, 0), "nobody has spoken yet"
    say(tmp_path, 7, **{one.id.hex(): 0.8})
    listener.listen(101.0)
    assert (one.writer.scarcity, other.writer.scarcity) == (0.8, 0)
    status_path(tmp_path, 0).write_text('{"updated')
    listener.listen(101.0 + HEARD_S / 2)
    assert one.writer.scarcity == 0.8, "a word that cannot be read changes nothing"
    listener.listen(101.1 + HEARD_S)
    assert one.writer.scarcity == 0, "it has not been renewed"
    say(tmp_path, 8, **{one.id.hex(): 0.9})
    listener.listen(130.0)
    say(tmp_path, 9, **{one.id.hex(): 0.0})
    listener.listen(131.0)
    assert one.writer.scarcity == 0
