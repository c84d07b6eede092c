"""Trick play over a WebSocket: key frames forward or backward at a rate, each announced by a JSON text.

Kept true: pictures are read one at a time, at most a second before they are due, so a viewer costs one picture of
memory; a damaged picture is left out; the socket counts as a live view and closes with a reason in words.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import msgspec
from aiohttp import WSCloseCode, web

from base.errors import DamageError, KeyreelError, UserError
from base.log import redact
from base.media import StreamConfig
from base.units import MEDIA_HZ, format_time
from clips.trick import TrickPlay, step_bytes, trick_init
from index import ChunkRow, Snapshot, StreamRow
from playback.calls import Ask, time_asked
from playback.lanes import lane_of
from playback.live import close_socket, new_socket
from playback.metrics import METRICS
from playback.problems import Problem
from playback.schema import TrickQuery, TrickText
from playback.streams import find_stream

_LEAD_S: Final = 1.0


async def trick(ask: Ask[TrickQuery, None]) -> web.StreamResponse:
    """GET /streams/{id}/trick."""
    at_us, rate = time_asked(ask.query.at, "at"), ask.query.rate
    if not rate:
        raise UserError("rate is 0; frame.jpg gives a single picture", reason="bad-query")
    socket = new_socket(ask.request, "hls/iframes.m3u8")
    row = await ask.context.read(lambda snapshot: find_stream(snapshot, ask.id))
    with ask.context.live.hold():
        await socket.prepare(ask.request)
        play = TrickPlay(row.id, at_us, rate, ask.query.pictures)
        sender = asyncio.create_task(_send(ask, socket, row, play))
        try:
            async for _ in socket:  # ends when the viewer goes
                pass
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
    return socket


async def _send(ask: Ask[TrickQuery, None], socket: web.WebSocketResponse, row: StreamRow, play: TrickPlay) -> None:
    """Pictures until the recording ends or the viewer goes."""
    code, reason = WSCloseCode.OK, "the recording ends here"
    try:
        await _play(ask, socket, row, play)
    except (KeyreelError, Problem) as error:
        code, reason = WSCloseCode.TRY_AGAIN_LATER, redact(str(error))
    except TimeoutError:
        if ask.request.transport is not None:
            ask.request.transport.abort()
        return
    except ConnectionError:
        return
    except Exception:
        code, reason = WSCloseCode.INTERNAL_ERROR, "the server failed; its log says why"
    await close_socket(socket, code, reason)


def _config(chunk: ChunkRow, snapshot: Snapshot) -> StreamConfig:
    return snapshot.config(chunk.stream_id, chunk.epoch)


async def _play(ask: Ask[TrickQuery, None], socket: web.WebSocketResponse, row: StreamRow, play: TrickPlay) -> None:
    context, sent = ask.context, ask.request.app[METRICS].media_bytes
    clock = asyncio.get_running_loop().time
    began_s, epoch = clock(), -1
    while (step := await context.read(play.step)) is not None:
        await asyncio.sleep(max(0.0, step.shown_90k / MEDIA_HZ - _LEAD_S - (clock() - began_s)))
        chunk = step.row
        try:
            data = await context.read_media(lane_of((chunk,)), partial(step_bytes, context.store, row.name, step))
        except DamageError:
            continue
        init, mime = b"", ""
        if chunk.epoch != epoch:
            epoch = chunk.epoch
            init, mime = trick_init(await context.read(partial(_config, chunk)))
        text = TrickText(
            mime=mime,
            init_follows=bool(init),
            wall=format_time(step.key.time_us),
            wall_us=step.key.time_us,
            shown_90k=step.shown_90k,
        )
        async with asyncio.timeout(context.stall_s):
            await socket.send_str(msgspec.json.encode(text).decode())
            if init:
                await socket.send_bytes(init)
            await socket.send_bytes(data)
        sent.inc(len(data))
