"""A real node: the `keyreel` command as a process, spoken to over HTTP, read back from its chunk files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from chunks.path import parse_chunk_path
from chunks.reader import ChunkFile
from chunks.records import ChunkHead

START_DEADLINE_S = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], Awaitable[Any]], deadline_s: float, what: str) -> Any:
    """Poll `condition` until it gives something true."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        value = await condition()
        if value:
            return value
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within {deadline_s} s: {what}")


class Node:
    """One `keyreel serve` process tree and its data folder."""

    def __init__(self, data: Path, config: str = "") -> None:
        self.data = data
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}/api/v1"
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = data.parent / f"{data.name}.log"
        self._config_path = data.parent / f"{data.name}.toml"
        self._config_path.write_text(config)

    def keyreel(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one keyreel command against this node's data folder."""
        command = [sys.executable, "-m", "keyreel", *words, "--data", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60)

    async def start(self) -> None:
        log = self.log_path.open("ab")
        command = [sys.executable, "-m", "keyreel", "serve", "--data", str(self.data)]
        command += ["--listen", f"127.0.0.1:{self.port}", "--config", str(self._config_path)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        await until(self._ready, START_DEADLINE_S, f"node ready; see {self.log_path}:\n{self.log_tail()}")

    async def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"keyreel serve ended with {self.process.returncode}:\n{self.log_tail()}")
        try:
            async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self.port}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def log_tail(self) -> str:
        return self.log_path.read_text()[-4000:] if self.log_path.exists() else ""

    async def stop(self) -> int:
        """Ctrl-C, and wait for the orderly end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        code = await asyncio.to_thread(self.process.wait, 30)
        self.process = None
        return code

    def kill(self) -> None:
        """kill -9 of every process of the node at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as http, http.get(self.base + path, params=query) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if "json" in answer.headers["Content-Type"] else body

    async def streams(self) -> dict[str, dict[str, Any]]:
        _, body = await self.get("/streams")
        return {stream["id"]: stream for stream in body["streams"]}

    async def recording(self, *names: str, deadline_s: float = 30.0) -> None:
        """Wait until every named stream has something durable."""

        async def all_durable() -> bool:
            streams = await self.streams()
            return all(streams.get(name, {}).get("durable_until") for name in names)

        await until(all_durable, deadline_s, f"{names} durable; {self.log_tail()}")

    def chunks(self, stream: str) -> list[Path]:
        """Chunk files of a stream in order of their sequence."""
        paths = (self.data / "media" / stream).glob("*/*.mp4")
        return sorted(paths, key=lambda path: parse_chunk_path(path).sequence)

    def heads(self, stream: str) -> list[ChunkHead]:
        """What its chunks say of themselves, in order of their sequence."""
        return [ChunkFile(path).head for path in self.chunks(stream)]

    def resumptions(self, stream: str) -> int:
        """Chunks that begin behind an absence; one that begins as its interval's border came does not."""
        return sum(head.gap_start_us > 0 for head in self.heads(stream))

    def samples(self, stream: str) -> list[bytes]:
        """Every stored picture of a stream, in order, each fragment checked."""
        found: list[bytes] = []
        for path in self.chunks(stream):
            found += chunk_samples(path)
        return found


def chunk_samples(path: Path) -> list[bytes]:
    """The pictures of one chunk, in decode order, from verified fragments."""
    found: list[bytes] = []
    chunk = ChunkFile(path)
    try:
        table = chunk.table()
        for i in range(len(table.offset)):
            data = bytes(chunk.read_fragment(i, table))
            at = int(table.video_at[i] - table.offset[i])
            first = int(table.video_first[i])
            for size in table.video_size[first : first + int(table.video_count[i])].tolist():
                found.append(data[at : at + size])
                at += size
    finally:
        chunk.close()
    return found


def nal_units(sample: bytes) -> list[bytes]:
    """Length-prefixed sample → its NAL units."""
    units, at = [], 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + 4], "big")
        units.append(sample[at + 4 : at + 4 + size])
        at += 4 + size
    return units
