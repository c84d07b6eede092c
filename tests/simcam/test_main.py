from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from base.errors import ConfigError, UserError
from simcam.encode import LoopSpec
from simcam.main import LoopName, default_cameras, parse_camera
from tests.simcam.viewer import Viewer


def test_a_camera_is_written_in_one_line() -> None:
    spec = parse_camera("name=gate,codec=h265,audio=aac,width=320,height=180,user=u,password=p,loss=0.01,join=any")
    assert spec.name == "gate"
    assert spec.loop == LoopSpec(name="gate", codec="h265", audio="aac", width=320, height=180)
    assert (spec.user, spec.password, spec.faults.loss, spec.faults.join) == ("u", "p", 0.01, "any")
    assert not spec.log
    assert parse_camera("name=a,file=/x/y.mp4,repeat=1").loop == Path("/x/y.mp4")


@pytest.mark.parametrize("text", ["", "codec=h264", "name=a,codec=vp9", "name=a,fps=many", "name=a,nonsense=1"])
def test_a_wrong_line_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="fields are"):
        parse_camera(text)
    with pytest.raises(UserError):
        parse_camera("name=a,loss=much")


def test_default_cameras() -> None:
    names = [spec.name for spec in default_cameras(6, LoopName.MIXED, 0)]
    assert names == ["cam0", "cam1", "cam2", "cam3", "cam4", "cam5"]
    load = default_cameras(2, LoopName.LOAD, 2_000_000)[1].loop
    assert isinstance(load, LoopSpec)
    assert (load.bitrate_bps, load.padded) == (2_000_000, True)


async def test_the_command_serves_until_it_is_told_to_stop() -> None:
    command = [sys.executable, "-m", "simcam", "--listen", "127.0.0.1:0", "--cameras", "2"]
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, cwd=root)
    try:
        assert process.stdout
        urls = [(await process.stdout.readline()).decode().strip() for _ in range(2)]
        assert [url.rpartition("/")[2] for url in urls] == ["cam0", "cam1"]
        async with await Viewer.connect(urls[1]) as viewer:
            await viewer.play()
            await viewer.until_packets(3)
            process.send_signal(signal.SIGTERM)
            await viewer.until_end()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()


def test_a_wrong_command_says_why() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "simcam", "--file", "/no/such/film.mp4", "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 2
    assert "cannot be served" in done.stderr
