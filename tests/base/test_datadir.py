"""The data folder: identity, refusals that touch nothing, and a lock that the kernel keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from base.datadir import DataDir, replace_synced
from base.errors import ConfigError, FormatError

HOLD = """
import sys
from base.datadir import DataDir
with DataDir.open(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def picture(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, so that a touch shows."""
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in [folder, *folder.rglob("*")]}


def test_created_once_and_opened_again(tmp_path: Path) -> None:
    first = DataDir.create(tmp_path / "data")
    again = DataDir.create(tmp_path / "data")
    assert first.node_id == again.node_id == DataDir.open(tmp_path / "data").node_id
    assert len(first.node_id) == 16


def test_a_configuration_may_come_first(tmp_path: Path) -> None:
    (tmp_path / "keyreel.toml").write_text("")
    DataDir.create(tmp_path)


def test_a_foreign_folder_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    before = picture(tmp_path)
    with pytest.raises(ConfigError, match="not empty"):
        DataDir.create(tmp_path)
    with pytest.raises(ConfigError, match=r"no node\.json"):
        DataDir.open(tmp_path)
    assert picture(tmp_path) == before


def test_a_newer_format_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text(json.dumps({"format": 2, "node": "later", "volumes": {}, "more": 1}))
    before = picture(tmp_path)
    for make in (DataDir.open, DataDir.create):
        with pytest.raises(FormatError, match="format 2"):
            make(tmp_path)
    assert picture(tmp_path) == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format":1}', '{"format":1,"node":"ab"}', '{"format":1,"node":"zz","volumes":{}}']
)
def test_a_damaged_identity_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text)
    with pytest.raises(ConfigError, match="damaged"):
        DataDir.open(tmp_path)


def test_volumes_are_remembered_and_move_with_the_folder(tmp_path: Path) -> None:
    datadir = DataDir.create(tmp_path / "data")
    datadir.add_volume(b"a" * 16, datadir.media_path)
    datadir.add_volume(b"b" * 16, Path("/mnt/disk"))
    datadir.add_volume(b"b" * 16, Path("/mnt/other"))
    os.rename(tmp_path / "data", tmp_path / "moved")
    assert DataDir.open(tmp_path / "moved").volumes == {
        b"a" * 16: tmp_path / "moved" / "media",
        b"b" * 16: Path("/mnt/other"),
    }


def test_a_second_holder_is_refused_untouched(tmp_path: Path) -> None:
    datadir = DataDir.create(tmp_path)
    assert not datadir.locked()
    with datadir.lock():
        before = picture(tmp_path)
        assert datadir.locked()
        with pytest.raises(ConfigError, match=f"process {os.getpid()}"), datadir.lock():
            pass
        assert picture(tmp_path) == before
    assert not datadir.locked()


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    datadir = DataDir.create(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert datadir.locked()
        holder.kill()
        holder.wait()
        with datadir.lock():
            pass


def test_a_child_that_inherits_the_lock_keeps_it(tmp_path: Path) -> None:
    datadir = DataDir.create(tmp_path)
    with datadir.lock() as descriptor:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(descriptor,))
    assert datadir.locked()
    child.communicate(b"\n")
    assert not datadir.locked()


def test_replace_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_synced(path, b"old")
    (tmp_path / "file.new").mkdir()
    with pytest.raises(OSError):
        replace_synced(path, b"new")
    assert path.read_bytes() == b"old"
