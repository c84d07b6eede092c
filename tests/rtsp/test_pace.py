"""The kernel gathers what a camera sends, and what it gathered is never forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rtsp.message import Message
from rtsp.transport import Connection

ANSWER = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"
EVERY_US = 100_000


class Camera:
    """A connected pair: our `Connection` and the camera's writer."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.lost = asyncio.Event()
        self.connection = Connection(self.messages.append, lambda channel, data: None, self.lost.set)
        self.writer: asyncio.StreamWriter | None = None

    def send(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)

    async def messages_reach(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.messages) < count:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def camera() -> AsyncIterator[Camera]:
    pair = Camera()
    accepted = asyncio.Event()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair.writer = writer
        accepted.set()
        await pair.lost.wait()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    await asyncio.get_running_loop().create_connection(lambda: pair.connection, host, port)
    await accepted.wait()
    try:
        yield pair
    finally:
        pair.connection.abort()
        pair.lost.set()
        server.close()


async def test_bytes_below_the_mark_wait_for_the_next_pace() -> None:
    async with camera() as pair:
        pair.connection.set_low_water(10 * len(ANSWER))
        pair.send(ANSWER)
        await asyncio.sleep(0.1)
        assert pair.messages == []  # the kernel holds them
        pair.connection.pace(1_000_000, EVERY_US)  # nothing came since the last: the camera may have fallen silent
        await pair.messages_reach(1)


async def test_the_mark_is_what_comes_in_one_interval() -> None:
    async with camera() as pair:
        pair.connection.pace(1_000_000, EVERY_US)
        pair.send(ANSWER * 40)
        await pair.messages_reach(40)
        pair.connection.pace(1_400_000, EVERY_US)  # 40 answers in 400 ms are 10 in 100 ms
        pair.send(ANSWER * 9)
        await asyncio.sleep(0.1)
        assert len(pair.messages) == 40
        pair.send(ANSWER)
        await pair.messages_reach(50)


async def test_the_end_brings_what_was_held() -> None:
    async with camera() as pair:
        pair.connection.set_low_water(10 * len(ANSWER))
        pair.send(ANSWER)
        assert pair.writer is not None
        pair.writer.close()
        async with asyncio.timeout(5):
            await pair.lost.wait()
        assert len(pair.messages) == 1


async def test_no_interval_means_no_waiting() -> None:
    async with camera() as pair:
        pair.send(ANSWER * 40)
        await pair.messages_reach(40)
        pair.connection.pace(1_000_000, 0)
        pair.send(ANSWER)
        await pair.messages_reach(41)
