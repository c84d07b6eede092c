"""Reads every import and cimport of the product and fails on an edge that points up or sideways."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BELOW_CLIPS = {"index", "chunks", "native", "base"}
PROGRAM = {"clips", "evidence", "rtsp", "sources", *BELOW_CLIPS}
MAY_IMPORT: dict[str, set[str]] = {
    "base": set(),
    "native": set(),
    "chunks": {"native", "base"},
    "index": {"chunks", "native", "base"},
    "clips": BELOW_CLIPS,
    "evidence": {"chunks", "native", "base"},
    "rtsp": {"native", "base"},
    "sources": {"rtsp", "native", "base"},
    "recorder": PROGRAM,
    "playback": PROGRAM,
    "simcam": PROGRAM,
    "export": PROGRAM,
    "keyreel": {"recorder", "playback", "simcam", "export", *PROGRAM},
}
# Outside packages that have one owner in the house, and why.
OWNED_BY: dict[str, set[str]] = {
    "lmdb": {"index"},  # a second opening of one environment in a process loses data
    "aiohttp": {"playback", "keyreel"},
    "typer": {"keyreel", "simcam"},
    "rich": {"keyreel"},
    "onveef": {"sources"},
    "httpx": {"sources"},
}
LINES_MAX = 500
CIMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\b|c?import\s+([\w.]+))", re.MULTILINE)


def _sources(*suffixes: str) -> list[Path]:
    return sorted(
        path for house in MAY_IMPORT for path in (ROOT / house).rglob("*") if path.suffix in suffixes and path.is_file()
    )


def _imports(path: Path) -> set[str]:
    text = path.read_text()
    if path.suffix in (".pyx", ".pxd"):
        code = re.sub(r"(?s)(\"\"\"|''').*?\1", "", text)
        return {(first or second).split(".")[0] for first, second in CIMPORT.findall(code)}
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it absolute"
            names.add((node.module or "").split(".")[0])
    return names


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("house", MAY_IMPORT)
def test_imports_point_down(house: str) -> None:
    wrong = []
    for path in _sources(".py", ".pyi", ".pyx", ".pxd"):
        if path.relative_to(ROOT).parts[0] != house:
            continue
        upward = (_imports(path) & MAY_IMPORT.keys()) - MAY_IMPORT[house] - {house}
        wrong += [f"{_name(path)} imports {name}" for name in sorted(upward)]
    assert not wrong


def test_owned_packages_stay_with_their_owner() -> None:
    wrong = []
    for path in _sources(".py"):
        house = path.relative_to(ROOT).parts[0]
        wrong += [
            f"{_name(path)} imports {name}"
            for name, owners in OWNED_BY.items()
            if name in _imports(path) and house not in owners
        ]
    assert not wrong


def test_av_is_imported_lazily() -> None:
    """Importing av costs 175 ms and 100 MB of libraries; only the function that decodes pays for it."""
    wrong = []
    for path in _sources(".py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                wrong += [_name(path) for name in names if name.split(".")[0] == "av"]
    assert not wrong


def test_compiled_code_lives_in_native_alone() -> None:
    strays = [_name(path) for path in _sources(".pyx", ".pxd", ".c") if path.relative_to(ROOT).parts[0] != "native"]
    assert not strays
    modules = {path.stem for path in (ROOT / "native").glob("*.py")}
    assert modules <= {"__init__"}


def test_every_compiled_module_has_a_stub() -> None:
    missing = [_name(path) for path in (ROOT / "native").glob("*.pyx") if not path.with_suffix(".pyi").exists()]
    assert not missing


def test_modules_stop_at_their_limit() -> None:
    long = {
        _name(path): lines
        for path in _sources(".py", ".pyx")
        if (lines := len(path.read_text().splitlines())) > LINES_MAX
    }
    assert not long


def test_tests_mirror_folders_without_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
