"""Changing the camera register over HTTP: some fields of one camera, or many cameras from CSV.

Kept true: one call is one transaction; with one wrong row nothing is registered; a registered password is kept for
the scheme, host and port it was registered with, and never sent elsewhere.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from base.errors import NotFound, UserError
from base.log import get_logger, redact
from index import Camera
from index.cameracsv import Row, is_blotted, judge, read_rows
from playback.calls import Ask, NoQuery, as_json
from playback.cameras import camera_view
from playback.context import WRITE_LANE
from playback.problems import Problem
from playback.schema import CameraView
from playback.schema_upkeep import CameraChange, ImportBody, ImportRow, ImportView

_LOG = get_logger()


def with_secret(address: str, known: str | None) -> str:
    """The address with the password that was blotted out of it, when it goes where that password belongs."""
    if known is not None and address == redact(known):
        return known
    if not is_blotted(address):
        return address
    if known is not None:
        user = known.partition("://")[2].rpartition("@")[0]
        whole = address.replace("***@", f"{user}@", 1)
        if user and not is_blotted(address.replace("***@", "", 1)) and _place(whole) == _place(known):
            return whole
    raise UserError(
        "the address carries *** in place of a password that is registered for another host, port or scheme, or for "
        "none; write the real one",
        reason="bad-camera",
    )


def _place(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        return "", None, None


async def change_camera(ask: Ask[NoQuery, CameraChange]) -> CameraView:
    """PATCH /cameras/{id}."""
    fields = {
        name: value
        for name in CameraChange.__struct_fields__
        if (value := getattr(ask.body, name)) is not msgspec.UNSET
    }

    def write() -> Camera:
        with ask.context.index.write() as transaction:
            known = transaction.camera(ask.id)
            if known is None:
                raise NotFound(f"no camera {ask.id[:80]!r}; GET /api/v1/cameras lists the ids", reason="unknown-camera")
            for name in ("main", "sub"):
                if fields.get(name) is not None:
                    fields[name] = with_secret(fields[name], getattr(known, name))
            camera = msgspec.structs.replace(known, **fields)
            if camera != known:
                transaction.put_camera(camera)
            return camera

    camera = await ask.context.workers.run(WRITE_LANE, write, threads=1)
    _LOG.info("camera changed", camera=camera.id, fields=sorted(fields))
    return camera_view(camera)


async def import_cameras(ask: Ask[NoQuery, ImportBody]) -> web.Response:
    """POST /cameras/import: 200 with what was or would be done; 422 when rows are wrong and it was to be applied."""
    body = ask.body

    def look() -> ImportView:
        rows = read_rows(body.csv)
        with ask.context.index.read() as snapshot:
            judge(rows, {camera.id: camera for camera in snapshot.cameras()}, replace=body.replace)
            return _view(rows, snapshot.register_version())

    def write() -> ImportView:
        rows = read_rows(body.csv)
        with ask.context.index.write() as transaction:
            version = transaction.register_version()
            if body.register not in (None, version):
                raise Problem(
                    409, "changed", "the register was changed meanwhile; look at the import again, then apply"
                )
            judge(rows, {camera.id: camera for camera in transaction.cameras()}, replace=body.replace)
            view = _view(rows, version)
            if not view.refused:
                for row in rows:
                    if row.camera is not None and row.change in ("add", "change"):
                        transaction.put_camera(row.camera)
                view.applied = True
        return view

    view = await ask.context.workers.run(WRITE_LANE, write if body.apply else look, threads=1)
    if view.applied:
        _LOG.info("cameras imported", added=view.added, changed=view.changed, same=view.same)
    return as_json(view, 422 if body.apply and not view.applied else 200)


def _view(rows: list[Row], version: int) -> ImportView:
    counts = {change: sum(row.change == change for row in rows) for change in ("add", "change", "same")}
    return ImportView(
        applied=False,
        register=version,
        added=counts["add"],
        changed=counts["change"],
        same=counts["same"],
        refused=len(rows) - sum(counts.values()),
        rows=[
            ImportRow(line=row.line, id=redact(row.id), change=row.change, fields=row.fields, detail=_detail(row))
            for row in rows
        ],
    )


def _detail(row: Row) -> str:
    """A message has no secret but where an address stands in the column of ids."""
    return redact(row.wrong) if "@" in row.id else row.wrong
