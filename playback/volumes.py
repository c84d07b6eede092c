"""The volumes, as the recorder tells of them.

Kept true: the answer comes from the status file, so a disk that hangs does not hold it; without a recorder there is
none.
"""

from __future__ import annotations

from base.clock import wall_us
from base.status import ScrubStatus, VolumeFigures, VolumeStatus
from base.units import format_time
from playback.calls import Ask, NoQuery
from playback.schema import ScrubView, VolumesView, VolumeView
from playback.streams import moment, recorder_view


async def volumes(ask: Ask[NoQuery, None]) -> VolumesView:
    """GET /volumes."""
    now_us = wall_us()
    status = ask.context.recorder_status()
    recorder = recorder_view(status, now_us)
    told = status.volumes if status is not None and recorder.running else []
    return VolumesView(now=format_time(now_us), recorder=recorder, volumes=[_view(volume) for volume in told])


def _view(volume: VolumeStatus) -> VolumeView:
    view = VolumeView(
        id=volume.id,
        path=volume.path,
        state=volume.state,
        reason=volume.reason,
        detail=volume.detail,
        since=moment(volume.since_us),
        streams=volume.streams,
        free_bytes=volume.free_bytes,
        total_bytes=volume.total_bytes,
        queue_bytes=volume.queue_bytes,
        last_sync_ms=volume.last_sync_ms,
        scrub=_scrub(volume.scrub) if volume.scrub is not None else None,
    )
    for field in VolumeFigures.__struct_fields__:
        setattr(view, field, getattr(volume, field))
    return view


def _scrub(scrub: ScrubStatus) -> ScrubView:
    return ScrubView(
        running=scrub.running,
        detail=scrub.detail,
        started=moment(scrub.started_us),
        chunks=scrub.chunks,
        bytes=scrub.bytes,
        damaged=scrub.damaged,
        known_damage=scrub.known_damage,
        findings=scrub.findings,
        last_ended=moment(scrub.last_ended_us),
        last_bytes=scrub.last_bytes,
        last_damaged=scrub.last_damaged,
    )
