"""Cameras that speak HTTP, as real servers on loopback with the answer that a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def web(answer: Answer) -> AsyncIterator[str]:
    """An HTTP server that gives every request the same answer."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()


def film(data: bytes, kind: str, *, at_once: float = 0.5, piece_s: float = 0.03, hold: bool = True) -> Answer:
    """The first part in one burst, the rest in pieces a little apart, then silence or the end."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode())
        edge = int(len(data) * at_once)
        writer.write(data[:edge])
        step = max((len(data) - edge) // 20, 1)
        for at in range(edge, len(data), step):
            await writer.drain()
            await asyncio.sleep(piece_s)
            writer.write(data[at : at + step])
        await writer.drain()
        if hold:
            await asyncio.Event().wait()

    return answer


def says(status: str, kind: str, body: bytes = b"") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"WWW-Authenticate: Basic realm=x\r\nConnection: close\r\n\r\n" + body)
        await writer.drain()

    return answer


def multipart(jpeg: bytes) -> bytes:
    """What a camera with MJPEG sends, a few seconds of it."""
    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    return (head % len(jpeg) + jpeg + b"\r\n") * 40


MULTIPART = "multipart/x-mixed-replace; boundary=frame"


def jpeg() -> bytes:
    """One picture."""
    import av

    context: Any = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.framerate = 64, 48, "yuvj420p", 5
    return bytes([*context.encode(av.VideoFrame(64, 48, "yuvj420p")), *context.encode(None)][0])
