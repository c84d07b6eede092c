"""`clip.mp4`, as it was recorded or, with `transcode`, as a preview made while it is sent.

Kept true: previews are bounded in number (`api.previews_max`) and in length, each decodes and encodes in one thread,
and a slow reader holds the encoder back instead of filling memory; a preview is marked as derived and nowhere kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aiohttp import web

from base.errors import KeyreelError, UserError
from base.log import get_logger
from base.units import US, format_time
from clips.preview import preview
from playback import media
from playback.calls import Ask, range_asked
from playback.metrics import METRICS
from playback.problems import Problem
from playback.schema import ClipQuery

_LENGTH_US_MAX: Final = 3600 * US
_LOG: Final = get_logger()


async def clip(ask: Ask[ClipQuery, None]) -> web.StreamResponse:
    """GET and HEAD /streams/{id}/clip.mp4."""
    if ask.query.transcode is None:
        return await (media.clip(ask) if ask.query.format == "mp4" else media.fragmented_clip(ask))
    if (ask.query.format, ask.query.tracks) != ("mp4", "all"):
        raise UserError(
            "a preview has its pictures alone and one form; leave out tracks and format", reason="bad-query"
        )
    start_us, end_us = range_asked(ask.query.start, ask.query.end)
    if end_us - start_us > _LENGTH_US_MAX:
        raise UserError("a preview is an hour at most; ask for less, or for the clip itself", reason="bad-range")
    with ask.context.previews.hold():
        laid, _ = await media.lay_out(ask.context, ask.id, start_us, end_us, "all")
        answer = web.StreamResponse(
            headers={
                "Content-Type": media.MP4,
                "Cache-Control": "no-store",
                "Keyreel-Derived": "video",
                "Keyreel-Start": format_time(laid.file.start_us),
                "Keyreel-End": format_time(laid.file.end_us),
                "Content-Disposition": media.disposition(f"{ask.id}.preview", start_us, end_us, ask.query.download),
            }
        )
        if ask.request.method == "HEAD":
            await answer.prepare(ask.request)
        else:
            await _send(ask, answer, ("preview", laid.lane), preview(laid.file, ask.query.width))
        return answer


async def _send(
    ask: Ask[ClipQuery, None], answer: web.StreamResponse, lane: tuple[str, object], source: Iterator[bytes]
) -> None:
    """Everything the encoder makes; what fails before the first byte is a problem, after it the connection breaks."""
    context, sent = ask.context, ask.request.app[METRICS].media_bytes
    patience = media.Patience(context.stall_s, 1)
    try:
        while True:
            block = await context.workers.run(lane, lambda: next(source, None), threads=context.api.previews_max)
            if block is None:
                break
            if not answer.prepared:
                await answer.prepare(ask.request)
            if block:
                await patience.during(answer.write(block), len(block))
                sent.inc(len(block))
        await answer.write_eof()
    except ConnectionError:
        return  # the client went away
    except (KeyreelError, Problem, OSError) as error:
        if not answer.prepared:
            raise
        _LOG.warning("preview broken off", path=ask.request.path, error=str(error) or type(error).__name__)
        media.break_off(ask.request)
        raise media.BrokenOff from error
