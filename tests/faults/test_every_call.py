"""What a node does to its disk, interrupted at its n-th call by SIGKILL, and at its n-th write by a power cut.

Kept true: whatever was interrupted, the next start ends; then all that was told durable is there and right, index and
files agree, and nothing half-made is seen.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import index.check
from base.datadir import DataDir
from index import Index
from keyreel.node import known_volumes
from tests.faults.conftest import AT_LENGTH
from tests.faults.device import Disk, FileSystem, mounted
from tests.faults.killer import Killer
from tests.faults.oracle import files, fragments
from tests.faults.scenarios import SCENARIOS, STREAMS, media, told

KILLS, CUTS = (200, 200) if AT_LENGTH else (6, 2)  # of each scenario, spread over its calls and its writes
KEEP = (0.0, 0.5, 0.97)
ROUNDING_US = 2
REGISTER = [[], ["c0"], ["c0", "c1"], ["c0", "c1", "c2"], ["c0", "c2"]]  # what the scenario makes of it, in order


@pytest.fixture(scope="module")
def killer(shim_library: Path) -> Iterator[Killer]:
    with Killer(shim_library) as one:
        yield one


@pytest.fixture(scope="module")
def before(killer: Killer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], None]:
    """Make the folder in which a scenario begins: empty, a node's, or a crashed node's with torn chunks."""
    base = tmp_path_factory.mktemp("before")
    assert killer.run("first_start", base / "made") == 0
    shutil.copytree(base / "made", base / "crashed")
    assert killer.run("record", base / "crashed", 75) == -signal.SIGKILL
    for path in [path for stream in range(STREAMS) for path in files([base / "crashed" / "media"], f"s{stream}.main")]:
        if b"mfro" not in path.read_bytes()[-16:]:
            with path.open("ab") as file:
                file.write(b"\0\0\1\0moof" + b"half a fragment" * 5)
    assert (base / "crashed.told").exists()
    kinds = {"first_start": None, "start": "crashed", "record": "made", "register": "made", "rebuild": "crashed"}

    def make(scenario: str, folder: Path) -> None:
        kind = kinds[scenario]
        if kind is None:
            folder.mkdir()
            return
        shutil.copytree(base / kind, folder)
        if (base / f"{kind}.told").exists():
            shutil.copy(base / f"{kind}.told", told(folder))

    return make


def _judge(folder: Path, promises: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """After the next start."""
    monkeypatch.setattr(index.check, "RECENT_S", -1.0)  # what is unknown is a finding, however new
    datadir = DataDir.open(folder)
    with Index.open(datadir.index_path) as opened, opened.read() as snapshot:
        assert index.check.check(opened, known_volumes(datadir), deep=AT_LENGTH) == []
        assert snapshot.open_chunks() == []
        cameras = [camera.id for camera in snapshot.cameras()]
    assert list((folder / "media").rglob("*.new")) == [], "nothing half-made lies about"
    states = [one["cameras"] for one in promises if "cameras" in one]
    assert cameras in REGISTER[REGISTER.index(states[-1] if states else []) :]
    for stream_id, until_us in ([one["until_us"] for one in promises if "until_us" in one] or [{}])[-1].items():
        _judge_stream(files([folder / "media"], f"s{int(stream_id) - 1}.main"), until_us)


def _judge_stream(chunks: list[Path], until_us: int) -> None:
    """All that was told durable is there, and each chunk holds what its making began with."""
    pictures = [data for _, data in media().pictures]
    stored = [list(fragments(path)) for path in chunks]
    assert max(fragment.end_us for chunk in stored for fragment in chunk) >= until_us - ROUNDING_US
    for chunk in stored:
        samples = [sample for fragment in chunk for sample in fragment.samples]
        assert samples == pictures[: len(samples)]


def _promises(folder: Path, before_ns: int = 1 << 62) -> list[dict[str, Any]]:
    path = told(folder)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line["at_ns"] < before_ns]


def _points(calls: int, count: int) -> list[int]:
    """Spread over all calls, each in the middle of its part; all of them when there are no more."""
    return [1 + (2 * i + 1) * calls // (2 * count) for i in range(count)] if calls > count else [*range(1, calls + 1)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_killed_at_a_call(
    killer: Killer,
    before: Callable[[str, Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
) -> None:
    before(scenario, tmp_path / "whole")
    calls = killer.calls(scenario, tmp_path / "whole")
    for kill_at in _points(calls, KILLS):
        folder = tmp_path / str(kill_at)
        before(scenario, folder)
        assert killer.run(scenario, folder, kill_at) in (0, -signal.SIGKILL)
        assert killer.run("start", folder) == 0, f"killed at call {kill_at} of {calls}"
        _judge(folder, _promises(folder), monkeypatch)
        shutil.rmtree(folder)


@pytest.mark.needs_device
@pytest.mark.timeout(600)
@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_power_cut_at_a_write(
    killer: Killer,
    before: Callable[[str, Path], None],
    disk_of: Callable[[FileSystem], Disk],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    filesystem: FileSystem,
) -> None:
    disk = disk_of(filesystem)
    before(scenario, disk.root / "whole")
    disk.sync()
    writes = disk.writes()
    assert killer.run(scenario, disk.root / "whole") == 0
    for seed, write in enumerate(_points(disk.writes() - writes, CUTS)):
        folder, cut = disk.root / str(write), tmp_path / "cut"
        before(scenario, folder)
        disk.sync()
        disk.copy_at(write, cut, seed, KEEP[seed % len(KEEP)])
        assert killer.run(scenario, folder) == 0
        disk.disarm()
        if cut.exists():  # else this time there were fewer writes
            promises = _promises(folder, cut.stat().st_mtime_ns)
            with mounted(cut, filesystem, tmp_path / "after") as root:
                assert killer.run("start", root / folder.name) == 0, f"cut at write {write}"
                _judge(root / folder.name, promises, monkeypatch)
        shutil.rmtree(folder)
        told(folder).unlink(missing_ok=True)
