"""The index's own disk fills up, below a real file system: recording goes on, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chunks.path import parse_chunk_path
from index import Index
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import verify
from tests.e2e.node import Node, chunk_samples, until
from tests.faults.device import Disk, FileSystem

pytestmark = [pytest.mark.needs_device, pytest.mark.timeout(200)]
LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
CONFIG = '[recorder]\nchunk_s = 10\n[[volumes]]\npath = "{}"\n'


@pytest.mark.at_length
@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
async def test_a_full_index_disk_costs_no_picture(
    node_at: Callable[[Path, str], Node],
    disk_of: Callable[[FileSystem], Disk],
    mount: Callable[..., Path],
    tmp_path: Path,
    filesystem: FileSystem,
) -> None:
    media = mount("media", "size=256m")
    root = disk_of(filesystem).root
    (root / "data").mkdir()
    (tmp_path / "data").symlink_to(root / "data")  # its log lies beside it, and not on the full disk
    one = node_at(tmp_path / "data", CONFIG.format(media))
    names = ["c0.main", "c1.main"]

    def chunks(name: str) -> list[Path]:
        return sorted((media / name).glob("*/*.mp4"), key=lambda path: parse_chunk_path(path).sequence)

    async with SimcamServer([CameraSpec(name, loop=LOOP) for name in ("c0", "c1")]) as server:
        await one.start()
        for name in ("c0", "c1"):
            one.keyreel("camera", "add", name, server.url(name))
        await one.recording(*names)
        pid = recorder_pid(one)
        with (
            Index.open(root / "data" / "index", readonly=True) as index,
            index.read(),
        ):  # so each commit needs new pages
            take_the_rest(root / "other")

            async def told() -> bool:
                return '"event": "index commit failed' in one.log_path.read_text()

            await until(told, 30, f"a commit is refused; {one.log_tail()}")
            numbers = {name: parse_chunk_path(chunks(name)[-1]).sequence for name in names}

            async def goes_on() -> bool:
                return all(parse_chunk_path(chunks(name)[-1]).sequence > numbers[name] for name in names)

            await until(goes_on, 60, f"recording goes on; {one.log_tail()}")
        (root / "other").unlink()

        async def caught_up() -> bool:
            _, body = await one.get("/volumes")
            status = json.loads(one.keyreel("status", "--json").stdout)["recorder"]
            return bool(body["volumes"]) and status is not None and status["index_behind_chunks"] == 0

        await until(caught_up, 40, f"the index catches up; {one.log_tail()}")
        assert recorder_pid(one) == pid, "the same process"
        assert await one.stop() == 0
    done = one.keyreel("check", "--deep", "--json", check=False)
    assert done.returncode == 0, done.stdout
    for name in names:
        report = verify([sample for path in chunks(name) for sample in chunk_samples(path)], "h264")
        assert report.ok, (name, report)
        line = json.loads(one.keyreel("timeline", name, "--json").stdout)
        assert line["gaps"] == [], "nothing is missing in the index either"


def take_the_rest(path: Path) -> None:
    """Every block that is left, also those kept for root."""
    with path.open("wb") as file:
        at, size = 0, 64 << 20
        while size >= 4096:
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), at, size)
                at += size
                continue
            size //= 2


def recorder_pid(one: Node) -> int:
    return int(json.loads(one.keyreel("status", "--json").stdout)["recorder"]["pid"])
