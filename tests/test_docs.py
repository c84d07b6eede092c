"""The documents tell the truth: links resolve, commands exist, the configuration is the code's, nothing is private."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.main

from base import config
from keyreel.main import app
from playback.routes import CALLS

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = {".venv", ".git", "build", "dist", "node_modules", "demo-data"}
PAGES = sorted(path for path in ROOT.rglob("*.md") if not SKIPPED & {*path.relative_to(ROOT).parts})
SECTIONS = {
    "recorder": config.RecorderConfig,
    "rtsp": config.RtspConfig,
    "api": config.ApiConfig,
    "retention": config.RetentionConfig,
    "retention.rules": config.RetentionRule,
    "evidence": config.EvidenceConfig,
    "log": config.LogConfig,
    "volumes": config.VolumeConfig,
}
GROUPS = ("camera", "volume", "hold", "key", "ledger", "export")
BINARY_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def _prose(page: Path) -> str:
    return re.sub(r"(?s)```.*?```", "", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_resolve(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not (target.exists() and target.is_relative_to(ROOT) and (not anchor or anchor in _anchors(target))):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_tests_and_modules_that_pages_name_exist(page: Path) -> None:
    named = re.findall(r"`((?:tests|bench|docs|deploy)/[\w./-]+\.\w+)(?:::(\w+))?`", page.read_text())
    missing = [
        f"{file}::{test}" for file, test in named
        if "local.json" not in file and not ((ROOT / file).exists() and test in (ROOT / file).read_text())
    ]  # fmt: skip
    assert not missing


def test_nothing_private_is_named() -> None:
    """No path of one person's machine in anything that is published."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    private = re.compile(r"(?<![\w.])/(?:work|root|home|Users)/[\w.]")
    found = []
    for name in tracked or [_name(page) for page in PAGES]:
        path = ROOT / name
        if path.suffix in {".md", ".py", ".pyx", ".pxd", ".toml", ".html", ".js", ".css"} and path != Path(__file__):
            found += [f"{name}: {hit.group()}" for hit in private.finditer(path.read_text())]
    assert not found


def test_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text()))
    named = {(_name(p), t) for p in PAGES for t in re.findall(r"(?m)(?:`|^)make ([a-z][\w-]*)", p.read_text())}
    assert {("README.md", "demo"), ("README.md", "test")} <= named
    assert not {(page, target) for page, target in named if target not in targets}


def _commands() -> dict[str, set[str]]:
    """Every command with its options, as the command line knows them."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, words: str) -> None:
        for name, child in getattr(command, "commands", {}).items():
            walk(child, f"{words} {name}".strip())
        found[words] = {option for parameter in command.params for option in getattr(parameter, "opts", [])}

    walk(typer.main.get_command(app), "")
    return found


def test_commands_that_pages_name_exist() -> None:
    commands = _commands()
    wrong = []
    for page in PAGES:
        for line in re.findall(r"(?:`|^)keyreel ([a-z][^`\n]*)", page.read_text(), re.MULTILINE):
            words = line.split()
            name = (
                " ".join(words[:2]) if words[0] in ("camera", "volume", "hold", "key", "ledger", "export") else words[0]
            )
            options = set(re.findall(r"--[a-z][\w-]*|(?<=\s)-[a-z]\b", line))
            if name not in commands or not options - {"--help"} <= commands[name]:
                wrong.append(f"{_name(page)}: keyreel {line}")
    assert not wrong
    readme = (ROOT / "README.md").read_text()
    assert not [name for name in commands if name and f"keyreel {name}" not in readme and name != "camera"]


def rows(section: type[msgspec.Struct]) -> list[str]:
    """The lines of the configuration page's table for one section."""
    properties = msgspec.json.schema(section)["$defs"][section.__name__]["properties"]
    return [_row(key, shape) for key, shape in properties.items()]


def _row(key: str, shape: dict[str, Any]) -> str:
    inner = next((part for part in shape.get("anyOf", []) if part.get("type") != "null"), shape)
    size = key.endswith(("_bytes_max",)) or key in ("queue_bytes_max", "unit_bytes_max")
    default = shape.get("default", "needed")
    shown = "none" if default is None else _value(default, size)
    if "enum" in inner:
        bounds = ", ".join(inner["enum"])
    elif "minimum" in inner:
        bounds = f"{_value(inner['minimum'], size)} … {_value(inner['maximum'], size)}"
    else:
        bounds = f"≤ {inner['maxLength']} characters" if "maxLength" in inner else ""
        bounds = f"{inner['minLength']} … {inner['maxLength']} characters" if inner.get("minLength", 1) > 1 else bounds
    return f"| `{key}` | {shown} | {bounds} | {inner.get('description', '')} |"


def _value(value: Any, size: bool) -> str:
    for unit, word in BINARY_UNITS if size and isinstance(value, int) else ():
        if value % unit == 0:
            return f"{value // unit} {word}"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_configuration_page_is_the_codes(section: str) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    is_array = section in ("volumes", "retention.rules")
    part = page.split(f"## `[[{section}]]`" if is_array else f"## `[{section}]`")[1].split("\n## ")[0]
    assert re.findall(r"(?m)^\| `.*$", part) == rows(SECTIONS[section])


def test_volume_identity_is_named_right() -> None:
    from chunks.volume import IDENTITY_NAME

    assert IDENTITY_NAME in (ROOT / "docs" / "configuration.md").read_text()


def test_the_readme_names_every_call() -> None:
    section = (ROOT / "README.md").read_text().split("\n## HTTP\n")[1].split("\n## ")[0]
    words = [word for row in re.findall(r"(?m)^\| (`.*?) \|", section) for word in re.findall(r"`([^`]+)`", row)]
    told = {word.split(" ")[-1].partition("?")[0] for word in words if "/" in word}
    assert told == {call.path.removeprefix("/api/v1") for call in CALLS if call.tag != "page"}
