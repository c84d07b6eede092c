"""The volumes, as the recorder tells of them.

Kept true: the answer comes from the status file, so a disk that hangs does not hold it; without a recorder there is
none.
"""

from __future__ import annotations

from base.clock import wall_us
from base.status import VolumeFigures, VolumeStatus
from base.units import format_time
from playback.calls import Ask, NoQuery
from playback.schema import VolumesView, VolumeView
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
    )
    for field in VolumeFigures.__struct_fields__:
        setattr(view, field, getattr(volume, field))
    return view
