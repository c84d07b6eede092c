"""Bits of the index flip: no clip is ever wrong, no process dies, and the index comes back by itself."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from base.status import read_status
from chunks.records import GapCause
from index.suspect import tell
from simcam.encode import LoopSpec
from simcam.server import SimcamServer
from simcam.spec import CameraSpec
from simcam.stamps import verify
from tests import support
from tests.e2e.node import Node, until
from tests.faults.conftest import AT_LENGTH

TURNS = 160 if AT_LENGTH else 16
S = 1_000_000
LOOP = LoopSpec(codec="h264", width=320, height=180, gop=15)
NAMES = ["cam0", "cam1"]
ROUNDS = 3


def test_flipped_bits_at_rest_give_no_wrong_clip(tmp_path: Path) -> None:
    recording = support.Recording(tmp_path)
    recording.add(support.video(), repeat=10, chunk_s=10.0)
    recording.add(
        support.video(), start_us=support.T0 + 60 * S, repeat=5, chunk_s=10.0, gap_cause=GapCause.OFFLINE, seal=False
    )
    recording.close()
    ranges = [
        (support.T0 + at * S, support.T0 + (at + length) * S) for at, length in ((0, 90), (8, 6), (35, 40), (70, 5))
    ]
    (tmp_path / "ranges.json").write_text(json.dumps(ranges))
    command = [sys.executable, "-m", "tests.faults.flips", str(tmp_path), "0", str(TURNS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    turns = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert (done.returncode, len(turns)) == (0, TURNS), (turns[-1:], done.stderr[-2000:])
    assert [turn for turn in turns if turn["wrong"] or not turn["mended"]] == []
    assert any(turn["renewed"] for turn in turns)
    assert any(turn["right"] for turn in turns)


async def test_flipped_bits_under_a_running_node(tmp_path: Path) -> None:
    """The recorder goes on in its process; every picture is stored once, and no row is lost at the end."""
    dice = random.Random(3)
    async with SimcamServer([CameraSpec(name, LOOP) for name in NAMES]) as server:
        node = Node(tmp_path / "data", "[recorder]\nchunk_s = 10\n")
        for name in NAMES:
            node.keyreel("camera", "add", name, server.url(name))
        await node.start()
        streams = [f"{name}.main" for name in NAMES]
        await node.recording(*streams)
        pid = recorder_pid(node)
        for _ in range(ROUNDS):
            flip(node.data / "index" / "data.mdb", dice)
            tell(node.data / "index", "met", "a test flipped bits")
            await until(partial(is_sound, node, time.time()), 60, f"the index is looked at; {node.log_tail()}")
        assert recorder_pid(node) == pid
        await until(partial(is_whole, node), 60, f"the index is whole; {node.log_tail()}")
        assert await node.stop() == 0
        await node.start()  # a number that a row may hold is found wrong when its chunk is opened
        await until(partial(are_served, node, streams), 60, f"all is served; {node.log_tail()}")
        await until(partial(is_whole, node), 60, f"the index is whole; {node.log_tail()}")
        assert await node.stop() == 0
    for stream in streams:
        report = verify(node.samples(stream), "h264")
        assert not report.mismatches
        assert not report.duplicates
        assert not report.out_of_order
    findings = json.loads(node.keyreel("check", "--deep", "--json", check=False).stdout)["findings"]
    unmet = [one for one in findings if "than the index says" not in one["what"]]  # the rest shows when it is played
    assert unmet == []
    node.keyreel("rebuild")
    assert json.loads(node.keyreel("check", "--deep", "--json").stdout)["findings"] == []


def recorder_pid(node: Node) -> int:
    status = read_status(node.data / "run")
    assert status is not None
    return status.pid


def flip(path: Path, dice: random.Random) -> None:
    """One bit in each of a few bytes that are in use."""
    with path.open("r+b") as file:
        data = file.read()
        used = [at for at in range(len(data)) if data[at]]
        for at in dice.sample(used, 3):
            file.seek(at)
            file.write(bytes([data[at] ^ 1 << dice.randrange(8)]))


async def is_sound(node: Node, since_s: float) -> bool:
    status = read_status(node.data / "run")
    return status is not None and max(status.index.verified_us, status.index.made_us) > since_s * 1e6


async def are_served(node: Node, streams: list[str]) -> bool:
    """A clip of all that each stream ever had."""
    ever = {"start": "2020-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}
    return all([(await node.get(f"/streams/{stream}/clip.mp4", **ever))[0] == 200 for stream in streams])


async def is_whole(node: Node) -> bool:
    status = read_status(node.data / "run")
    return status is not None and status.index.whole
