"""What somebody should look at now, gathered from what the recorder tells of itself.

Kept true: an alarm holds as long as its cause, and nobody has to take it back; each names what it is about and since
when; many streams with one trouble are one alarm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from base.clock import wall_us
from base.status import RecorderStatus, StreamStatus, VolumeStatus
from base.units import US, format_time
from playback.calls import Ask, NoQuery
from playback.schema import RecorderView
from playback.schema_upkeep import AlarmsView, AlarmView
from playback.streams import moment, recorder_view

NAMED_MAX: Final = 5  # streams that an alarm names
PASSING_US: Final = 15 * US  # a stream without a picture for less is no alarm


async def alarms(ask: Ask[NoQuery, None]) -> AlarmsView:
    """GET /alarms."""
    now_us = wall_us()
    status = ask.context.recorder_status()
    recorder = recorder_view(status, now_us)
    found = list(_all(status, recorder, now_us))
    found.sort(key=lambda alarm: alarm.level != "critical")
    return AlarmsView(now=format_time(now_us), recorder=recorder, alarms=found)


def _all(status: RecorderStatus | None, recorder: RecorderView, now_us: int) -> Iterator[AlarmView]:
    if status is None or not recorder.running:
        detail = "the recorder does not report; nothing is recorded, or nobody knows of it"
        yield AlarmView(kind="recorder", level="critical", since=recorder.updated, detail=detail)
        return
    if recorder.silent:
        silent = ", ".join(map(str, recorder.silent))
        detail = f"recorder worker {silent} does not report; new video of its streams is missing"
        yield AlarmView(kind="recorder", level="critical", count=len(recorder.silent), detail=detail)
    for volume in status.volumes:
        yield from _of_volume(volume)
    yield from _of_node(status)
    yield from _of_streams(status.streams, now_us)


def _of_volume(volume: VolumeStatus) -> Iterator[AlarmView]:
    path = volume.path
    if volume.state in ("suspect", "quarantined"):
        yield AlarmView(
            kind="volume", level="critical", subject=path, since=moment(volume.since_us), reason=volume.reason,
            detail=volume.detail,
        )  # fmt: skip
    if volume.short_bytes:
        detail = f"{volume.short_bytes} bytes lack to its floor, and nothing on it may be deleted; add a volume"
        yield AlarmView(kind="volume-full", level="critical", subject=path, detail=detail)
    if volume.deleting_paused not in ("", "clock"):  # the clock is an alarm of its own
        yield AlarmView(
            kind="deleting-paused", level="warning", subject=path, reason=volume.deleting_paused,
            detail=volume.deleting_detail,
        )  # fmt: skip
    if volume.streams_short:
        detail = "guaranteed days of these streams do not fit at this rate; add a volume or guarantee less"
        yield AlarmView(kind="guarantee", level="warning", subject=path, count=volume.streams_short, detail=detail)
    if volume.scrub is not None and volume.scrub.known_damage:
        detail = "fragments or chunks cannot be read as they were written; GET /reports lists them"
        yield AlarmView(kind="damage", level="warning", subject=path, count=volume.scrub.known_damage, detail=detail)


def _of_node(status: RecorderStatus) -> Iterator[AlarmView]:
    for one in status.overloads:
        if not one.until_us:
            detail = f"{one.waiting} streams wait, {one.dropped_gops} GOPs were left out by priority"
            yield AlarmView(
                kind="overload", level="critical", subject=one.path, count=one.streams, since=moment(one.since_us),
                reason=one.cause, detail=detail,
            )  # fmt: skip
    if status.clock is not None and not status.clock.trusted:
        detail = "the node's clock is not trusted: nothing is deleted by age; set it, or synchronise it"
        yield AlarmView(kind="clock", level="warning", reason=status.clock.reason, detail=detail)
    if status.ledger is not None and status.ledger.reason:
        ledger = status.ledger
        yield AlarmView(kind="ledger", level="warning", reason=ledger.reason, detail=ledger.detail)
    if not status.index.whole:
        detail = f"{status.index.chunks_done} of {status.index.chunks_total} chunks are read into the index"
        yield AlarmView(kind="index", level="warning", reason=status.index.why, detail=detail)


def _of_streams(streams: list[StreamStatus], now_us: int) -> Iterator[AlarmView]:
    away = [one for one in streams if _is_away(one, now_us)]
    for reason in dict.fromkeys(one.reason for one in away):
        yield _together("streams", reason, [one for one in away if one.reason == reason])
    strange = [one for one in streams if one.reason == "identity-changed"]
    if strange:
        yield _together("identity", "identity-changed", strange)
    for reason in ("signature-stopped", "signature-wrong"):
        if spoilt := [one for one in streams if one.reason == reason]:
            alarm = _together("signature", reason, spoilt)
            times_us = [one.signature.stopped_us or one.signature.start_us for one in spoilt if one.signature]
            alarm.since = moment(min(times_us, default=0))
            yield alarm


def _is_away(stream: StreamStatus, now_us: int) -> bool:
    """Told by its last picture, as each call begins a state anew; an overload is an alarm of its own."""
    if stream.state not in ("backing-off", "connecting", "waiting") or stream.reason == "overload":
        return False
    if not stream.last_frame_us:
        return stream.state == "backing-off" or stream.reconnects > 0
    return now_us - stream.last_frame_us >= PASSING_US


def _together(kind: str, reason: str, streams: list[StreamStatus]) -> AlarmView:
    names = [one.name for one in streams[:NAMED_MAX]]
    return AlarmView(
        kind=kind,
        level="warning",
        subject=", ".join(names) + (" …" if len(streams) > NAMED_MAX else ""),
        count=len(streams),
        since=moment(min((one.last_frame_us for one in streams if one.last_frame_us), default=0)),
        reason=reason,
        detail=streams[0].detail,
    )
