"""What the recorder tells of itself once a second: one JSON file per recorder process, read as one.

Kept true: a file is replaced atomically; a reader never sees half of it, and need not know how many there are; nothing
in them is needed to play video.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Literal

import msgspec

from base.signatures import CameraSignature

StreamState = Literal["connecting", "recording", "waiting", "backing-off", "standby", "disabled", "stopping", "unknown"]
SILENT_US: Final = 5_000_000  # a worker speaks once a second


class StreamFigures(msgspec.Struct, kw_only=True):
    """What a stream is made of and its counters, under the same names wherever a stream is described."""

    codec: str = ""
    audio: str = ""
    width: int = 0
    height: int = 0
    transport: str = ""
    bitrate_bps: float = 0.0
    frame_rate: float = 0.0
    frames: int = 0
    key_frames: int = 0
    media_bytes: int = 0
    packets: int = 0
    lost_packets: int = 0
    reordered_packets: int = 0
    dropped_gops: int = 0
    media_jumps: int = 0  # of the camera's RTP timestamps
    reconnects: int = 0
    stored_bytes: int = 0
    held_bytes: int = 0  # of that, what holds keep
    stored_bytes_s: float = 0.0  # mean of some hours
    days_left: float | None = None  # until footage on its volume has to be deleted to make room
    days_kept: float | None = None  # of footage, when its volume is as full as it may be


class StreamStatus(StreamFigures, omit_defaults=False, kw_only=True):
    """One stream's life: counters run from the recorder's start; rates are over the last few seconds."""

    name: str
    state: StreamState
    reason: str = ""  # short stable word: unauthorized, not-found, unreachable, not-rtsp, codec, stalled, …
    detail: str = ""  # one sentence for people, without secrets
    since_us: int = 0  # when the state was entered
    metadata_packets: int = 0
    retry_at_us: int = 0
    last_frame_us: int = 0
    durable_until_us: int = 0
    clock_offset_us: int | None = None  # camera's clock minus ours, when RTCP told
    time_error_us: int = 0  # bound of stored time's distance to the node's clock
    signature: CameraSignature | None = None  # null until the camera's own signatures were looked at


class ScrubStatus(msgspec.Struct, kw_only=True):
    """Reading sealed chunks again: the turn going on, or else the last one; `damaged` counts fragments."""

    running: bool = False
    detail: str = ""  # why it does not go on, though it should
    started_us: int = 0
    chunks: int = 0
    bytes: int = 0
    damaged: int = 0
    known_damage: int = 0  # fragments and chunks that are gaps now
    findings: int = 0  # what costs no media
    last_ended_us: int = 0
    last_bytes: int = 0
    last_damaged: int = 0


VolumeState = Literal["ok", "suspect", "draining", "quarantined"]
_RECOVERED: Final = ("torn", "sealed", "cut_bytes", "aside", "missed", "failed")
_SEVERITY: Final[tuple[VolumeState, ...]] = ("ok", "draining", "suspect", "quarantined")


class VolumeFigures(msgspec.Struct, kw_only=True):
    """What is stored on a volume, how long there is room, and how deleting goes; named alike wherever it is told."""

    floor_bytes: int = 0  # stays free
    stored_bytes: int = 0  # of footage
    held_bytes: int = 0  # of that, what holds keep
    ingest_bytes_s: float = 0.0  # mean of some hours
    days_left: float | None = None  # until footage has to be deleted to make room
    days_kept: float | None = None  # of footage at this rate, when the volume is as full as it may be
    days_held: float | None = None  # of that, what holds cost
    streams_short: int = 0  # whose guaranteed days do not fit at this rate
    short_bytes: int = 0  # lacking to the floor, and nothing may go
    deleting_paused: str = ""  # short stable word: clock (for age alone), index, volume, free-space, fault
    deleting_detail: str = ""
    condemned_chunks: int = 0
    deleted_chunks: int = 0
    deleted_bytes: int = 0


class VolumeStatus(VolumeFigures, kw_only=True):
    """One volume: ok takes new chunks; suspect does not answer; draining takes no new ones; quarantined failed."""

    id: str
    path: str
    state: VolumeState
    reason: str = ""  # short stable word: missing, eio, enospc, readonly, limit, hung, opening, format
    detail: str = ""  # one sentence for people
    since_us: int = 0  # when the state was entered
    streams: int = 0  # that record to it now
    free_bytes: int = 0
    total_bytes: int = 0
    queue_bytes: int = 0
    written_bytes: int = 0
    syncs: int = 0
    last_sync_ms: float = 0.0
    scarcity: float = 0.0  # where nothing may be deleted: 0 there is room, 1 there is none; streams give way by it
    scrub: ScrubStatus | None = None


class ClockStatus(msgspec.Struct, kw_only=True):
    """The node's clock and stored time: not trusted means that nothing is deleted by age."""

    trusted: bool
    reason: str = ""  # short stable word: not-set, ahead, step-not-followed, unsynced, stepped
    synced: bool | None = None  # the kernel's word; null when it cannot be asked
    ahead_us: int = 0  # stored time minus the node's clock
    error_us: int = 0  # bound of stored time's error, 0 unknown
    steps: int = 0  # seen since the recorder started
    last_step_us: int = 0  # by so much


