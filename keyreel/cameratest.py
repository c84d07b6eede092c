"""Calls a camera once from the command line.

Kept true: no password is printed; the camera is called as the recorder would call it, and nothing is stored.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from base.errors import NotFound
from base.service import EXIT_DONE, EXIT_FAILED
from index import Camera
from keyreel.cameras import open_index
from keyreel.output import print_json, rate_text
from playback.probe import Order, Probe
from playback.schema_upkeep import CameraTestView


def test(
    data: Path,
    target: str,
    quality: str,
    transport: str,
    allow_basic: bool,
    tls_verify: bool,
    seconds: float,
    json: bool,
) -> int:
    """The exit code."""
    if "://" in target:
        camera = Camera(
            id="test",
            main=target,
            transport=transport,  # type: ignore[arg-type]
            allow_basic=allow_basic,
            tls_verify=tls_verify,
        )
        url: str | None = camera.main
    else:
        camera = _registered(data, target)
        url = camera.sub if quality == "sub" else camera.main
    if url is None:
        raise NotFound(f"camera {camera.id} has no {quality} stream; test main", reason="unknown-stream")
    order = Order(
        url=url,
        transport=camera.transport,
        allow_basic=camera.allow_basic,
        tls_verify=camera.tls_verify,
        seconds=seconds,
        loopback=True,
    )
    view = asyncio.run(Probe(order).run())
    if json:
        print_json(msgspec.to_builtins(view))
    else:
        print("\n".join(_lines(view)))
    return EXIT_DONE if view.ok else EXIT_FAILED


def _registered(data: Path, camera_id: str) -> Camera:
    with open_index(data) as index, index.read() as snapshot:
        camera = snapshot.camera(camera_id)
    if camera is None:
        raise NotFound(f"no camera {camera_id[:80]!r}; `keyreel camera list` shows the ids", reason="unknown-camera")
    return camera


def _lines(view: CameraTestView) -> list[str]:
    lines = [f"{view.address}: " + ("pictures come" if view.ok else f"{view.reason}: {view.detail}")]
    if view.answers:
        lines.append("answers      " + ", ".join(f"{one.method} {one.status}" for one in view.answers))
    if view.tracks:
        told = (f"{one.codec}{'' if one.recorded else ' (not recorded)'}" for one in view.tracks)
        lines.append("tracks       " + ", ".join(told))
    if view.width:
        rates = f", {view.frame_rate:g}/s, {rate_text(view.bitrate_bps)}" if view.frames else ""
        lines.append(f"picture      {view.width} x {view.height}, {view.codecs}{rates}")
    if view.key_frame_s is not None:
        every = f", every {view.key_frame_every_s:g} s" if view.key_frame_every_s is not None else ""
        lines.append(f"key frame    after {view.key_frame_s:g} s{every}")
    if view.clock_offset_ms is not None:
        lines.append(f"clock        {view.clock_offset_ms / 1000:+.1f} s against this machine's")
    lines += [f"{name:12} {text}" for name, text in view.told.items()]
    return lines
