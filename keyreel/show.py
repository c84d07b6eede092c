"""`keyreel status` and `keyreel timeline`: what is recorded, read from the index and the recorder's status.

Kept true: these commands change nothing, and work whether the node runs or not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from base.clock import wall_us
from base.datadir import DataDir
from base.errors import NotFound, UserError
from base.status import ClockStatus, OverloadStatus, RecorderStatus, StreamStatus, read_status
from base.units import US, format_time, parse_time
from chunks.scrubreport import REPORT_NAME
from index import Index, Snapshot
from keyreel.cameras import open_index
from keyreel.output import bytes_text, print_json, rate_text, span_text, table

STALE_US: Final = 5 * US  # the recorder writes its status once a second
INDEX_HUNG_S: Final = 3.0  # a commit takes milliseconds
DAY_US: Final = 86_400 * US
CLOCK_WORDS: Final = {
    "not-set": "never set",
    "ahead": "set back",
    "step-not-followed": "stepped ahead too far to be believed; set it right, or raise clock_step_max_s and restart",
    "unsynced": "not synchronised",
    "stepped": "stepped in the last hour",
}
STREAM_HEAD: Final = ["stream", "state", "codec", "span", "bit rate", "lost", "watermark", "detail"]


def live_status(datadir: DataDir) -> RecorderStatus | None:
    """The recorder's last word, if it is alive and has spoken in the last seconds."""
    status = read_status(datadir.run_path) if datadir.locked() else None
    return status if status is not None and abs(wall_us() - status.updated_us) < STALE_US else None


def stream_report(snapshot: Snapshot, name: str, enabled: bool, status: StreamStatus | None) -> dict[str, Any]:
    """One stream's state and counters with what the index holds of it."""
    row = snapshot.stream(name)
    first = None if row is None else snapshot.seek_next(row.id, 0)
    until_us = 0 if row is None else snapshot.durable_until(row.id)
    report: dict[str, Any] = msgspec.to_builtins(status) if status else {"name": name, "state": _idle(enabled)}
    report["recorded_from"] = None if first is None else format_time(first.time_us)
    report["durable_until"] = format_time(until_us) if until_us else None
    report["span_s"] = 0.0 if first is None else max(until_us - first.time_us, 0) / US
    return report


def stream_reports(index: Index, status: RecorderStatus | None) -> list[dict[str, Any]]:
    """All streams: those of registered cameras, and those that only have footage."""
    spoken = {stream.name: stream for stream in status.streams} if status else {}
    with index.read() as snapshot:
        enabled = {name: camera.enabled for camera in snapshot.cameras() for name in camera.stream_names()}
        names = sorted(enabled.keys() | set(recorded_names(snapshot)) | spoken.keys())
        return [stream_report(snapshot, name, enabled.get(name, False), spoken.get(name)) for name in names]


def show_status(data: Path, as_json: bool) -> None:
    """Print the node's state."""
    datadir = DataDir.open(data)
    status = live_status(datadir)
    with open_index(data) as index:
        streams = stream_reports(index, status)
    if as_json:
        recorder = None if status is None else msgspec.to_builtins(status)
        if recorder is not None:
            del recorder["streams"]
        print_json({"node": datadir.node_id.hex(), "recorder": recorder, "streams": streams})
        return
    print(f"recorder: {processes_text(status, silent_since_us(datadir) if status is None else 0)}")
    for line in index_lines(status):
        print(line)
    if status is not None and status.ledger is not None and status.ledger.reason:
        print(f"ledgers: {status.ledger.detail}")
    if status is not None and status.clock is not None and not status.clock.trusted:
        print(f"clock: {clock_text(status.clock)}")
    for volume in status.volumes if status else []:
        why = f" ({volume.reason}): {volume.detail}" if volume.reason else ""
        kept = f", keeps {volume.days_kept:.1f} days" if volume.days_kept is not None else ""
        print(f"volume {volume.path}: {volume.state}, {bytes_text(volume.free_bytes)} free{kept}{why}")
        if volume.short_bytes:
            print(f"volume {volume.path}: short of {bytes_text(volume.short_bytes)}, and nothing on it may go")
        if volume.deleting_paused:
            print(f"volume {volume.path}: deleting pauses: {volume.deleting_detail}")
        if volume.scrub is not None and volume.scrub.known_damage:
            print(f"volume {volume.path}: {volume.scrub.known_damage} damaged fragments, listed in {REPORT_NAME} there")
    for overload in status.overloads if status else []:
        print(overload_line(overload))
    table(STREAM_HEAD, [stream_line(stream) for stream in streams], "no camera is registered and nothing is recorded")


