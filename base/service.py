"""How a long-running program starts and ends.

Kept true: the first SIGINT or SIGTERM asks for an orderly end, a second one ends the process at once; the exit code
says who has to act; an error made on purpose is told in one sentence, anything else with its traceback.

A program is a coroutine function without arguments. It ends in order when `stop_event()` is set:

    async def run(datadir, config):
        ...start...
        await stop_event().wait()
        ...stop in order...
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar

from base.errors import ConfigError, DamageError, KeyreelError, NotFound, UserError, VolumeError

EXIT_DONE = 0
EXIT_FAILED = 1  # unexpected: a bug, or a part that ended on its own
EXIT_USAGE = 2  # the command line or the request asks for something impossible
EXIT_NOT_FOUND = 3  # the camera, stream or range named does not exist
EXIT_CONFIG = 4  # configuration or data folder is wrong; nothing was touched
EXIT_DAMAGE = 5  # stored data failed a check
EXIT_VOLUME = 6  # a volume is missing or failed
SAME_SIGNAL_S = 0.5  # `timeout` and some shells signal a process and then its group: that is one request

_stop: ContextVar[asyncio.Event] = ContextVar("stop")


def stop_event() -> asyncio.Event:
    """The event that is set when the program this code belongs to shall end in order."""
    try:
        return _stop.get()
    except LookupError:
        event = asyncio.Event()
        _stop.set(event)
        return event


@contextlib.contextmanager
def stoppable() -> Iterator[asyncio.Event]:
    """A stop event of its own for the tasks started inside; for programs run inside another one, and for tests."""
    event = asyncio.Event()
    token = _stop.set(event)
    try:
        yield event
    finally:
        _stop.reset(token)


def exit_code(error: BaseException) -> int:
    """The process's exit code for an error, by who has to act."""
    for kind, code in (
        (NotFound, EXIT_NOT_FOUND),
        (UserError, EXIT_USAGE),
        (ConfigError, EXIT_CONFIG),
        (DamageError, EXIT_DAMAGE),
        (VolumeError, EXIT_VOLUME),
    ):
        if isinstance(error, kind):
            return code
    return EXIT_FAILED


def run_service(main: Callable[[], Awaitable[None]]) -> int:
    """Run a program on uvloop until it returns, fails, or is told to stop; returns the exit code."""
    try:
        import uvloop  # here, so that short commands do not pay for it

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_guarded(main))
    except KeyreelError as error:
        print(f"keyreel: {error}", file=sys.stderr, flush=True)
        return exit_code(error)
    except Exception:
        traceback.print_exc()
        return EXIT_FAILED
    return EXIT_DONE


async def _guarded(main: Callable[[], Awaitable[None]]) -> None:
    """`main` with the two signals bound to its stop event."""
    with stoppable() as stop:
        loop = asyncio.get_running_loop()
        asked_s = 0.0

        def on_signal(number: int) -> None:
            nonlocal asked_s
            if not stop.is_set():
                stop.set()
                asked_s = loop.time()
            elif loop.time() - asked_s > SAME_SIGNAL_S:
                os._exit(128 + number)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal, number)
        try:
            await main()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
