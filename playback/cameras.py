"""The camera register over HTTP: list, add or replace, remove.

Kept true: the register is written through the index's one write lock and noticed by the recorder; a password goes in
and never comes out.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from base.clock import wall_us
from base.errors import NotFound, UserError
from base.log import get_logger, redact
from base.units import US, format_time
from index import Camera
from index.cameracsv import is_blotted
from playback.calls import Ask, NoQuery, as_json
from playback.context import WRITE_LANE
from playback.schema import CameraBody, CamerasView, CameraView, RecordBody

_LOG = get_logger()


def camera_view(camera: Camera) -> CameraView:
    """A camera without its passwords."""
    return CameraView(
        id=camera.id,
        main=redact(camera.main),
        sub=None if camera.sub is None else redact(camera.sub),
        transport=camera.transport,
        allow_basic=camera.allow_basic,
        tls_verify=camera.tls_verify,
        enabled=camera.enabled,
        note=camera.note,
        record=camera.record,
        schedule=camera.schedule,
        pre_record_s=camera.pre_record_s,
        priority=camera.priority,
        demanded_until=format_time(camera.demanded_until_us) if camera.demanded_until_us > wall_us() else None,
    )


async def cameras(ask: Ask[NoQuery, None]) -> CamerasView:
    """GET /cameras."""
    return CamerasView(await ask.context.read(lambda snapshot: [camera_view(c) for c in snapshot.cameras()]))


async def camera(ask: Ask[NoQuery, None]) -> CameraView:
    """GET /cameras/{id}."""
    found = await ask.context.read(lambda snapshot: snapshot.camera(ask.id))
    if found is None:
        raise _unknown(ask.id)
    return camera_view(found)


async def put_camera(ask: Ask[NoQuery, CameraBody]) -> web.Response:
    """POST /cameras: 201 for a new camera, 200 for a replaced one."""
    body = ask.body
    if is_blotted(body.main) or is_blotted(body.sub or ""):
        raise UserError("the address carries *** in place of a password; write the real one", reason="bad-camera")
    fresh = Camera(
        id=body.id,
        main=body.main,
        sub=body.sub,
        transport=body.transport,
        allow_basic=body.allow_basic,
        tls_verify=body.tls_verify,
        enabled=body.enabled,
        note=body.note,
        record=body.record,
        schedule=body.schedule,
        pre_record_s=body.pre_record_s,
        priority=body.priority,
    )

    def write() -> bool:
        with ask.context.index.write() as transaction:
            known = transaction.camera(fresh.id)
            until_us = known.demanded_until_us if known is not None else 0
            transaction.put_camera(msgspec.structs.replace(fresh, demanded_until_us=until_us))
            return known is not None

    existed = await ask.context.workers.run(WRITE_LANE, write, threads=1)
    _LOG.info("camera replaced" if existed else "camera added", camera=fresh.id)
    headers = {"Location": f"/api/v1/cameras/{fresh.id}"}
    return as_json(camera_view(fresh), 200 if existed else 201, headers)


async def remove_camera(ask: Ask[NoQuery, None]) -> web.Response:
    """DELETE /cameras/{id}: recording stops, footage stays."""

    def write() -> bool:
        with ask.context.index.write() as transaction:
            if transaction.camera(ask.id) is None:
                return False
            transaction.remove_camera(ask.id)
            return True

    if not await ask.context.workers.run(WRITE_LANE, write, threads=1):
        raise _unknown(ask.id)
    _LOG.info("camera removed", camera=ask.id)
    return web.Response(status=204)


async def start_recording(ask: Ask[NoQuery, RecordBody]) -> CameraView:
    """POST /cameras/{id}/record: a camera that stands by is stored, with what is kept from before."""
    return await _request(ask, wall_us() + ask.body.seconds * US)


async def stop_recording(ask: Ask[NoQuery, None]) -> CameraView:
    """DELETE /cameras/{id}/record: the request ends; a schedule goes on."""
    return await _request(ask, 0)


async def _request(ask: Ask[NoQuery, Any], until_us: int) -> CameraView:
    def write() -> Camera:
        with ask.context.index.write() as transaction:
            camera = transaction.camera(ask.id)
            if camera is None:
                raise _unknown(ask.id)
            camera = camera.asked(until_us)
            transaction.put_camera(camera)
            return camera

    camera = await ask.context.workers.run(WRITE_LANE, write, threads=1)
    _LOG.info("recording asked for" if until_us else "recording no longer asked for", camera=ask.id)
    return camera_view(camera)


def _unknown(name: str) -> NotFound:
    return NotFound(f"no camera {name[:80]!r}; GET /api/v1/cameras lists the ids", reason="unknown-camera")
