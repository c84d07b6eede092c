"""What runs inside a supervised child: `python -m keyreel.child PARENT PROGRAM …`.

Kept true: the child dies with its parent, whatever way the parent dies; a program runs here exactly as it does alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from base.log import setup
from base.service import EXIT_USAGE, run_service

if TYPE_CHECKING:
    from keyreel.node import Node
    from recorder.share import Share

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def main(arguments: list[str]) -> int:
    """Bind this process's life to its parent's, then run the program named."""
    parent, program, *rest = arguments
    die_with(int(parent))
    if program in PROGRAMS:
        return run_program(program, *rest)
    if program == "simcam":
        return _simcam(*rest)
    print(f"keyreel.child: no program is called {program!r}", file=sys.stderr)
    return EXIT_USAGE


def die_with(parent: int) -> None:
    """SIGKILL for this process when its parent's main thread ends; at once when it has already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def run_program(
    program: str, data: str, config: str = "", listen: str = "", worker: str = "0", workers: str = "1"
) -> int:
    """Run recorder or playback on a data folder until it is told to stop; the exit code."""

    async def start() -> None:
        from keyreel.node import open_node
        from recorder.share import Share

        node = open_node(Path(data), Path(config) if config else None, listen or None)
        share = Share(int(worker), int(workers))
        setup(worker_name(program, share.worker, share.workers), node.config.log)
        await PROGRAMS[program](node, share)

    return run_service(start)


def worker_name(program: str, worker: int, workers: int) -> str:
    """How the log calls a program, or one of several that share its work."""
    return program if workers == 1 else f"{program}-{worker}"


def _recorder(node: Node, share: Share) -> Awaitable[None]:
    from recorder.main import run

    return run(node.datadir, node.config, share)


def _playback(node: Node, _share: Share) -> Awaitable[None]:
    from playback.main import run

    return run(node.datadir, node.config)


def _simcam(host: str, port: str) -> int:
    """The simulated cameras of the demo."""

    async def start() -> None:
        from keyreel.demo import serve_cameras

        setup("simcam")
        await serve_cameras(host, int(port))

    return run_service(start)


PROGRAMS: Final[dict[str, Callable[[Node, Share], Awaitable[None]]]] = {"recorder": _recorder, "playback": _playback}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
