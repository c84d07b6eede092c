"""`clip.mp4`: conditional and range requests over a virtual file, streamed from reader threads.

Kept true: one slow or vanished reader costs two blocks of memory and nothing longer than its own connection; bytes are
read in the volume's threads, never on the event loop; an answer whose bytes turn out damaged is broken off, not padded.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from typing import Any, Final, TypeVar

from aiohttp import web

from base.errors import KeyreelError
from base.leases import Lease
from base.log import get_logger
from base.units import format_time, utc
from clips.fragmented import FragmentedClip
from clips.hls import KeyFile
from clips.mp4 import Block, ClipFile
from clips.plan import ClipPlan, plan
from index import Snapshot
from playback.calls import Ask, range_asked
from playback.clipcache import Laid
from playback.context import Context
from playback.lanes import lane_of
from playback.metrics import METRICS
from playback.problems import Problem
from playback.ranges import RangePlan, parse_ranges, plan_ranges, precondition, range_applies
from playback.schema import ClipQuery
from playback.streams import find_stream

T = TypeVar("T")
MP4: Final = "video/mp4"
_FIRST_BYTES: Final = 1 << 14  # read before the first byte leaves
_BLOCK_BYTES: Final = 1 << 20  # handed from a thread to the loop at a time
_LOG: Final = get_logger()


class BrokenOff(ConnectionResetError):
    """We ended the connection, because the body could not be read or was not taken."""


async def clip(ask: Ask[ClipQuery, None]) -> web.StreamResponse:
    """GET and HEAD /streams/{id}/clip.mp4."""
    start_us, end_us = range_asked(ask.query.start, ask.query.end)
    context, key = ask.context, (ask.id, start_us, end_us, ask.query.tracks)
    with context.clips.hold():
        laid = context.laid.get(key)
        if laid is None:
            laid, final = await lay_out(context, ask.id, start_us, end_us, ask.query.tracks)
            if final:
                context.laid.put(key, laid)
        headers = {
            "ETag": laid.file.etag,
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
            **told(ask, laid.file),
        }
        try:
            return await send_file(ask, laid.file, laid.lane, headers)
        except BrokenOff:
            context.laid.drop(key)
            raise


async def fragmented_clip(ask: Ask[ClipQuery, None]) -> web.StreamResponse:
    """GET and HEAD /streams/{id}/clip.mp4?format=fmp4."""
    start_us, end_us = range_asked(ask.query.start, ask.query.end)
    with ask.context.clips.hold():
        made, lane, _, lease = await planned(ask.context, ask.id, start_us, end_us, ask.query.tracks, FragmentedClip)
        headers = {"Content-Type": MP4, "Cache-Control": "no-store", **told(ask, made)}
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(ask.request)
        if ask.request.method != "HEAD":
            await stream_blocks(ask, answer, lane, made.parts())
        lease.release()
        return answer


def told(ask: Ask[ClipQuery, None], made: ClipFile | FragmentedClip) -> dict[str, str]:
    """What the answer's head says of the clip."""
    start_us, end_us = range_asked(ask.query.start, ask.query.end)
    return {
        "Keyreel-Start": format_time(made.start_us),
        "Keyreel-End": format_time(made.end_us),
        "Content-Disposition": disposition(ask.id, start_us, end_us, ask.query.download),
    }


async def lay_out(context: Context, name: str, start_us: int, end_us: int, tracks: str) -> tuple[Laid, bool]:
    """The clip as one file, and whether it is final: nothing before its end is still to come."""
    file, lane, final, lease = await planned(context, name, start_us, end_us, tracks, ClipFile)
    return Laid(file, lane, lease), final


async def planned(
    context: Context, name: str, start_us: int, end_us: int, tracks: str, make: Callable[[ClipPlan], T]
) -> tuple[T, Hashable, bool, Lease]:
    """(what is made of the plan, the lane to read it in, whether it is final, the lease on its chunks)."""

    def look(snapshot: Snapshot) -> tuple[int, Hashable, bool]:
        row = find_stream(snapshot, name)
        lane = lane_of(snapshot.chunks(row.id, start_us, end_us))
        return row.id, lane, snapshot.durable_until(row.id) >= end_us

    stream_id, lane, final = await context.read(look)

    def build() -> tuple[T, Lease]:
        lease = context.leases.take(stream_id, start_us, end_us)  # before the index is asked
        with context.index.read() as snapshot:
            whole = plan(snapshot, context.store, stream_id, start_us, end_us)
        return make(whole if tracks == "all" else whole.only(tracks)), lease

    made, lease = await context.read_media(lane, build)
    return made, lane, final, lease


