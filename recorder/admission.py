"""When a stream calls its camera again, and how many are set up at a time: a thousand that vanished together return
together, and neither the node nor the network is run over.

Kept true: at most `places` cameras are set up at a time; those whose last set-up came to nothing share a quarter of
the places, so cameras that answer slowly or wrongly never keep out the others; waiting for a camera that does not
answer takes no place. Whoever waits is called early when a neighbour returned, but never in two waits in a row: a
camera that comes and goes at most doubles what its absent neighbours cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit

from base.clock import Clock

# Streams that begin to call together are spread over this long per hundred of them: 200 calls a second.
SPREAD_S_PER_100: Final = 0.5
_DOUBTFUL_SHARE: Final = 4
_PREFIX_BITS: Final = {4: 24, 6: 64}


def neighbourhood(url: str) -> str:
    """Cameras that probably come and go together: an IPv4 /24, an IPv6 /64, or all streams of one host name."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return url
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((address, _PREFIX_BITS[address.version]), strict=False))


class _Waiter:
    """One stream between two calls; `early_s` is how long it waits still once a neighbour returned."""

    def __init__(self, sleep: asyncio.Task[None], may_be_early: bool) -> None:
        self.sleep = sleep
        self.may_be_early = may_be_early
        self.early_s: float | None = None


class Admission:
    """Shared by all sessions of a recorder."""

    def __init__(self, places: int, clock: Clock, rng: random.Random | None = None) -> None:
        self.taken = 0  # places
        self.taken_max = 0  # since the start
        self._places = asyncio.Semaphore(places)
        self._doubtful = asyncio.Semaphore(max(1, places // _DOUBTFUL_SHARE))
        self._clock = clock
        self._rng = rng or random.Random()
        self._waiters: dict[str, set[_Waiter]] = {}
        self._waiting = 0

    @contextlib.asynccontextmanager
    async def place(self, *, doubtful: bool) -> AsyncIterator[None]:
        """A place to set a camera up in; waited for in the order of arrival."""
        async with self._doubtful if doubtful else contextlib.nullcontext(), self._places:
            self.taken += 1
            self.taken_max = max(self.taken_max, self.taken)
            try:
                yield
            finally:
                self.taken -= 1

    def spread_s(self) -> float:
        """Over how long those that wait now should spread their calls."""
        return SPREAD_S_PER_100 * self._waiting / 100

    async def wait(self, near: str, delay_s: float, *, may_be_early: bool) -> bool:
        """Wait for `delay_s`, or less when a neighbour returns; True when it was less."""
        waiter = _Waiter(asyncio.ensure_future(self._clock.sleep(delay_s)), may_be_early)
        group = self._waiters.setdefault(near, set())
        group.add(waiter)
        self._waiting += 1
        try:
            await asyncio.wait((waiter.sleep,))
            if waiter.early_s is not None:
                await self._clock.sleep(waiter.early_s)
        finally:
            waiter.sleep.cancel()
            self._waiting -= 1
            group.discard(waiter)
            if not group:
                self._waiters.pop(near, None)
        return waiter.early_s is not None

    def returned(self, near: str) -> None:
        """A camera that was away plays again: its neighbours are called now, spread as at a start."""
        ready = [one for one in self._waiters.get(near, ()) if one.may_be_early and not one.sleep.done()]
        for waiter in ready:
            waiter.may_be_early = False
            waiter.early_s = self._rng.uniform(0, SPREAD_S_PER_100 * len(ready) / 100)
            waiter.sleep.cancel()
