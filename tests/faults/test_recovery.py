"""Recovery killed at its n-th write, sync, cut or rename: the next one ends the work; nothing is lost or told twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from chunks.volume import Volume
from index import Index
from index.check import check
from tests.chunks.conftest import media  # noqa: F401 (a fixture)
from tests.chunks.media import Media
from tests.recorder.torn import TIMELINE, write_chunks

SETTLE = """
import sys
from pathlib import Path
from chunks.volume import Volume
from index import Index
from recorder.startup import resume
folder = Path(sys.argv[1])
with Index.open(folder / "index") as index:
    resume(index, [Volume.open(folder / "media")], complete=True)
"""
STREAMS = 3
CALLS = 200 if os.environ.get("KEYREEL_FAULTS") == "long" else 24  # kill points to try


def _settle(folder: Path, shim: Path, kill_at: int) -> int:
    environment = os.environ | {"LD_PRELOAD": str(shim), "DISKSHIM": str(folder), "DISKSHIM_KILL_AT": str(kill_at)}
    command = [sys.executable, "-c", SETTLE, str(folder)]
    return subprocess.run(command, env=environment, check=False, capture_output=True, timeout=60).returncode


def test_killed_at_every_step(tmp_path: Path, shim_library: Path, media: Callable[..., Media]) -> None:  # noqa: F811
    for kill_at in range(1, CALLS):
        folder = tmp_path / str(kill_at)
        folder.mkdir()
        volume = write_chunks(folder, media(), streams=STREAMS, told=1)
        code = _settle(folder, shim_library, kill_at)
        assert code in (0, -signal.SIGKILL)
        assert _settle(folder, shim_library, 0) == 0
        _judge(folder, volume)
        if code == 0:  # there are no more calls to be killed at
            return
    assert CALLS < 200, "recovery never came to its end"


def _judge(folder: Path, volume: Volume) -> None:
    with Index.open(folder / "index") as index:
        assert check(index, [volume], deep=True) == []
        with index.read() as snapshot:
            assert snapshot.open_chunks() == []
            for row in snapshot.streams():
                [chunk] = snapshot.chunks(row.id, *TIMELINE)
                assert chunk.fragments == 3
    assert len(list(volume.root.glob("*/*/*.torn-*"))) == STREAMS
