"""The built page: what is committed is what the sources build, and it stays small."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "playback" / "static"
WEB = ROOT / "playback" / "web"
SCRIPT_BYTES_MAX = 300_000


def test_the_scripts_stay_small() -> None:
    scripts = list(BUILT.glob("*.js"))
    assert scripts
    assert sum(path.stat().st_size for path in scripts) <= SCRIPT_BYTES_MAX


def test_every_file_that_the_page_names_is_there() -> None:
    text = (BUILT / "index.html").read_text()
    for name in ("app.js", "style.css", "mark.svg"):
        assert f'"/web/{name}"' in text
        assert (BUILT / name).is_file()
    assert "<script>" not in text, "the content policy refuses scripts in the page itself"


@pytest.mark.needs_web
@pytest.mark.slow
def test_the_bundle_is_what_the_sources_build(tmp_path: Path) -> None:
    environment = {**os.environ, "KEYREEL_WEB_OUT": str(tmp_path / "static")}
    done = subprocess.run(
        ["npm", "run", "--silent", "build"], cwd=WEB, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built = {path.name: path.read_bytes() for path in (tmp_path / "static").iterdir()}
    committed = {path.name: path.read_bytes() for path in BUILT.iterdir()}
    assert built.keys() == committed.keys()
    changed = [name for name in built if built[name] != committed[name]]
    assert not changed, "the sources have changed; run `make web` and commit playback/static"
