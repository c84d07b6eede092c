from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from base.clock import wall_us
from base.config import ApiConfig
from base.media import AudioConfig, StreamConfig, VideoConfig
from base.status import RecorderStatus, StreamStatus, VolumeStatus, write_status
from base.units import US
from chunks.records import ChunkHead, ChunkOpened, ChunkSealed, ClockState, FragmentStored, Gap, GapCause
from clips.store import ChunkStore
from index import Camera, Index
from playback.app import Server
from playback.context import Context
from tests.support import Recording, audio, video

T0 = 1_772_328_600 * US  # 2026-03-01T01:30:00Z
SPS = bytes.fromhex("6742c01eda0280bfe5c044000003000400000300f03c58ba80")
PPS = bytes.fromhex("68ce3c80")
H264 = StreamConfig(VideoConfig("h264", (), (SPS,), (PPS,)), AudioConfig("pcmu", 8000))


@dataclass
class Node:
    """A node's playback on a real socket."""

    server: Server
    context: Context
    http: aiohttp.ClientSession

    def url(self, path: str) -> str:
        return self.server.url.rstrip("/") + path

    async def get(self, path: str, **options: Any) -> aiohttp.ClientResponse:
        return await self.http.get(self.url(path), **options)

    async def problem(self, method: str, path: str, status: int, **options: Any) -> dict[str, Any]:
        """Make a call that must fail, and check that the answer is a whole problem document."""
        async with self.http.request(method, self.url(path), **options) as answer:
            assert answer.status == status, await answer.text()
            assert answer.content_type == "application/problem+json"
            body: dict[str, Any] = await answer.json()
        assert body["status"] == status
        assert body["type"] == f"urn:keyreel:problem:{body['reason']}"
        assert body["detail"]
        assert body["title"]
        return body


StartNode = Callable[..., Awaitable[Node]]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.open(tmp_path / "index", create=True) as opened:
        yield opened


@pytest.fixture
async def start_node(index: Index, tmp_path: Path) -> AsyncIterator[StartNode]:
    """Starts servers on ports the system chooses; all are stopped at the end."""
    nodes: list[Node] = []

    async def start(
        recording: Recording | None = None, stall_s: float = 60.0, hung_s: float = 20.0, **api: Any
    ) -> Node:
        config = ApiConfig(**{"listen": "127.0.0.1:0", **api})
        used, store = (recording.index, recording.store) if recording else (index, ChunkStore({}))
        context = Context(used, store, tmp_path, config, "0.1.0", stall_s=stall_s, hung_s=hung_s)
        server = Server(context)
        await server.start()
        nodes.append(Node(server, context, aiohttp.ClientSession()))
        return nodes[-1]

    yield start
    for node in nodes:
        await node.http.close()
        await node.server.stop()


@pytest.fixture
async def node(start_node: StartNode) -> Node:
    return await start_node()


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    """`gate.main`: 20 s of H.264 and AAC in two chunks, ten seconds of nothing, 4 s more."""
    made = Recording(tmp_path / "recorded", "gate.main")
    made.add(video(), audio(), start_us=T0, repeat=5, chunk_s=10)
    made.add(video(), audio(), start_us=T0 + 30 * US)
    made.flush()
    yield made
    made.close()


def fill_index(index: Index) -> None:
    """Two streams on paper: `gate.main` with a sealed chunk, a gap and an open one; `hall.main` registered only."""
    with index.write() as transaction:
        transaction.put_camera(Camera(id="gate", main="rtsp://user:secret-word@10.0.0.1/main", note="by the gate"))
        transaction.put_camera(Camera(id="hall", main="rtsp://10.0.0.2/main", sub="rtsp://10.0.0.2/sub"))
        stream_id = transaction.ensure_stream("gate.main").id
        records: list[Any] = []
        for sequence, start_us in ((1, T0), (2, T0 + 60 * US)):
            head = ChunkHead(
                node=b"n" * 16,
                volume=b"v" * 16,
                opening=b"o" * 16,
                stream_id=stream_id,
                stream_name="gate.main",
                sequence=sequence,
                epoch=1,
                run=sequence,
                start_us=start_us,
                monotonic_us=1,
                clock_state=ClockState.SYNCED,
                clock_error_us=0,
                origin_90k=0,
            )
            records.append(ChunkOpened(head, H264, 1000))
            for i in range(10):
                begin_us = start_us + i * 2 * US
                records.append(
                    FragmentStored(
                        stream_id, sequence, i + 1, 1000 + i * 500, 500, begin_us, begin_us + 2 * US, True, 50, 400
                    )
                )
            if sequence == 1:
                records.append(ChunkSealed(stream_id, 1, T0 + 20 * US, 7000, 6000))
                records.append(Gap(stream_id, T0 + 20 * US, T0 + 60 * US, GapCause.OFFLINE))
        transaction.apply(records)


def tell_status(node: Node, age_s: float = 0.0, workers: int = 1, **more: Any) -> None:
    """Write the status file as a recorder would; of several workers only the first speaks."""
    now_us = wall_us() - round(age_s * US)
    streams = [
        StreamStatus(
            name="gate.main", state="recording", codec="h264", audio="pcmu", bitrate_bps=4e6, frame_rate=25.0,
            packets=1000, lost_packets=3, durable_until_us=now_us - US, since_us=now_us - 60 * US, last_frame_us=now_us,
        ),
        StreamStatus(name="hall.main", state="backing-off", reason="unauthorized", detail="the camera refuses us"),
    ]  # fmt: skip
    status = RecorderStatus(
        pid=1, started_us=now_us - 60 * US, updated_us=now_us, version="0.1.0", workers=workers,
        **{"volumes": [VolumeStatus(id="aa", path="/mnt/a", state="ok", written_bytes=500)], "streams": streams} | more,
    )  # fmt: skip
    write_status(node.context.run_path, status)
    node.context._status = (float("-inf"), None)  # it is read anew