class LedgerStatus(msgspec.Struct, kw_only=True):
    """The streams' ledgers: what proves what is recorded."""

    reason: str = ""  # short stable word: disk, no-key, key-mode, key-password, key-revoked, off, fault
    detail: str = ""  # one sentence for people
    streams: int = 0
    entries: int = 0  # written since the recorder started, and heads among them
    heads: int = 0
    waiting: int = 0  # entries that wait for the disk
    missed: int = 0  # that were let go of


OverloadCause = Literal["disk", "cpu"]


class OverloadStatus(msgspec.Struct, kw_only=True):
    """One time in which disk or CPU could not keep up."""

    cause: OverloadCause
    volume: str = ""  # id and path of the one that was too slow
    path: str = ""
    since_us: int
    until_us: int = 0  # 0 while it lasts
    streams: int = 0  # that lost something
    waiting: int = 0  # of them, not recorded at this moment
    dropped_gops: int = 0  # of paused cameras nobody knows how many


class IndexStatus(msgspec.Struct, kw_only=True):
    """The index: `whole` when every chunk is in it; else how many of those on the volumes were looked at."""

    whole: bool = True
    read_in: bool = True  # all that lies on volumes that are there
    chunks_done: int = 0
    chunks_total: int = 0
    findings: int = 0  # files that could not be taken in
    renewals: int = 0  # since the recorder started
    made_us: int = 0  # when it was last made again, and why; 0 not since the recorder started
    why: str = ""
    verified_us: int = 0
    reader_lag: int = 0  # commits since the oldest view that somebody still holds: so long the file only grows


class RecoveryStatus(msgspec.Struct, kw_only=True):
    """What an earlier process, or a failure, left on a volume, and what became of it when the volume was taken."""

    volume: str
    path: str
    since_us: int = 0
    done: bool = False  # cutting and sealing go on beside the recording
    torn: int = 0  # chunks that nobody had sealed
    sealed: int = 0
    cut_bytes: int = 0  # of torn tails, kept in side files
    aside: int = 0  # chunks of which nothing counts, kept aside
    missed: int = 0  # chunks that the index lacked
    failed: int = 0  # chunks that could not be sealed, and are left as they are


class WorkerStatus(msgspec.Struct, kw_only=True):
    """One recorder process."""

    worker: int = 0
    pid: int
    started_us: int
    updated_us: int
    loop_lag_ms: float = 0.0  # the longest since the report before
    overload_episodes: int = 0  # since it started; the sum over workers falls when one starts again
    written_bytes: dict[str, int] = {}  # by volume; likewise


