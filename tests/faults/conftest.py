"""Disks to break: file systems of a test's own, and a shim that lets one folder fail or hang under a live process."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import node  # noqa: F401 (a fixture)
from tests.e2e.node import Node
from tests.faults import measured
from tests.faults.device import Disk, FileSystem

AT_LENGTH = os.environ.get("KEYREEL_FAULTS") == "long"
SHIM = Path(__file__).with_name("diskshim.c")


@pytest.fixture
def figures() -> list[str]:
    """Lines of what was measured, shown at the end of the run."""
    return measured.LINES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in measured.LINES:
        terminalreporter.write_line(f"measured: {line}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked `at_length` runs in `make faults` alone."""
    left_out = [item for item in items if item.get_closest_marker("at_length") and not AT_LENGTH]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("shim") / "diskshim.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
    return library


@pytest.fixture
def shim(tmp_path: Path, shim_library: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[[str], None]]:
    """Lets all paths that begin so be told, for processes started from now on: a word of diskshim.c, or `ok`."""

    def make(prefix: str) -> Callable[[str], None]:
        control = tmp_path / "disk-control"
        control.write_text("ok")
        monkeypatch.setenv("LD_PRELOAD", str(shim_library))
        monkeypatch.setenv("DISKSHIM", prefix)
        monkeypatch.setenv("DISKSHIM_CONTROL", str(control))

        def say(word: str) -> None:
            fresh = control.with_suffix(".new")
            fresh.write_text(word)
            fresh.rename(control)

        return say

    return make


@pytest.fixture
def disk(tmp_path: Path, shim: Callable[[str], Callable[[str], None]]) -> Callable[[str], None]:
    """Tell `tmp_path/bad`, for processes started from now on: `eio`, `sync-eio`, `hang`, `slow N` (bytes/s) or `ok`."""
    return shim(str(tmp_path / "bad"))


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a tmpfs on a folder; unmounted at the end."""
    mounted: list[Path] = []

    def make(name: str, options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "keyreel-test", folder], check=True)
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=False, capture_output=True)


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[FileSystem], Disk]]:
    """Make a disk that loses power, with a file system on it; given back at the end, whatever was done to it."""
    with contextlib.ExitStack() as disks:

        def make(filesystem: FileSystem, name: str = "disk") -> Disk:
            return disks.enter_context(Disk(tmp_path / name, filesystem))

        yield make


@pytest.fixture
def node_at(disk_of: Callable[[FileSystem], Disk]) -> Iterator[Callable[[Path, str], Node]]:
    """Makes nodes on data folders; what still runs is killed before the disks below are given back."""
    made: list[Node] = []

    def make(data: Path, config: str = "") -> Node:
        made.append(Node(data, config))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None:
            one.kill()
