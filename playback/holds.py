"""Holds over HTTP: place, list, look at, release.

Kept true: a hold is answered for only when it is on stable storage; what of its range was deleted already is said in
the answer; nobody releases without giving a name.
"""

from __future__ import annotations

from aiohttp import web

from base.clock import wall_us
from base.errors import NotFound
from base.log import get_logger
from base.units import format_time
from index import Snapshot
from index.holds import Hold, find, held_bytes, held_ranges, holds, joined, place, release
from playback.calls import Ask, NoQuery, as_json, time_asked
from playback.context import WRITE_LANE
from playback.schema import HoldBody, HoldsQuery, HoldsView, HoldView, KeptView, ReleaseQuery, StreamSpanView
from playback.streams import moment

_LOG = get_logger()


def hold_view(hold: Hold, now_us: int) -> HoldView:
    """A hold as the API tells it; what it keeps is looked up apart."""
    return HoldView(
        id=hold.id,
        streams=list(hold.streams),
        start=format_time(hold.start_us),
        end=format_time(hold.end_us),
        reason=hold.reason,
        case=hold.case,
        owner=hold.owner,
        created=format_time(hold.created_us),
        expires=moment(hold.expires_us),
        review=moment(hold.review_us),
        active=hold.active(now_us),
        released=moment(hold.released_us),
        released_by=hold.released_by,
        release_reason=hold.release_reason,
    )


def _kept(snapshot: Snapshot, ranges: dict[str, list[tuple[int, int]]]) -> list[KeptView]:
    """What disjoint ranges of streams keep, by stream and volume."""
    found = []
    for name, mine in ranges.items():
        row = snapshot.stream(name)
        if row is not None:
            for volume, (chunks, size) in sorted(held_bytes(snapshot, row.id, mine).items()):
                found.append(KeptView(stream=name, volume=volume.hex(), chunks=chunks, bytes=size))
    return found


def _of(hold: Hold) -> dict[str, list[tuple[int, int]]]:
    return {name: joined([(hold.start_us, hold.end_us)]) for name in hold.streams}


async def list_holds(ask: Ask[HoldsQuery, None]) -> HoldsView:
    """GET /holds."""
    now_us = wall_us()

    def collect(snapshot: Snapshot) -> HoldsView:
        found = holds(snapshot, None if ask.query.all else now_us)
        return HoldsView([hold_view(one, now_us) for one in found], _kept(snapshot, held_ranges(snapshot, now_us)))

    return await ask.context.read(collect)


async def one_hold(ask: Ask[NoQuery, None]) -> HoldView:
    """GET /holds/{id}."""

    def collect(snapshot: Snapshot) -> HoldView:
        hold = find(snapshot, _number(ask.id))
        if hold is None:
            raise _unknown(ask.id)
        view = hold_view(hold, wall_us())
        view.kept = _kept(snapshot, _of(hold))
        return view

    return await ask.context.read(collect)


async def place_hold(ask: Ask[NoQuery, HoldBody]) -> web.Response:
    """POST /holds."""
    body, now_us = ask.body, wall_us()
    wanted = Hold(
        streams=tuple(body.streams),
        start_us=time_asked(body.start, "start"),
        end_us=time_asked(body.end, "end"),
        reason=body.reason,
        case=body.case,
        owner=body.owner,
        created_us=now_us,
        expires_us=time_asked(body.expires, "expires") if body.expires else 0,
        review_us=time_asked(body.review, "review") if body.review else 0,
    )

    def write() -> HoldView:
        with ask.context.index.write() as transaction:
            placed = place(transaction, wanted)
            view = hold_view(placed.hold, now_us)
            view.kept = _kept(transaction, _of(placed.hold))
            view.gone = [
                StreamSpanView(name, format_time(start), format_time(end))
                for name, ranges in placed.gone.items()
                for start, end in ranges
            ]
        return view

    view = await ask.context.workers.run(WRITE_LANE, write, threads=1)
    _LOG.info("hold placed", hold=view.id, owner=view.owner, case=view.case, streams=len(view.streams))
    return as_json(view, 201, {"Location": f"/api/v1/holds/{view.id}"})


async def release_hold(ask: Ask[ReleaseQuery, None]) -> HoldView:
    """DELETE /holds/{id}: the hold ends; it stays on record."""
    now_us = wall_us()

    def write() -> Hold:
        with ask.context.index.write() as transaction:
            if find(transaction, _number(ask.id)) is None:
                raise _unknown(ask.id)
            return release(
                transaction, _number(ask.id), by=ask.query.by, reason=ask.query.reason, now_us=now_us
            )  # fmt: skip

    hold = await ask.context.workers.run(WRITE_LANE, write, threads=1)
    _LOG.info("hold released", hold=hold.id, by=hold.released_by)
    return hold_view(hold, now_us)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 11 else -1


def _unknown(name: str) -> NotFound:
    return NotFound(f"no hold {name[:20]!r}; GET /api/v1/holds?all=true lists them", reason="unknown-hold")