class RecorderStatus(WorkerStatus, kw_only=True):
    """What one recorder process tells, or all of a node's laid together.

    In the latter `worker` and `pid` are the first one's that speaks; `running` has all that speak, `silent` the others.
    """

    workers: int = 1  # that share the streams
    version: str
    handshakes: int = 0  # cameras being set up now, and the most at a time since the start
    handshakes_peak: int = 0
    index_commits: int = 0
    index_behind_chunks: int = 0  # chunks that the index will read again from their files
    index_backlog_records: int = 0  # that wait for the index, which nobody waits for
    index_hung_s: float = 0.0  # for so long it has not answered a commit; 0 it does
    reports_dropped: int = 0  # left out as the data folder's disk did not answer the one before
    clock: ClockStatus | None = None
    ledger: LedgerStatus | None = None
    index: IndexStatus = msgspec.field(default_factory=IndexStatus)
    streams: list[StreamStatus] = []
    volumes: list[VolumeStatus] = []
    media_bytes: int = 0  # media in memory, and the bound of it
    media_bytes_max: int = 0
    overloads: list[OverloadStatus] = []  # of now, then those that are over, newest first
    recoveries: list[RecoveryStatus] = []  # the newest of each volume
    running: list[WorkerStatus] = []
    silent: list[int] = []


_LEDGER_COUNTS = ("streams", "entries", "heads", "waiting", "missed")


def status_path(run_path: Path, worker: int) -> Path:
    """Where a worker tells its status."""
    return run_path / f"recorder-{worker}.json"


def status_writer(run_path: Path, status: RecorderStatus) -> Callable[[], None]:
    """Replaces the worker's status file, when it is called, with what is so now; not synced, as it lasts a second."""
    path, word = status_path(run_path, status.worker), msgspec.json.encode(status)

    def write() -> None:
        fresh = path.with_suffix(".new")
        fresh.write_bytes(word)
        os.replace(fresh, path)

    return write


def write_status(run_path: Path, status: RecorderStatus) -> None:
    """Replace it at once."""
    status_writer(run_path, status)()


def clear_status(run_path: Path) -> None:
    """Forget what an earlier life of the recorder told; for who holds the data folder's lock."""
    for path in run_path.glob("recorder*.json"):
        path.unlink(missing_ok=True)


def read_status(run_path: Path) -> RecorderStatus | None:
    """The last word of the node's recorder, all its workers together; None when there is none or it cannot be read."""
    return together(one for path in run_path.glob("recorder-*.json") if (one := _read(path)) is not None)


def _read(path: Path) -> RecorderStatus | None:
    with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
        return msgspec.json.decode(path.read_bytes(), type=RecorderStatus)
    return None


def together(told: Iterable[RecorderStatus]) -> RecorderStatus | None:
    """The workers' words as one. Who last spoke says how many there are; what others of another number said is old."""
    told = sorted(told, key=lambda one: one.worker)
    if not told:
        return None
    newest = max(told, key=lambda one: one.updated_us)
    current = [one for one in told if one.workers == newest.workers]
    speaking = [one for one in current if newest.updated_us - one.updated_us < SILENT_US]
    speakers = {one.worker for one in speaking}
    for one in current:
        if one.worker not in speakers:
            _silence(one)
    return RecorderStatus(
        worker=speaking[0].worker,
        pid=speaking[0].pid,
        started_us=min(one.started_us for one in speaking),
        updated_us=newest.updated_us,
        loop_lag_ms=max(one.loop_lag_ms for one in speaking),
        workers=newest.workers,
        version=newest.version,
        handshakes=sum(one.handshakes for one in speaking),
        handshakes_peak=sum(one.handshakes_peak for one in speaking),
        index_commits=sum(one.index_commits for one in speaking),
        index_behind_chunks=sum(one.index_behind_chunks for one in speaking),
        index_backlog_records=sum(one.index_backlog_records for one in speaking),
        index_hung_s=max(one.index_hung_s for one in speaking),
        reports_dropped=sum(one.reports_dropped for one in speaking),
        clock=min((one.clock for one in speaking if one.clock is not None), key=lambda one: one.trusted, default=None),
        ledger=_ledger([one.ledger for one in speaking if one.ledger is not None]),
        index=speaking[0].index,  # the first worker takes care of it
        streams=[stream for one in current for stream in one.streams],
        media_bytes=sum(one.media_bytes for one in speaking),
        media_bytes_max=sum(one.media_bytes_max for one in speaking),
        overload_episodes=sum(one.overload_episodes for one in speaking),
        overloads=sorted(
            (overload for one in speaking for overload in one.overloads),
            key=lambda overload: (overload.until_us > 0, -overload.since_us),
        ),
        volumes=_volumes(speaking),
        recoveries=_recoveries(speaking),
        running=[_worker(one) for one in speaking],
        silent=[worker for worker in range(newest.workers) if worker not in speakers],
    )


