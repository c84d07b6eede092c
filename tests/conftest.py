"""What every test may ask for: tools and footage from outside, declared by a marker.

A test marked `needs_ffmpeg`, `needs_chromium`, `needs_gst`, `needs_hlsjs` or `needs_web` is skipped with a reason on a
machine without the tool, and fails instead when KEYREEL_CI is set: what CI installs, CI runs. `needs_corpus` is skipped
without footage, and `needs_mount` and `needs_device` where the machine gives no root, mounts or loop devices.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path

import pytest

from tests.faults import device

ROOT = Path(__file__).resolve().parent.parent
CORPUS = Path(os.environ.get("KEYREEL_CORPUS", ROOT.parent / "shared" / "corpus"))
WEB_TOOLS = ROOT / "playback" / "web" / "node_modules"
HLS_JS = ROOT / "build" / "npm" / "node_modules" / "hls.js" / "dist" / "hls.min.js"
IN_CI = os.environ.get("KEYREEL_CI", "") not in ("", "0")
GST_PROBE = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def _missing_ffmpeg() -> str:
    absent = [tool for tool in ("ffmpeg", "ffprobe") if shutil.which(tool) is None]
    return f"{' and '.join(absent)} not found" if absent else ""


def _missing_chromium() -> str:
    return "" if shutil.which("chromium") else "chromium not found"


def _missing_gst() -> str:
    probe = subprocess.run(["/usr/bin/python3", "-c", GST_PROBE], capture_output=True, check=False, timeout=60)
    return "" if probe.returncode == 0 else "gst-rtsp-server is not usable from /usr/bin/python3"


def _missing_corpus() -> str:
    return "" if CORPUS.is_dir() else f"footage corpus not found at {CORPUS}"


def _missing_mount() -> str:
    """File systems of a test's own: mounted as root, where the machine lets root do it."""
    if os.geteuid() != 0:
        return "mounting a file system needs root"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "keyreel-probe", folder], check=False)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
    return "" if done.returncode == 0 else "this machine does not let root mount"


def _missing_device() -> str:
    """A disk that misbehaves: made of nbdkit, nbdfuse and a loop device."""
    return device.missing_rights() or device.missing_tools()


def _missing_hlsjs() -> str:
    return "" if HLS_JS.is_file() else f"{HLS_JS} not found; `make hlsjs` fetches it by npm"


def _missing_web() -> str:
    return "" if (WEB_TOOLS / "vite").is_dir() else f"{WEB_TOOLS} not found; `make webtools` fetches it by npm"


TOOLS: dict[str, Callable[[], str]] = {
    "needs_ffmpeg": cache(_missing_ffmpeg),
    "needs_chromium": cache(_missing_chromium),
    "needs_gst": cache(_missing_gst),
    "needs_hlsjs": cache(_missing_hlsjs),
    "needs_web": cache(_missing_web),
    "needs_mount": cache(_missing_mount),
    "needs_device": cache(_missing_device),
}
RIGHTS = ("needs_mount", "needs_device")  # a machine may refuse what these need
corpus_missing = cache(_missing_corpus)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_corpus") and (reason := corpus_missing()):
        pytest.skip(reason)
    for marker, missing in TOOLS.items():
        if item.get_closest_marker(marker) and (reason := missing()):
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    needs_tool = any(item.get_closest_marker(marker) for marker in TOOLS if marker not in RIGHTS)
    needs_tool |= item.get_closest_marker("needs_device") is not None and not device.missing_rights()
    no_footage = item.get_closest_marker("needs_corpus") is not None and bool(corpus_missing())
    if IN_CI and report.skipped and needs_tool and not no_footage and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} must not be skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The footage corpus; a test that uses it is marked needs_corpus."""
    if reason := corpus_missing():
        pytest.skip(reason)
    return CORPUS
