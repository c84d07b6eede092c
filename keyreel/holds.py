"""`keyreel hold`: keep ranges from being deleted, see what is held, let go.

Kept true: a hold is told as placed only when it is on stable storage; who placed and who released it stays on record;
the recorder need not run, and need not be told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from base.clock import wall_us
from base.datadir import DataDir
from base.units import format_time, parse_time
from index import Index, Snapshot
from index.holds import Hold, held_bytes, held_ranges, holds, place, release
from keyreel.cameras import open_index
from keyreel.output import bytes_text, print_json, table

_TIMES = ("start", "end", "created", "expires", "review", "released")


def report(hold: Hold, now_us: int) -> dict[str, Any]:
    """A hold as a document."""
    fields: dict[str, Any] = msgspec.to_builtins(hold)
    for name in _TIMES:
        at_us = fields.pop(f"{name}_us")
        fields[name] = format_time(at_us) if at_us else None
    return fields | {"active": hold.active(now_us)}


def kept(snapshot: Snapshot, now_us: int) -> list[dict[str, Any]]:
    """What all holds keep together, by stream and volume; each chunk counts once."""
    found = []
    for name, ranges in sorted(held_ranges(snapshot, now_us).items()):
        row = snapshot.stream(name)
        for volume, (chunks, size) in sorted(held_bytes(snapshot, row.id, ranges).items()) if row else []:
            found.append({"stream": name, "volume": volume.hex(), "chunks": chunks, "bytes": size})
    return found


def add(data: Path, streams: list[str], start: str, end: str, as_json: bool, **more: str) -> None:
    """Place a hold."""
    now_us = wall_us()
    wanted = Hold(
        streams=tuple(streams),
        start_us=parse_time(start),
        end_us=parse_time(end),
        reason=more["reason"],
        case=more["case"],
        owner=more["owner"],
        created_us=now_us,
        expires_us=parse_time(more["expires"]) if more["expires"] else 0,
        review_us=parse_time(more["review"]) if more["review"] else 0,
    )
    with _writing(data) as index, index.write() as transaction:
        placed = place(transaction, wanted)
    gone = [
        {"stream": name, "start": format_time(low), "end": format_time(high)}
        for name, ranges in placed.gone.items()
        for low, high in ranges
    ]
    if as_json:
        print_json(report(placed.hold, now_us) | {"gone": gone})
        return
    print(f"hold {placed.hold.id}: {', '.join(streams)} is kept from {start} to {end}")
    for one in gone:
        print(f"of it, {one['stream']} from {one['start']} to {one['end']} was deleted before")


def show(data: Path, every: bool, as_json: bool) -> None:
    """Print the holds."""
    now_us = wall_us()
    with open_index(data) as index, index.read() as snapshot:
        found = [report(hold, now_us) for hold in holds(snapshot, None if every else now_us)]
        together = kept(snapshot, now_us)
    if as_json:
        print_json({"holds": found, "kept": together})
        return
    rows = [
        [
            str(one["id"]), ", ".join(one["streams"]), one["start"], one["end"], one["owner"], one["case"], _state(one),
            one["reason"],
        ]
        for one in found
    ]  # fmt: skip
    table(["hold", "streams", "start", "end", "owner", "case", "state", "reason"], rows, "nothing is held")
    if together:
        print(f"{bytes_text(sum(one['bytes'] for one in together))} are held")


def let_go(data: Path, number: int, by: str, reason: str, as_json: bool) -> None:
    """Release a hold."""
    now_us = wall_us()
    with _writing(data) as index, index.write() as transaction:
        hold = release(transaction, number, by=by, reason=reason, now_us=now_us)
    if as_json:
        print_json(report(hold, now_us))
    else:
        print(f"hold {number} was released by {by}; what it kept may be deleted from now on, and it stays on record")


def _writing(data: Path) -> Index:
    return Index.open(DataDir.open(data).index_path)


def _state(one: dict[str, Any]) -> str:
    if one["released"]:
        return f"released by {one['released_by']}"
    if not one["active"]:
        return "expired"
    return f"until {one['expires']}" if one["expires"] else "held"
