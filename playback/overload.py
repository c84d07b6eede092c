"""The alarm of a node that cannot keep up, as the recorder tells of it.

Kept true: the answer comes from the status file; without a recorder nothing is known, so nothing is active.
"""

from __future__ import annotations

from base.clock import wall_us
from base.status import OverloadStatus
from base.units import format_time
from playback.calls import Ask, NoQuery
from playback.schema import OverloadsView, OverloadView
from playback.streams import moment, recorder_view


async def overloads(ask: Ask[NoQuery, None]) -> OverloadsView:
    """GET /overloads."""
    now_us = wall_us()
    status = ask.context.recorder_status()
    recorder = recorder_view(status, now_us)
    told = status.overloads if status is not None and recorder.running else []
    return OverloadsView(
        now=format_time(now_us),
        recorder=recorder,
        active=any(not one.until_us for one in told),
        episodes=status.overload_episodes if status is not None and recorder.running else 0,
        overloads=[_view(one) for one in told],
    )


def _view(one: OverloadStatus) -> OverloadView:
    return OverloadView(
        cause=one.cause,
        volume=one.volume,
        path=one.path,
        start=format_time(one.since_us),
        end=moment(one.until_us),
        streams=one.streams,
        waiting=one.waiting,
        dropped_gops=one.dropped_gops,
    )
