"""The live view's WebSocket: a JSON text, an init segment, fragments; again a text when the configuration changes.

Kept true: the text that announces an init segment comes right before it; a viewer who takes nothing is cut off; the
socket closes with a reason in words.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from aiohttp import WSCloseCode, web

from base.errors import KeyreelError
from base.log import redact
from base.units import format_time
from clips.live import LivePart
from playback.calls import Ask, NoQuery
from playback.follow import Followers, Viewer
from playback.metrics import METRICS
from playback.problems import Problem
from playback.schema import LiveText
from playback.streams import find_stream

FOLLOWERS: Final = web.AppKey("followers", Followers)
_HEARTBEAT_S: Final = 20.0
_MESSAGE_BYTES_MAX: Final = 4096  # viewers have nothing to say
_REASON_BYTES_MAX: Final = 120  # RFC 6455 §5.5 leaves 123


def new_socket(request: web.Request, instead: str) -> web.WebSocketResponse:
    """A socket for this request; 426 that names another call when it is no WebSocket's."""
    socket = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=_MESSAGE_BYTES_MAX, compress=False)
    if not socket.can_prepare(request).ok:
        raise Problem(
            426,
            "upgrade",
            f"this call is a WebSocket; open it with ws:// or wss://, or use {instead}",
            headers={"Upgrade": "websocket"},
        )
    return socket


async def live(ask: Ask[NoQuery, None]) -> web.StreamResponse:
    """GET /streams/{id}/live."""
    context, request = ask.context, ask.request
    socket = new_socket(request, "hls/live.m3u8")
    row = await context.read(lambda snapshot: find_stream(snapshot, ask.id))
    with context.live.hold(), request.app[FOLLOWERS].view(row.id) as viewer:
        await socket.prepare(request)
        sender = asyncio.create_task(_send(ask, socket, viewer))
        try:
            async for _ in socket:  # ends when the viewer goes
                pass
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
    return socket


async def _send(ask: Ask[NoQuery, None], socket: web.WebSocketResponse, viewer: Viewer) -> None:
    """Everything the viewer is offered, until it ends."""
    sent = ask.request.app[METRICS].media_bytes
    code, reason = WSCloseCode.GOING_AWAY, "the server is stopping"
    try:
        while True:
            part = await viewer.take()
            async with asyncio.timeout(ask.context.stall_s):
                if part.is_init or viewer.skipped:
                    await socket.send_str(_announcement(part, viewer))
                await socket.send_bytes(part.data)
            sent.inc(len(part.data))
    except EOFError:
        pass
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


async def close_socket(socket: web.WebSocketResponse, code: int, reason: str) -> None:
    """Close with a reason in words, as many as fit."""
    message = reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore").encode()
    await socket.close(code=code, message=message, drain=False)


def _announcement(part: LivePart, viewer: Viewer) -> str:
    """The text before a part: what it is, and what was left out before it."""
    skipped, viewer.skipped = viewer.skipped, 0
    text = LiveText(
        mime=part.mime,
        init_follows=part.is_init,
        wall=format_time(part.wall_us),
        wall_us=part.wall_us,
        media_90k=part.media_90k,
        skipped=skipped,
        derived=list(part.derived),
    )
    return msgspec.json.encode(text).decode()