def index_lines(status: RecorderStatus | None) -> list[str]:
    """What the index has yet to take in, when that is worth a word."""
    if status is None:
        return []
    found = []
    if status.index_hung_s >= INDEX_HUNG_S:
        found.append(
            f"index: its disk has not answered for {status.index_hung_s:.0f} s, {status.index_backlog_records} records "
            "wait; recording goes on, check the disk"
        )
    if status.index_behind_chunks:
        found.append(f"index: {status.index_behind_chunks} chunks are behind; they are read again from their files")
    return found


def overload_line(overload: OverloadStatus) -> str:
    """One time of overload in one line."""
    until = f"to {format_time(overload.until_us)}" if overload.until_us else f"lasts, {overload.waiting} streams wait"
    where = f" of {overload.path}" if overload.path else ""
    lost = f"{overload.streams} streams lost {overload.dropped_gops} GOPs" if overload.dropped_gops else ""
    paused = lost or f"{overload.streams} streams paused"
    return f"overload: {overload.cause}{where}, from {format_time(overload.since_us)} {until}; {paused}"


def silent_since_us(datadir: DataDir) -> int:
    """When a recorder last spoke that still has the folder; 0 when none has it."""
    status = read_status(datadir.run_path) if datadir.locked() else None
    return 0 if status is None else status.updated_us


def processes_text(status: RecorderStatus | None, silent_us: int = 0) -> str:
    """The recorder's processes, and those that do not report."""
    if status is None and silent_us:
        return f"has not reported since {format_time(silent_us)}; check the data folder's disk, and the log"
    if status is None:
        return "not running"
    pids = ", ".join(str(one.pid) for one in status.running)
    silent = ", ".join(str(worker) for worker in status.silent)
    return f"process{'es' if len(status.running) > 1 else ''} {pids}" + (f"; silent: worker {silent}" if silent else "")


def clock_text(clock: ClockStatus) -> str:
    """Why the node's clock is not trusted, and how far stored time is from it."""
    apart_s, said = abs(clock.ahead_us) / US, CLOCK_WORDS.get(clock.reason, clock.reason)
    apart = f"; stored time is {apart_s:,.1f} s {'ahead of' if clock.ahead_us > 0 else 'behind'} it"
    return f"{said}{apart if apart_s > 1 else ''}; nothing is deleted by age"


def stream_line(stream: dict[str, Any]) -> list[str]:
    """One stream as the cells of a table: span, bit rate, loss, watermark."""
    until = stream["durable_until"]
    detail = stream.get("detail") or stream.get("reason") or ""
    return [
        stream["name"],
        stream["state"],
        "+".join(part for part in (stream.get("codec", ""), stream.get("audio", "")) if part),
        span_text(round(stream["span_s"] * US)),
        rate_text(stream["bitrate_bps"]) if stream.get("bitrate_bps") else "-",
        str(stream["lost_packets"]) if "lost_packets" in stream else "-",
        until[:23] + "Z" if until else "-",
        detail,
    ]


def show_timeline(
    data: Path, name: str, start: str | None, end: str | None, resolution_s: float, as_json: bool
) -> None:
    """Print spans and gaps of one stream."""
    with open_index(data) as index, index.read() as snapshot:
        stream_id = stream_id_of(snapshot, name)
        end_us = parse_time(end) if end else max(wall_us(), snapshot.durable_until(stream_id))
        start_us = parse_time(start) if start else end_us - DAY_US
        if end_us <= start_us:
            raise UserError("the end is not after the start; give an --end later than --start", reason="bad-range")
        answer = snapshot.timeline(stream_id, start_us, end_us, round(resolution_s * US))
    spans = [{"start": format_time(a), "end": format_time(b)} for a, b in answer.spans]
    gaps = [
        {"start": format_time(gap.start_us), "end": format_time(gap.end_us), "cause": gap.cause.word}
        for gap in answer.gaps
    ]
    until = format_time(answer.durable_until_us) if answer.durable_until_us else None
    if as_json:
        print_json({"stream": name, "spans": spans, "gaps": gaps, "durable_until": until})
        return
    rows = [[span["start"], span["end"], "recorded"] for span in spans]
    rows += [[gap["start"], gap["end"], f"gap: {gap['cause']}"] for gap in gaps]
    table(["start", "end", ""], sorted(rows), "nothing is recorded in this range")


def stream_id_of(snapshot: Snapshot, name: str) -> int:
    """The stream's id, or an error that helps with the name."""
    row = snapshot.stream(name)
    if row is None:
        registered = [stream for camera in snapshot.cameras() for stream in camera.stream_names()]
        known = sorted({*recorded_names(snapshot), *registered})
        near = ", ".join([other for other in known if name.split(".")[0] in other][:5] or known[:5]) or "none yet"
        raise NotFound(f"no stream is called {name!r}; there are: {near}")
    return row.id


def recorded_names(snapshot: Snapshot) -> list[str]:
    """Names of the streams that have footage."""
    return [row.name for row in snapshot.streams() if snapshot.durable_until(row.id)]


def _idle(enabled: bool) -> str:
    return "not-running" if enabled else "disabled"