def disposition(name: str, start_us: int, end_us: int, download: bool) -> str:
    """A file name that tells stream and time (UTC) in characters every file system takes."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    times = "_".join(utc(t).strftime("%Y%m%dT%H%M%SZ") for t in (start_us, end_us))
    return f'{"attachment" if download else "inline"}; filename="{safe}_{times}.mp4"'


async def send_file(
    ask: Ask[Any, None], file: ClipFile | KeyFile, lane: Hashable, headers: dict[str, str]
) -> web.StreamResponse:
    """The answer to one conditional, ranged or plain request for a virtual file."""
    request = ask.request
    asked = request.headers
    outcome = precondition(request.method, asked.get("If-Match"), asked.get("If-None-Match"), file.etag)
    if outcome == 304:
        return web.Response(status=304, headers=headers)
    if outcome == 412:
        raise Problem(412, "changed", "the clip's ETag is another one now; fetch it again without If-Match")
    ranges = None
    if request.method == "GET" and "Range" in asked and range_applies(asked.get("If-Range"), file.etag):
        ranges = parse_ranges(asked["Range"], file.size)
    if ranges is None:
        shape = RangePlan((), MP4, "", b"", file.size)
    else:
        shape = plan_ranges(ranges, file.size, MP4, secrets.token_hex(16))
        if shape.content_range:
            headers["Content-Range"] = shape.content_range
    headers["Content-Type"] = shape.content_type
    answer = web.StreamResponse(status=200 if ranges is None else 206, headers=headers)
    answer.content_length = shape.length
    await answer.prepare(request)
    if request.method != "HEAD":
        await stream_blocks(ask, answer, lane, _blocks(file, shape))
    return answer


def _blocks(file: ClipFile | KeyFile, shape: RangePlan) -> Iterator[Block]:
    """The body's bytes as they come from the file."""
    if not shape.parts:
        yield from file.read(0, file.size)
    for part in shape.parts:
        if part.head:
            yield part.head
        yield from file.read(part.start, part.end)
    if shape.tail:
        yield shape.tail


def _gathered(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """The same blocks in lists, as each costs a change of threads: the first list small, so that it leaves at once."""
    held: list[Block] = []
    size, wanted = 0, _FIRST_BYTES
    for block in blocks:
        held.append(block)
        size += len(block)
        if size >= wanted:
            yield held
            held, size, wanted = [], 0, min(wanted * 4, _BLOCK_BYTES)
    if held:
        yield held


async def stream_blocks(
    ask: Ask[Any, None], answer: web.StreamResponse, lane: Hashable, blocks: Iterable[Block]
) -> None:
    """Send blocks read in `lane`'s threads; the next ones are read while the last ones are sent."""
    context = ask.context
    sent = ask.request.app[METRICS].media_bytes
    source = _gathered(blocks)
    patience = Patience(context.stall_s, context.api.clip_bytes_s_min)
    reading = _next_blocks(context, lane, source)
    try:
        while (held := await reading) is not None:
            reading = _next_blocks(context, lane, source)
            for block in held:
                await patience.during(answer.write(block), len(block))
                sent.inc(len(block))
        await answer.write_eof()
    except ConnectionError:
        return  # the client went away; nobody is left to tell
    except (KeyreelError, Problem, OSError) as error:
        _LOG.warning("clip broken off", path=ask.request.path, error=str(error) or type(error).__name__)
        break_off(ask.request)
        raise BrokenOff from error
    finally:
        if not reading.cancel() and not reading.cancelled():
            reading.exception()  # seen, as nobody awaits it any more


class Patience:
    """How long a reader may keep us waiting: `most_s`, less with every wait, more again with every byte taken."""

    def __init__(self, most_s: float, bytes_s_min: int) -> None:
        self._most_s = self._left_s = most_s
        self._bytes_s_min = bytes_s_min

    async def during(self, taking: Awaitable[None], size: int) -> None:
        """Wait until `size` bytes are taken; TimeoutError from a reader who stays below the least rate."""
        began_s = time.monotonic()
        async with asyncio.timeout(self._left_s):
            await taking
        taken_s = time.monotonic() - began_s
        self._left_s = min(self._left_s - taken_s + size / self._bytes_s_min, self._most_s)


def _next_blocks(context: Context, lane: Hashable, source: Iterator[list[Block]]) -> asyncio.Task[list[Block] | None]:
    return asyncio.ensure_future(context.read_media(lane, lambda: next(source, None)))


def break_off(request: web.Request) -> None:
    """Close the connection hard: the client sees fewer bytes than promised, and knows."""
    if request.transport is not None:
        request.transport.abort()