def _ledger(told: list[LedgerStatus]) -> LedgerStatus | None:
    """Of all workers; the first one's trouble."""
    if not told:
        return None
    worst = next((one for one in told if one.reason), told[0])
    counts = {name: sum(getattr(one, name) for one in told) for name in _LEDGER_COUNTS}
    return LedgerStatus(reason=worst.reason, detail=worst.detail, **counts)


def _worker(status: RecorderStatus) -> WorkerStatus:
    return WorkerStatus(
        worker=status.worker,
        pid=status.pid,
        started_us=status.started_us,
        updated_us=status.updated_us,
        loop_lag_ms=status.loop_lag_ms,
        overload_episodes=status.overload_episodes,
        written_bytes={volume.id: volume.written_bytes for volume in status.volumes},
    )


def _silence(status: RecorderStatus) -> None:
    """Of streams whose worker does not speak only the past is known."""
    for stream in status.streams:
        stream.state, stream.reason = "unknown", "recorder-silent"
        stream.detail = f"recorder worker {status.worker} does not report"
        stream.bitrate_bps = stream.frame_rate = 0.0
        stream.retry_at_us = 0


def _volumes(told: Iterable[RecorderStatus]) -> list[VolumeStatus]:
    """Each volume as the worker sees it that fares worst with it, with the sums of all."""
    seen: dict[str, list[VolumeStatus]] = {}
    for status in told:
        for volume in status.volumes:
            seen.setdefault(volume.id, []).append(volume)
    return [_volume(views) for views in seen.values()]


def _recoveries(told: Iterable[RecorderStatus]) -> list[RecoveryStatus]:
    """Each volume's, with what all workers found of their streams."""
    seen: dict[str, RecoveryStatus] = {}
    for one in (one for status in told for one in status.recoveries):
        known = seen.get(one.volume)
        seen[one.volume] = (
            one
            if known is None
            else RecoveryStatus(
                volume=one.volume,
                path=one.path,
                since_us=min(known.since_us, one.since_us),
                done=known.done and one.done,
                **{name: getattr(known, name) + getattr(one, name) for name in _RECOVERED},
            )
        )
    return list(seen.values())


def _volume(views: list[VolumeStatus]) -> VolumeStatus:
    worst = max(views, key=lambda one: _SEVERITY.index(one.state))
    kept = {name: getattr(views[0], name) for name in VolumeFigures.__struct_fields__}  # the first worker deletes
    return msgspec.structs.replace(
        worst,
        **kept,
        streams=sum(one.streams for one in views),
        queue_bytes=sum(one.queue_bytes for one in views),
        written_bytes=sum(one.written_bytes for one in views),
        syncs=sum(one.syncs for one in views),
        last_sync_ms=max(one.last_sync_ms for one in views),
        scarcity=max(one.scarcity for one in views),
        scrub=next((one.scrub for one in views if one.scrub is not None), None),  # the first worker scrubs
    )
