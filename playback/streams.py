"""Streams and how they are doing: answers made from the index and the recorder's status.

Kept true: a stream is listed when the index, the register or the recorder knows it; what the recorder says is believed
only while it is fresh.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from base.clock import wall_us
from base.errors import KeyreelError, NotFound, UserError
from base.media import StreamConfig
from base.signatures import CameraSignature
from base.status import ClockStatus, RecorderStatus, StreamFigures, StreamStatus
from base.units import US, format_time
from clips.fmp4 import derived_tracks, mime_type
from index import Snapshot, StreamRow
from playback.calls import Ask, NoQuery
from playback.schema import ClockView, RecorderView, StreamsView, StreamView
from playback.signature import SignatureView

FRESH_US: Final = 5 * US  # older status means the recorder is gone or stuck


def moment(time_us: int) -> str | None:
    """A time for an answer; null for 0, which means unknown."""
    return format_time(time_us) if time_us else None


def find_stream(snapshot: Snapshot, name: str) -> StreamRow:
    """The stream of that name, or a 404 that says where names are listed."""
    row = snapshot.stream(name)
    if row is None:
        raise NotFound(
            f"no footage of a stream {name[:80]!r}; GET /api/v1/streams lists the names", reason="unknown-stream"
        )
    return row


def find_streams(snapshot: Snapshot, names: list[str] | None) -> list[StreamRow]:
    """The streams named, in that order, or all; a 404 tells how many there are not."""
    rows = {row.name: row for row in snapshot.streams()}
    if names is None:
        return [rows[name] for name in sorted(rows)]
    if len(set(names)) < len(names):
        raise UserError("a stream is named twice; name each once", reason="bad-body")
    if unknown := [name for name in names if name not in rows]:
        raise NotFound(
            f"no footage of {len(unknown)} of the streams asked, the first is {unknown[0][:80]!r}; "
            "GET /api/v1/streams lists the names",
            reason="unknown-stream",
        )
    return [rows[name] for name in names]


def recorder_view(status: RecorderStatus | None, now_us: int) -> RecorderView:
    """Whether the recorder is alive, by the age of its last word."""
    if status is None:
        return RecorderView(running=False)
    return RecorderView(
        running=abs(now_us - status.updated_us) < FRESH_US,
        updated=moment(status.updated_us),
        started=moment(status.started_us),
        version=status.version,
        workers=status.workers,
        silent=status.silent,
        clock=_clock(status.clock) if status.clock is not None else None,
        index_whole=status.index.whole,
        index_chunks_done=status.index.chunks_done,
        index_chunks_total=status.index.chunks_total,
        index_behind_chunks=status.index_behind_chunks,
        index_backlog_records=status.index_backlog_records,
        index_hung_s=status.index_hung_s,
    )


def _clock(clock: ClockStatus) -> ClockView:
    return ClockView(
        trusted=clock.trusted,
        reason=clock.reason,
        synced=clock.synced,
        ahead_s=clock.ahead_us / US,
        error_s=clock.error_us / US,
        steps=clock.steps,
        last_step_s=clock.last_step_us / US,
    )


def stored_now_us(status: RecorderStatus | None, now_us: int) -> int:
    """The stored time of this moment: what pictures that come now are filed under."""
    return now_us + (status.clock.ahead_us if status is not None and status.clock is not None else 0)


async def streams(ask: Ask[NoQuery, None]) -> StreamsView:
    """GET /streams."""
    status = ask.context.recorder_status()
    now_us = wall_us()
    recorder = recorder_view(status, now_us)
    known = {stream.name: stream for stream in status.streams} if status else {}

    def collect(snapshot: Snapshot) -> list[StreamView]:
        rows = {row.name: row for row in snapshot.streams()}
        registered = {name for camera in snapshot.cameras() for name in camera.stream_names()}
        recorded = {name for name, row in rows.items() if snapshot.durable_until(row.id)}
        names = sorted(recorded | registered | known.keys())
        return [_view(snapshot, name, rows.get(name), known.get(name), recorder) for name in names]

    now = format_time(stored_now_us(status, now_us))
    return StreamsView(now=now, recorder=recorder, streams=await ask.context.read(collect))


async def stream(ask: Ask[NoQuery, None]) -> StreamView:
    """GET /streams/{id}."""
    status = ask.context.recorder_status()
    recorder = recorder_view(status, wall_us())
    told = next((one for one in status.streams if one.name == ask.id), None) if status else None

    def find(snapshot: Snapshot) -> StreamView | None:
        row = snapshot.stream(ask.id)
        recorded = row is not None and snapshot.durable_until(row.id)
        registered = any(ask.id in camera.stream_names() for camera in snapshot.cameras())
        known = recorded or registered or told is not None
        return _view(snapshot, ask.id, row, told, recorder) if known else None

    view = await ask.context.read(find)
    if view is None:
        raise NotFound(f"no stream {ask.id[:80]!r}; GET /api/v1/streams lists the names", reason="unknown-stream")
    return view


def _view(
    snapshot: Snapshot, name: str, row: StreamRow | None, status: StreamStatus | None, recorder: RecorderView
) -> StreamView:
    camera, _, quality = name.rpartition(".")
    view = StreamView(id=name, camera=camera, quality=quality, state="unknown", reason="recorder-silent")
    if row is not None:
        view.durable_until = moment(snapshot.durable_until(row.id))
        _tell_served(snapshot, row.id, view)
    if status is None:
        if recorder.running and not recorder.silent:  # else a silent worker may have it
            view.state, view.reason = "disabled", "not-recorded"
        return view
    for field in StreamFigures.__struct_fields__:
        setattr(view, field, getattr(status, field))
    if not recorder.running:  # the rates of a recorder that is gone are none
        view.bitrate_bps = view.frame_rate = 0.0
    view.last_frame = moment(status.last_frame_us)
    view.signature = _signature(status.signature)
    if recorder.running:
        view.state, view.reason, view.detail = status.state, status.reason, status.detail
        view.since, view.retry_at = moment(status.since_us), moment(status.retry_at_us)
        if status.clock_offset_us is not None:
            view.clock_offset_ms = status.clock_offset_us / 1000
        view.time_error_ms = status.time_error_us / 1000
    return view


def _signature(seen: CameraSignature | None) -> SignatureView | None:
    """As it is answered; null until the camera was looked at."""
    if seen is None:
        return None
    return SignatureView(
        verdict=seen.verdict,
        reason=seen.reason,
        detail=seen.detail,
        provenance=seen.provenance,
        subject=seen.subject,
        key=seen.key,
        start=moment(seen.start_us),
        end=moment(seen.end_us),
        signed=moment(seen.signed_us),
        stopped=moment(seen.stopped_us),
    )


def _tell_served(snapshot: Snapshot, stream_id: int, view: StreamView) -> None:
    """What is served of the newest chunk, so that a player knows before it plays; nothing when there is none."""
    last = snapshot.last_chunk(stream_id)
    if last is None:
        return
    try:
        served = _served(snapshot.config(stream_id, last.epoch))
    except KeyreelError:  # one stream's damage must not hide the others
        return
    view.mime, view.codecs = served.mime, served.codecs
    view.derived, view.preview = list(served.derived), served.preview


class _Served(NamedTuple):
    mime: str
    codecs: str
    derived: tuple[str, ...]
    preview: str


@lru_cache(maxsize=4096)  # parsing parameter sets for 2,000 streams takes 0.1 s
def _served(config: StreamConfig) -> _Served:
    mime = mime_type(config)
    codecs = mime.partition('"')[2].rstrip('"')
    return _Served(mime, codecs, tuple(derived_tracks(config)), "" if config.video.codec == "h264" else "h264")
