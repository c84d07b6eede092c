"""What `keyreel serve` refuses: with one sentence, the right exit code, and nothing touched."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from base.datadir import DataDir
from chunks.volume import Volume
from index import Index

Picture = dict[str, tuple[int, int, int]]
TIMEOUT_S = 60


def picture(folder: Path) -> Picture:
    """Everything in a folder with inode, size and time of change, so that any touch shows."""
    paths = [folder, *folder.rglob("*")] if folder.exists() else []
    stats = {str(path): path.stat() for path in paths}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def serve(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keyreel", "serve", "--data", str(data), "--listen", "127.0.0.1:0", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


@pytest.fixture
def datadir(tmp_path: Path) -> DataDir:
    """A data folder as a first start leaves it."""
    made = DataDir.create(tmp_path / "data")
    volume = Volume.create(made.media_path, made.node_id)
    made.add_volume(volume.id, volume.root)
    Index.open(made.index_path, create=True, node=made.node_id).close()
    with made.lock():
        pass
    return made


def test_a_folder_that_is_served_already(datadir: DataDir) -> None:
    with datadir.lock():
        before = picture(datadir.path)
        done = serve(datadir.path)
        assert done.returncode == 4
        assert f"already served by process {os.getpid()}" in done.stderr
        assert picture(datadir.path) == before
        for command in (["record"], ["rebuild"]):
            words = [sys.executable, "-m", "keyreel", *command, "--data", str(datadir.path)]
            assert subprocess.run(words, capture_output=True, check=False, timeout=TIMEOUT_S).returncode == 4
        assert picture(datadir.path) == before


def _newer_node(datadir: DataDir) -> None:
    identity = json.loads((datadir.path / "node.json").read_text())
    (datadir.path / "node.json").write_text(json.dumps(identity | {"format": 2}))


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (_newer_node, 4, "format 2"),
    ],
)
def test_a_folder_that_is_not_what_it_should_be(
    datadir: DataDir, change: Callable[[DataDir], None], code: int, says: str
) -> None:
    change(datadir)
    before = picture(datadir.path)
    done = serve(datadir.path)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert picture(datadir.path) == before


def test_a_configured_volume_that_is_missing_or_foreign(datadir: DataDir, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    config = tmp_path / "keyreel.toml"
    config.write_text(f'[[volumes]]\npath = "{disk}"\n')
    before = picture(datadir.path)
    done = serve(datadir.path, "--config", str(config))
    assert (done.returncode, "not a directory" in done.stderr) == (6, True)
    Volume.create(disk, b"another node's id"[:16])
    before_disk = picture(disk)
    done = serve(datadir.path, "--config", str(config))
    assert (done.returncode, "another node" in done.stderr) == (4, True)
    assert (picture(datadir.path), picture(disk)) == (before, before_disk)


def test_a_folder_with_other_things_in_it(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    before = picture(tmp_path)
    done = serve(tmp_path)
    assert (done.returncode, "not empty" in done.stderr) == (4, True)
    assert picture(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[recorder]\nfragment_s = 1\n", "line 2"),
        ("[api]\nlisten = '0.0.0.0:8787'\n", "token"),
        ("[api]\nlisten = 'here'\n", "HOST:PORT"),
    ],
)
def test_a_wrong_configuration_makes_no_folder(tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "keyreel.toml"
    config.write_text(text)
    command = [sys.executable, "-m", "keyreel", "serve", "--data", str(tmp_path / "data"), "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    assert (done.returncode, says in done.stderr) == (4, True)
    assert not (tmp_path / "data").exists()


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = serve(tmp_path / "data", "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 4
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr
