"""`keyreel demo`: four simulated cameras over real RTSP, recorded and served; no camera of one's own is needed.

Kept true: the product runs exactly as under `serve`, and knows nothing of being in a demo; started again it goes on in
the same data folder.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Final

from base.log import setup
from base.service import run_service, stop_event
from index import Camera, Index
from keyreel.node import Node, open_node, recording
from keyreel.output import table
from keyreel.serve import playback_url, programs
from keyreel.show import STREAM_HEAD, live_status, stream_line, stream_reports
from keyreel.supervise import Child, Supervisor, program
from simcam.encode import LoopSpec, is_made, make_loop
from simcam.server import SimcamServer
from simcam.spec import CameraSpec

HOST: Final = "127.0.0.1"
RTSP_PORT: Final = 8554
REPORT_AFTER_S: Final = 10.0

CAMERAS: Final = {
    "gate": LoopSpec(name="gate", width=1280, height=720, profile="high", bitrate_bps=1_500_000, audio="aac"),
    "yard": LoopSpec(name="yard", profile="baseline", gop=15, audio="pcmu"),
    "road": LoopSpec(name="road", codec="h265", width=960, height=540, gop=60, bitrate_bps=800_000),
    "dock": LoopSpec(name="dock", codec="h265", width=320, height=180, fps=10, gop=20, bitrate_bps=200_000),
}


def demo(data: Path, listen: str | None) -> int:
    """Cameras, recorder and playback until Ctrl-C; the exit code."""

    async def run() -> None:
        node = open_node(data, None, listen, create=True, serves=True)
        setup("supervisor", node.config.log)
        with recording(node) as lock:
            if not all(is_made(loop) for loop in CAMERAS.values()):
                print("making the pictures of four simulated cameras (kept for the next start) …", flush=True)
            await asyncio.gather(*(asyncio.to_thread(make_loop, loop) for loop in CAMERAS.values()))
            port = _free_port()
            _register(node, port)
            cameras = asyncio.create_task(Supervisor([program("simcam", HOST, str(port))]).run())
            await _answering(port, cameras)
            children = programs(node, None, listen, lock)
            teller = asyncio.create_task(_tell(node, children[-1]))
            try:
                await Supervisor(children).run()
            finally:
                teller.cancel()
                stop_event().set()
                await cameras
            print("stopped in order; start it again and it goes on", flush=True)

    return run_service(run)


async def serve_cameras(host: str, port: int) -> None:
    """The simulated cameras as a program of their own."""
    specs = [CameraSpec(name, loop, log=False) for name, loop in CAMERAS.items()]
    async with SimcamServer(specs, host=host, port=port):
        await stop_event().wait()


def _free_port() -> int:
    """The usual RTSP port beside 554, or any that is free."""
    for port in (RTSP_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return RTSP_PORT


async def _answering(port: int, cameras: asyncio.Task[None]) -> None:
    """Until the cameras can be called, so that the recorder's first attempt meets them."""
    while not cameras.done():
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


def _register(node: Node, port: int) -> None:
    with Index.open(node.datadir.index_path) as index, index.write() as transaction:
        for name in CAMERAS:
            camera = Camera(id=name, main=f"rtsp://{HOST}:{port}/{name}", note="simulated")
            if transaction.camera(name) != camera:
                transaction.put_camera(camera)


async def _tell(node: Node, playback: Child) -> None:
    """The address first, then what was recorded."""
    url = await playback_url(node.datadir, playback)
    print(f"\n  Keyreel records four cameras into {node.datadir.path}\n  Open {url}   (Ctrl-C stops)\n", flush=True)
    await asyncio.sleep(REPORT_AFTER_S)
    lines = await asyncio.to_thread(_report, node)
    table(STREAM_HEAD, lines, "nothing is recorded yet")
    print(flush=True)


def _report(node: Node) -> list[list[str]]:
    with Index.open(node.datadir.index_path, readonly=True) as index:
        return [stream_line(stream) for stream in stream_reports(index, live_status(node.datadir))]
