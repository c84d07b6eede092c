"""`keyreel signature`: what the camera's own signatures say of a range that was recorded.

Kept true: nothing is changed; the range cannot be deleted while it is read; the node's own trust is not asked, only the
certificates named on the command line are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from base.datadir import DataDir
from base.errors import NotFound, UserError
from base.leases import Leases
from base.units import US, format_time, parse_time
from clips.recorded import Recorded, connection_of
from clips.store import ChunkStore
from evidence.mediasigning import Provenance, StreamReport, Trust, Verdict, verify_stream
from evidence.mediasigning.certificates import Key
from index import ChunkRow
from keyreel.cameras import open_index
from keyreel.output import print_json, progress_bar, table
from keyreel.show import stream_id_of

BEHIND_US: Final = 30 * US  # read past the end: a signature comes after what it signs
WRONG: Final = 5


def judge(data: Path, stream: str, start: str, end: str, trusted: list[Path], as_json: bool) -> int:
    """Print what the camera signed in [start, end); the exit code."""
    start_us, end_us = parse_time(start), parse_time(end)
    if end_us <= start_us:
        raise UserError("the end is not after the start; give an --end later than --start", reason="bad-range")
    trust = Trust.read(trusted)
    report, unreadable = examine(data, stream, start_us, end_us, trust)
    answer = described(report) | {"stream": stream, "unreadable": unreadable}
    if as_json:
        print_json(answer)
    else:
        _print(answer)
    untrusted = bool(trust.anchors) and report.provenance not in (None, Provenance.TRUSTED)
    return WRONG if report.verdict is Verdict.NOT_AUTHENTIC or untrusted else 0


def examine(data: Path, stream: str, start_us: int, end_us: int, trust: Trust) -> tuple[StreamReport, int]:
    """What the camera signed in a range, and how many fragments or chunks of it could not be read."""
    datadir = DataDir.open(data)
    with open_index(data) as index:
        with index.read() as snapshot:
            stream_id = stream_id_of(snapshot, stream)
        lease = Leases(datadir.run_path).take(stream_id, start_us, end_us)
        with index.read() as snapshot:
            rows = snapshot.chunks(stream_id, start_us, end_us + BEHIND_US)
            connected = connection_of(snapshot, rows)
    if not any(row.start_us < end_us for row in rows):
        raise NotFound(f"{stream} has no footage in this range; `keyreel timeline {stream}` says what there is")
    store, report = ChunkStore(datadir.volumes), StreamReport()
    with progress_bar(stream, bytes_counted=True) as progress:
        recorded = Recorded(store, stream, rows, start_us, end_us + BEHIND_US, progress)
        for codec, pictures in recorded.by_codec():
            known = _beginning(store, stream, connected)
            verify_stream(pictures, codec, trust, start_us=start_us, end_us=end_us, known=known, into=report)
    lease.release()
    return report, recorded.lost


def described(report: StreamReport) -> dict[str, Any]:
    """A report as it is told in JSON."""
    return {
        "verdict": report.verdict,
        "provenance": report.provenance,
        "parts": {verdict: count for verdict in Verdict if (count := report.counts[verdict])},
        "ranges": [
            {"start": format_time(one.start_us), "end": format_time(one.end_us), "verdict": one.verdict}
            | {"reason": one.reason, "parts": one.parts, "units": one.units, "provenance": one.provenance}
            for one in report.ranges
        ],
        "findings": [
            {"start": format_time(one.start_us), "end": format_time(one.end_us), "verdict": one.verdict}
            | {"reason": one.reason, "detail": one.detail, "number": one.counter, "units": one.units}
            | {"missing": one.missing, "altered": one.altered, "added": one.added}
            for one in report.findings
        ],
        "keys": [_key(key) for key in report.keys],
        "device": None
        if report.vendor is None
        else {
            "manufacturer": report.vendor.manufacturer,
            "serial": report.vendor.serial,
            "firmware": report.vendor.firmware,
        },
    }


def _key(key: Key) -> dict[str, str]:
    return {
        "subject": key.subject,
        "issuer": key.issuer,
        "valid_from": key.certificates[0].not_valid_before_utc.isoformat(),
        "valid_until": key.certificates[0].not_valid_after_utc.isoformat(),
        "sha256": key.fingerprint,
        "public_key": key.public_pem,
    }


def _print(answer: dict[str, Any]) -> None:
    trusted = f", certificate: {answer['provenance']}" if answer["provenance"] else ""
    print(f"{answer['stream']}: {answer['verdict']}{trusted}")
    device = answer["device"]
    if device:
        print(f"device: {device['manufacturer']} {device['serial']}, firmware {device['firmware']}")
    for key in answer["keys"]:
        print(f"key: {key['subject']}, issued by {key['issuer']}, valid {key['valid_from']} to {key['valid_until']}")
    if answer["unreadable"]:
        print(f"{answer['unreadable']} fragments or chunks could not be read; `keyreel check --deep` says which")
    head = ["start", "end", "verdict", "parts", "reason"]
    rows = [[one["start"], one["end"], one["verdict"], str(one["parts"]), one["reason"]] for one in answer["ranges"]]
    table(head, rows, "no picture lies in this range")
    for one in answer["findings"]:
        print(f"{one['start']} to {one['end']}: {one['verdict']}: {one['detail']}")


def _beginning(store: ChunkStore, stream: str, row: ChunkRow | None) -> Iterator[memoryview]:
    """The samples of a chunk's first fragment."""
    if row is not None:
        for _, pictures in Recorded(store, stream, [row], row.start_us, row.start_us + 1).by_codec():
            yield from (sample for _, sample in pictures)
