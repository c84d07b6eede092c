"""The commands that run until they are told to stop: serve, record, play.

Kept true: what can be refused is refused before a program starts; the address is printed when it really answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from base.datadir import DataDir
from base.log import setup
from base.service import run_service
from keyreel.child import run_program, worker_name
from keyreel.node import Node, open_node, prepare_index, recording, suspect_index
from keyreel.supervise import Child, Supervisor, program

POLL_S: Final = 0.05


class Address(msgspec.Struct):
    """What playback writes of itself to run/playback.json."""

    pid: int
    url: str


def serve(data: Path, config: Path | None, listen: str | None) -> int:
    """Recorder and playback of one node; the exit code."""

    async def run() -> None:
        node = open_node(data, config, listen, create=True, serves=True)
        setup("supervisor", node.config.log)
        with recording(node) as lock:
            supervisor = Supervisor(programs(node, config, listen, lock))
            for child in supervisor.children:  # others still use it: the first recorder's care mends it
                child.mend = partial(suspect_index, node.datadir)
            if node.config.recorder.workers == 1:
                supervisor.children[0].mend = partial(prepare_index, node.datadir, verified=True)
            teller = asyncio.create_task(tell_address(node, supervisor.children[-1]))
            try:
                await supervisor.run()
            finally:
                teller.cancel()

    return run_service(run)


def record(data: Path, config: Path | None) -> int:
    """The recorder alone: in this process, or as several workers under it."""

    async def run() -> None:
        from recorder.main import run as run_recorder

        node = open_node(data, config, create=True)
        is_one = node.config.recorder.workers == 1
        setup("recorder" if is_one else "supervisor", node.config.log)
        with recording(node) as lock:
            if is_one:
                await run_recorder(node.datadir, node.config)
            else:
                await Supervisor(recorders(node, config, lock)).run()

    return run_service(run)


def play(data: Path, config: Path | None, listen: str | None) -> int:
    """Playback alone, in this process."""
    return run_program("playback", str(data), str(config or ""), listen or "")


def programs(node: Node, config: Path | None, listen: str | None, lock: int) -> Sequence[Child]:
    """The recorder's workers, and playback as the last."""
    playback = program("playback", str(node.datadir.path), str(config or ""), listen or "")
    return [*recorders(node, config, lock), playback]


def recorders(node: Node, config: Path | None, lock: int) -> Sequence[Child]:
    """The recorder's workers, which inherit the data folder's lock.

    Each is told its share: by the time that it is started again the configuration may name another number.
    """
    workers = node.config.recorder.workers
    arguments = ("recorder", str(node.datadir.path), str(config or ""), "")
    return [
        program(*arguments, str(one), str(workers), inherit=(lock,), called=worker_name("recorder", one, workers))
        for one in range(workers)
    ]


async def tell_address(node: Node, playback: Child) -> None:
    """Print where the page is, as soon as playback answers there."""
    url = await playback_url(node.datadir, playback)
    print(f"Keyreel serves {node.datadir.path} at {url}", flush=True)


async def playback_url(datadir: DataDir, playback: Child) -> str:
    """The address that the running playback child published."""
    path = datadir.run_path / "playback.json"
    while True:
        try:
            address = msgspec.json.decode(path.read_bytes(), type=Address)
            if address.pid == playback.pid:
                return address.url
        except (OSError, msgspec.DecodeError):
            pass
        await asyncio.sleep(POLL_S)
