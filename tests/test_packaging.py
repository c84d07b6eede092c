"""The distribution: an sdist that builds, a wheel that is complete, and an installation that runs on its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOUSES = (
    "base",
    "chunks",
    "clips",
    "evidence",
    "export",
    "index",
    "keyreel",
    "native",
    "playback",
    "recorder",
    "rtsp",
    "simcam",
    "sources",
)
KERNELS = sorted(path.stem for path in (ROOT / "native").glob("*.pyx"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "KEYREEL_DATA")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    _run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return next(out.glob("keyreel-*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as an installer without a wheel for its machine does."""
    out = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", out, sdist, cwd=out)
    return next(out.glob("keyreel-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean virtual environment with the wheel and what it asks for."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=True)
    _run(home / "bin" / "python", "-m", "pip", "install", "--quiet", wheel, cwd=home)
    return home


def test_the_sdist_holds_sources_and_no_products(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"setup.py", "pyproject.toml", "Makefile", "LICENSE", "README.md", "tests/conftest.py"} <= names
    assert {f"native/{kernel}{suffix}" for kernel in KERNELS for suffix in (".pyx", ".pyi")} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc")) or re.fullmatch(r"native/.*\.c", name)]


def test_the_wheel_is_complete(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(HOUSES)
    for kernel in KERNELS:
        assert f"native/{kernel}.pyi" in names
        assert [name for name in names if name.startswith(f"native/{kernel}.") and name.endswith(".so")], kernel
    assert {f"{house}/py.typed" for house in HOUSES} <= names
    page = {f"playback/static/{path.name}" for path in (ROOT / "playback" / "static").iterdir()}
    assert "playback/static/app.js" in page
    assert page <= names
    assert not [name for name in names if name.endswith((".c", ".pyx"))]
    assert [name for name in names if name.endswith("dist-info/licenses/LICENSE")]


def test_the_installation_runs_on_its_own(installed: Path, tmp_path: Path) -> None:
    keyreel = installed / "bin" / "keyreel"
    assert "Usage:" in _run(keyreel, "--help", cwd=tmp_path)
    assert _run(keyreel, "version", cwd=tmp_path).strip() == "0.1.0"
    _run(keyreel, "camera", "add", "gate", "rtsp://127.0.0.1/gate", "--data", "data", cwd=tmp_path)
    assert "gate.main" in _run(keyreel, "status", "--data", "data", cwd=tmp_path)
    kernels = ", ".join(f"native.{kernel}" for kernel in KERNELS)
    place = _run(installed / "bin" / "python", "-P", "-c", f"import {kernels}; print(native.__file__)", cwd=tmp_path)
    assert place.startswith(str(installed)), "the modules come from the installation, not from the source tree"
