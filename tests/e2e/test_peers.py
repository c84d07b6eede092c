"""A third-party RTSP server as the camera, ffmpeg as the judge."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.node import Node, free_port, until

FOOTAGE_S = int(os.environ.get("KEYREEL_E2E_FOOTAGE_S", "25"))
SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(); server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
for i, path in enumerate(sys.argv[2:]):
    pay = "h265parse ! rtph265pay" if "h265" in path else "h264parse ! rtph264pay"
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f'( filesrc location="{path}" ! qtdemux ! {pay} name=pay0 pt=96 config-interval=-1 )')
    server.get_mount_points().add_factory(f"/s{i}", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


def hashes(path: Path, *, frames: int | None = None) -> list[str]:
    """MD5 of every decoded picture, by ffmpeg."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-frames:v", str(frames)] if frames else []
    run = subprocess.run([*command, "-f", "framemd5", "-"], capture_output=True, text=True, check=True)
    return [line.split(",")[-1].strip() for line in run.stdout.splitlines() if line and line[0] != "#"]


def cut(path: Path, folder: Path) -> Path:
    """The first FOOTAGE_S seconds, not re-encoded: footage is served at its own speed."""
    out = folder / path.name
    length = ["-t", str(FOOTAGE_S), "-c", "copy"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", str(path), *length, str(out)], check=True)
    return out


@pytest.fixture(scope="module")
def h265(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("peer") / "clip-h265.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15:duration=12"]
    coding = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=15", "-tag:v", "hvc1"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *source, *coding, str(path)], check=True)
    return path


@pytest.fixture
def gst() -> Iterator[Callable[[list[Path]], int]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(paths: list[Path]) -> int:
        port = free_port()
        command = ["/usr/bin/python3", "-c", SERVER, str(port), *(str(path) for path in paths)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr))
        assert started[0].stdout is not None
        assert started[0].stdout.readline() == b"ready\n"
        return port

    yield start
    for process in started:
        process.kill()
        process.wait()


async def record_all(one: Node, port: int, paths: list[Path], seconds: float) -> None:
    await one.start()
    for i in range(len(paths)):
        await asyncio.to_thread(one.keyreel, "camera", "add", f"s{i}", f"rtsp://127.0.0.1:{port}/s{i}")
    await one.recording(*(f"s{i}.main" for i in range(len(paths))))
    await asyncio.sleep(seconds)


@pytest.mark.needs_ffmpeg
@pytest.mark.needs_gst
async def test_h265_from_another_server_is_recorded_picture_for_picture(
    node: Callable[..., Node], gst: Callable[[list[Path]], int], h265: Path
) -> None:
    one = node(config="[recorder]\nbackoff_min_s = 30\nbackoff_max_s = 30\n")
    await record_all(one, gst([h265]), [h265], 0)
    await _ended(one, ["s0.main"], 30)
    assert await one.stop() == 0
    assert len(one.samples("s0.main")) == 12 * 15
    assert [found for chunk in one.chunks("s0.main") for found in hashes(chunk)] == hashes(h265)


@pytest.mark.needs_ffmpeg
@pytest.mark.needs_gst
@pytest.mark.needs_corpus
async def test_real_footage_from_another_server_is_recorded_picture_for_picture(
    node: Callable[..., Node], gst: Callable[[list[Path]], int], corpus: Path, tmp_path: Path
) -> None:
    paths = [cut(path, tmp_path) for path in sorted((corpus / "footage").glob("*.mp4"))]
    one = node(config="[recorder]\nbackoff_min_s = 60\nbackoff_max_s = 60\n")
    await record_all(one, gst(paths), paths, 0)
    await _ended(one, [f"s{i}.main" for i in range(len(paths))], FOOTAGE_S + 60)
    assert await one.stop() == 0
    for i, path in enumerate(paths):
        source, stored = hashes(path), [h for chunk in one.chunks(f"s{i}.main") for h in hashes(chunk)]
        assert stored == source, (path.name, len(stored), len(source))


async def _ended(one: Node, names: list[str], deadline_s: float) -> None:
    """Wait until the server has sent each file to its end; a camera that ended is not called again."""
    left = set(names)

    async def none_left() -> bool:
        streams = await one.streams()
        for name in [name for name in left if streams[name]["state"] == "backing-off"]:
            await asyncio.to_thread(one.keyreel, "camera", "remove", name.removesuffix(".main"))
            left.discard(name)
        return not left

    await until(none_left, deadline_s, "the server has sent its files to the end")
