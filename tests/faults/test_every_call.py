"""What a node does to its disk, interrupted at its n-th call by SIGKILL, and at its n-th write by a power cut.

Kept true: whatever was interrupted, the next start ends; then all that was told durable is there and right, index and
files agree, and nothing half-made is seen.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest

import index.check
from base.datadir import DataDir
from chunks.reader import head_of
from evidence.chain import ChunkClaim, Proven, claims, prove
from evidence.files import read_ledger
from evidence.keys import Keys
from evidence.proof import prove_chunk
from index import Index
from keyreel.node import known_volumes
from tests.faults.conftest import AT_LENGTH
from tests.faults.device import Disk, FileSystem, can_mount, mounted
from tests.faults.killer import Killer
from tests.faults.oracle import files, fragments
from tests.faults.scenarios import SCENARIOS, STREAMS, index_format, make_old, media, told

KILLS, CUTS = (200, 200) if AT_LENGTH else (6, 2)  # of each scenario, spread over its calls and its writes
CHAINS = 20 if AT_LENGTH else 1
KEEP = (0.0, 0.5, 0.97)
ROUNDING_US = 2
REGISTER = [[], ["c0"], ["c0", "c1"], ["c0", "c1", "c2"], ["c0", "c2"]]  # what the scenario makes of it, in order


@pytest.fixture(scope="module")
def killer(shim_library: Path) -> Iterator[Killer]:
    with Killer(shim_library) as one:
        yield one


@pytest.fixture(scope="module")
def before(killer: Killer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], None]:
    """Make the folder in which a scenario begins: empty, a node's, or a crashed one's, of now or before."""
    base = tmp_path_factory.mktemp("before")
    assert killer.run("first_start", base / "made") == 0
    for kind in ("crashed", "recorded"):
        shutil.copytree(base / "made", base / kind)
    assert killer.run("record", base / "recorded") == 0
    told(base / "recorded").unlink()
    assert killer.run("record", base / "crashed", 75) == -signal.SIGKILL
    for path in [path for stream in range(STREAMS) for path in files([base / "crashed" / "media"], f"s{stream}.main")]:
        data = path.read_bytes()
        if data and b"mfro" not in data[-16:]:  # a file whose head never came is no chunk, and is not taken for one
            with path.open("ab") as file:
                file.write(b"\0\0\1\0moof" + b"half a fragment" * 5)
    assert (base / "crashed.told").exists()
    shutil.copytree(base / "crashed", base / "old")
    shutil.copy(base / "crashed.told", base / "old.told")
    make_old(base / "old")
    kinds = {
        "first_start": None,
        "record": "made",
        "ledger": "made",
        "register": "made",
        "grow": "made",
        "purge": "recorded",
        "upgrade": "old",
    }

    def make(scenario: str, folder: Path) -> None:
        kind = kinds.get(scenario, "crashed")
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
        added = sum(row.name.startswith("x") for row in snapshot.streams())
    assert added >= max([one["streams"] for one in promises if "streams" in one], default=0)
    assert list((folder / "media").rglob("*.new")) == [], "nothing half-made lies about"
    states = [one["cameras"] for one in promises if "cameras" in one]
    assert cameras in REGISTER[REGISTER.index(states[-1] if states else []) :]
    for stream_id, until_us in ([one["until_us"] for one in promises if "until_us" in one] or [{}])[-1].items():
        _judge_stream(files([folder / "media"], f"s{int(stream_id) - 1}.main"), until_us)


def _judge_purge(killer: Killer, folder: Path, promises: list[dict[str, Any]]) -> None:
    """What is held is there, and the rest goes when it is done again."""
    held = [one["held"] for one in promises if "held" in one]
    if held:
        chunk = files([folder / "media"], held[0])[0]
        assert [len(fragment.samples) for fragment in fragments(chunk)] == [25, 25, 25]
    assert killer.run("purge", folder) == 0
    assert files([folder / "media"], "s1.main") == []
    assert len(files([folder / "media"], "s0.main")) == 1
    datadir = DataDir.open(folder)
    with Index.open(datadir.index_path) as opened:
        assert index.check.check(opened, known_volumes(datadir), deep=AT_LENGTH) == []


def _judge_ledger(killer: Killer, folder: Path, promises: list[dict[str, Any]]) -> None:
    """What was told durable stands in the ledgers as it was, all of them hold, and no chunk contradicts its own."""
    told_last = ([one["entries"] for one in promises if "entries" in one] or [{}])[-1]
    for life in range(2):
        for name in [path.name for path in (folder / "ledger").glob("*")]:
            entries = list(read_ledger(folder / "ledger" / name))
            number, last_hash = told_last.get(name, (0, ""))
            assert len(entries) >= number
            assert not number or entries[number - 1].hash.hex() == last_hash
            proven = prove(entries, Keys.open(folder / "keys").check_signature) if entries else Proven()
            assert proven.sound, proven.findings
            said = claims(entries)
            for path in files([folder / "media"], name):
                head = head_of(path)
                assert head is not None
                assert prove_chunk(path, said.get(head.opening, ChunkClaim(0, head.opening))).sound
        assert not told_last or told_last.keys() <= {path.name for path in (folder / "ledger").iterdir()}
        assert life or killer.run("ledger", folder) == 0


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
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "serve"])
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
        assert scenario != "upgrade" or index_format(folder) in ("1", "2")
        assert killer.run("start", folder) == 0, f"killed at call {kill_at} of {calls}"
        _judge(folder, _promises(folder), monkeypatch)
        if scenario == "purge":
            _judge_purge(killer, folder, _promises(folder))
        if scenario == "ledger":
            _judge_ledger(killer, folder, _promises(folder))
        shutil.rmtree(folder)


@pytest.mark.needs_device
@pytest.mark.timeout(600)
@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "serve"])
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
                assert scenario != "upgrade" or index_format(root / folder.name) in ("1", "2")
                assert killer.run("start", root / folder.name) == 0, f"cut at write {write}"
                _judge(root / folder.name, promises, monkeypatch)
                if scenario == "purge":
                    _judge_purge(killer, root / folder.name, promises)
                if scenario == "ledger":
                    _judge_ledger(killer, root / folder.name, promises)
        shutil.rmtree(folder)
        told(folder).unlink(missing_ok=True)


@pytest.mark.needs_device
@pytest.mark.timeout(600)
@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_recovery_cut_five_times_in_a_row_ends_with_the_same_bytes(
    killer: Killer,
    before: Callable[[str, Path], None],
    disk_of: Callable[[FileSystem], Disk],
    tmp_path: Path,
    filesystem: FileSystem,
) -> None:
    disk, chance = disk_of(filesystem), random.Random(5)
    clean, folder, cut = disk.root / "clean", disk.root / "cut", tmp_path / "cut"
    before("start", clean)
    writes = disk.writes()
    assert killer.run("start", clean) == 0
    writes = disk.writes() - writes
    for chain in range(CHAINS):
        before("start", folder)
        for again in range(5):
            disk.sync()
            disk.copy_at(chance.randint(1, writes), cut, chain * 5 + again, KEEP[again % len(KEEP)])
            assert killer.run("start", folder) == 0
            disk.disarm()
            if cut.exists():
                with mounted(cut, filesystem, tmp_path / "after") as root:
                    shutil.rmtree(folder)
                    shutil.copytree(root / folder.name, folder)
        assert killer.run("start", folder) == 0
        assert _media(folder) == _media(clean)
        shutil.rmtree(folder)


def _media(folder: Path) -> dict[str, bytes]:
    """Chunks and what was cut off them; identities of volumes are equal, as the folders are copies."""
    root = folder / "media"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.needs_device
@pytest.mark.timeout(600)
@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_a_disk_that_lies_about_flushes_may_lose_and_never_spoils(
    killer: Killer,
    before: Callable[[str, Path], None],
    disk_of: Callable[[FileSystem], Disk],
    tmp_path: Path,
    filesystem: FileSystem,
) -> None:
    """What it confirmed is gone or torn, names and index included: a start may be refused, a picture is never wrong."""
    disk = disk_of(filesystem)
    pictures = [data for _, data in media().pictures]
    served = 0
    for seed in range(40 if AT_LENGTH else 4):
        folder, cut = disk.root / str(seed), tmp_path / "cut"
        before("record", folder)
        disk.sync()
        disk.lie()
        assert killer.run("record", folder) == 0
        disk.copy(cut, seed, keep=(1.0, 0.5, 0.97, 0.9)[seed % 4])
        disk.lie(False)
        disk.sync()
        served += _serve(killer, cut, filesystem, folder.name, pictures)
        cut.unlink(missing_ok=True)
        told(folder).unlink()
        shutil.rmtree(folder)
    assert served, "a disk that loses nothing is served"


def _serve(killer: Killer, cut: Path, filesystem: FileSystem, name: str, pictures: list[bytes]) -> int:
    """How many pictures are served after a start on a disk that lied; none of them is wrong."""
    after = cut.with_name("after")
    after.mkdir(exist_ok=True)
    if not can_mount(cut, filesystem, after):
        return 0
    with mounted(cut, filesystem, after) as root:
        killer.run("start", root / name)
        killer.run("serve", root / name)
        clips = list(root.glob(f"{name}.*.clip"))
        for clip in clips:
            with av.open(str(clip)) as file:
                samples = [bytes(packet) for packet in file.demux(video=0) if packet.size]
            assert samples == pictures[: len(samples)]
        return len(clips)
