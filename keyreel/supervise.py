"""Runs a node's programs as child processes, restarts what dies, and stops all in order.

Kept true: no child outlives its supervisor (the kernel kills it); a child that fails is started again after a growing
wait; one that refuses its configuration at its first start ends the whole; the recorder holds the data folder's lock
with its supervisor, so a new supervisor waits until an old recorder is really gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from base.errors import ConfigError
from base.log import get_logger
from base.service import EXIT_CONFIG, EXIT_DONE, stop_event

RESTART_MIN_S: Final = 0.5
RESTART_MAX_S: Final = 30.0
STEADY_S: Final = 60.0  # a child that lived this long starts again at the shortest wait
STOP_MAX_S: Final = 60.0  # an orderly stop drains queues and seals chunks; then the child is killed


@dataclass
class Child:
    """One program to keep running. `command` is what follows the interpreter; `inherit` are descriptors it keeps;
    `mend` is called in a thread before it is started again."""

    name: str
    command: Sequence[str]
    inherit: Sequence[int] = ()
    mend: Callable[[], None] | None = None
    pid: int = 0
    restarts: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)


def program(name: str, *arguments: str, inherit: Sequence[int] = (), called: str = "") -> Child:
    """A program of ours as a child of this process; `called` tells several of one program apart."""
    # -P keeps a folder called `index` or `base` in the operator's working directory from being imported
    return Child(called or name, ("-P", "-m", "keyreel.child", str(os.getpid()), name, *arguments), inherit)


class Supervisor:
    """Keeps the children running until the program's stop event is set."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = children
        self._log = get_logger()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Start all; return after an orderly stop; raise when a child refuses its configuration."""
        keepers = [asyncio.create_task(self._keep(child), name=child.name) for child in self.children]
        stop = asyncio.create_task(stop_event().wait())
        try:
            await asyncio.wait([stop, *keepers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            stop.cancel()
            results = await asyncio.gather(*keepers, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _keep(self, child: Child) -> None:
        """One child's life, over all its restarts."""
        wait_s = RESTART_MIN_S
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began_s = loop.time()
            code = await self._run_once(child)
            if self._stopping.is_set():
                return
            if code == EXIT_CONFIG and not child.restarts:
                raise ConfigError(f"{child.name} refused its configuration, see its message above")
            if loop.time() - began_s > STEADY_S:
                wait_s = RESTART_MIN_S
            child.restarts += 1
            self._log.error("a program ended on its own and is started again", child=child.name, code=code, in_s=wait_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)
            wait_s = min(wait_s * 2, RESTART_MAX_S)
            await self._mend(child)

    async def _mend(self, child: Child) -> None:
        """What may have ended it is put right, if it can be."""
        if child.mend is None or self._stopping.is_set():
            return
        try:
            await asyncio.to_thread(child.mend)
        except Exception as error:
            self._log.error("what a program needs cannot be put right; it is started all the same", error=str(error))

    async def _run_once(self, child: Child) -> int:
        """Start the child, wait until it ends or is stopped; its exit code, negative for a signal."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *child.command,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=child.inherit,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then stops its children in order
        )
        child.pid = process.pid
        child.started.set()
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await self._stop(child, process)
            return await ended
        finally:
            stopping.cancel()
            child.pid = 0

    async def _stop(self, child: Child, process: asyncio.subprocess.Process) -> None:
        """Ask for an orderly end, and do not wait for it for ever."""
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_MAX_S)
        except TimeoutError:
            self._log.error("a program did not stop in order and is killed", child=child.name, after_s=STOP_MAX_S)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        else:
            if process.returncode != EXIT_DONE:
                self._log.error("a program failed while stopping", child=child.name, code=process.returncode)
