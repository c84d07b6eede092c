"""POST /cameras/test: calls a camera once, in a process of its own, and tells what it answered.

Kept true: at most `api.camera_tests_max` run at a time, each for the seconds it was given and some for its start; a
password that is registered is used only for the scheme, host and port it is registered with.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Final

import msgspec

from base.errors import NotFound, UserError
from base.log import get_logger, redact
from index import Camera
from playback.calls import Ask, NoQuery
from playback.cameraedit import with_secret
from playback.probe import Order
from playback.problems import Problem
from playback.schema_upkeep import CameraTestBody, CameraTestView

START_S: Final = 10.0  # for the process's start and end, on a busy machine
_LOG: Final = get_logger()


async def test_camera(ask: Ask[NoQuery, CameraTestBody]) -> CameraTestView:
    """POST /cameras/test."""
    if not ask.context.api.camera_tests_max:
        raise Problem(403, "tests-off", "camera tests are turned off; set api.camera_tests_max to allow some")
    order = await _order(ask)
    with ask.context.camera_tests.hold():
        view = await _run(order)
    _LOG.info("camera tested", address=view.address, ok=view.ok, reason=view.reason)
    return view


async def _order(ask: Ask[NoQuery, CameraTestBody]) -> Order:
    body = ask.body
    known: Camera | None = None
    if body.camera is not None:
        name = body.camera
        known = await ask.context.read(lambda snapshot: snapshot.camera(name))
        if known is None:
            raise NotFound(f"no camera {name[:80]!r}; GET /api/v1/cameras lists the ids", reason="unknown-camera")
    registered = (known.main if body.quality == "main" else known.sub) if known is not None else None
    if body.address is None and registered is None:
        raise UserError("name an address, or a camera that has one of this quality", reason="bad-body")
    address = with_secret(body.address, registered) if body.address is not None else registered or ""
    camera = Camera(  # the register's own checks
        id="test",
        main=address,
        transport=body.transport or (known.transport if known is not None else "tcp"),
        allow_basic=_first(body.allow_basic, known.allow_basic if known is not None else False),
        tls_verify=_first(body.tls_verify, known.tls_verify if known is not None else True),
    )
    return Order(
        url=camera.main,
        transport=camera.transport,
        allow_basic=camera.allow_basic,
        tls_verify=camera.tls_verify,
        seconds=body.seconds,
        loopback=ask.context.api.loopback,
    )


def _first(asked: bool | None, otherwise: bool) -> bool:
    return otherwise if asked is None else asked


async def _run(order: Order) -> CameraTestView:
    """The probe's answer; the order goes by its standard input, as arguments can be read by every user."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "playback.probe",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(order.seconds + START_S):
            told, _ = await process.communicate(msgspec.json.encode(order))
        return msgspec.json.decode(told, type=CameraTestView)
    except TimeoutError:
        detail = "the test did not end in time and was ended"
    except msgspec.DecodeError:
        detail = f"the test ended with code {process.returncode} and without an answer; what the camera sent broke it"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return CameraTestView(ok=False, reason="internal", detail=detail, address=redact(order.url))
