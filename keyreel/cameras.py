"""The camera register from the command line.

Kept true: an edit is one transaction, so many cameras are registered all or none; passwords are never printed; the
recorder need not run, and need not be told.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from base import signatures
from base.clock import wall_us
from base.datadir import DataDir
from base.errors import NotFound, UserError
from base.identities import forget
from base.log import redact, setup
from base.units import US, format_time
from index import Camera, Index
from index.cameracsv import BYTES_MAX, read_rows
from keyreel.node import prepare_index
from keyreel.output import print_json, table

WRONG_SHOWN: Final = 20


@contextmanager
def open_index(data: Path, *, write: bool = False) -> Iterator[Index]:
    """The node's index for a short piece of work; to write, the node is made when it is not there yet."""
    datadir = DataDir.create(data) if write else DataDir.open(data)
    if write:
        setup("camera")  # what is logged goes to standard error
        prepare_index(datadir)
    with Index.open(datadir.index_path, readonly=not write) as index:
        yield index


def add(data: Path, cameras: list[Camera], *, replace: bool, as_json: bool) -> None:
    """Register cameras; one that is registered otherwise is refused unless `replace`."""
    refuse_unknown_protocols(cameras)
    changed: list[Camera] = []
    with open_index(data, write=True) as index, index.write() as transaction:
        for camera in cameras:
            known = transaction.camera(camera.id)
            if known is not None:  # a request to record outlives a change of the camera
                camera = msgspec.structs.replace(camera, demanded_until_us=known.demanded_until_us)
            if known == camera:
                continue
            if known is not None and not replace:
                raise UserError(
                    f"camera {camera.id} is registered already, with {redact(known.main)}; "
                    "add --replace to change it, or choose another id",
                    reason="exists",
                )
            transaction.put_camera(camera)
            changed.append(camera)
    if as_json:
        print_json({"cameras": [public(camera) for camera in cameras], "changed": len(changed)})
        return
    for camera in cameras if len(cameras) < 20 else []:
        print(f"camera {camera.id}: {', '.join(camera.stream_names())}{'' if camera.enabled else ' (disabled)'}")
    if len(cameras) >= 20:
        print(f"{len(cameras)} cameras, {len(changed)} of them new or changed")


def main_address(url: str | None, onvif: str | None, user: str, password: str, profile: str, tls_verify: bool) -> str:
    """The main stream's address: as given, or as the ONVIF device says."""
    if (url is None) == (onvif is None):
        raise UserError("name the camera by its address or by --onvif HOST, one of the two")
    if url is not None:
        return url
    from keyreel.onvif import stream_url

    return stream_url(onvif or "", user, password, profile, tls_verify)


def refuse_unknown_protocols(cameras: list[Camera]) -> None:
    """An address whose protocol this installation does not have could never be recorded here."""
    schemes = {url.partition("://")[0] for camera in cameras for url in (camera.main, camera.sub) if url}
    for scheme in sorted(schemes & {"srt", "rtmp", "rtmps"}):
        from sources.live import missing_protocol

        if wrong := missing_protocol(scheme):
            raise UserError(f"{scheme}:// cannot be recorded: {wrong}", reason="unsupported")


def show(data: Path, as_json: bool) -> None:
    """Print the register."""
    with open_index(data) as index, index.read() as snapshot:
        cameras = snapshot.cameras()
    if as_json:
        print_json({"cameras": [public(camera) for camera in cameras]})
        return
    rows = [
        [
            c.id, "yes" if c.enabled else "no", c.schedule or c.record, c.priority, c.transport, redact(c.main),
            redact(c.sub or ""), c.note,
        ]
        for c in cameras
    ]  # fmt: skip
    table(
        ["camera", "enabled", "record", "priority", "transport", "main", "sub", "note"], rows, "no camera is registered"
    )


def ask_recording(data: Path, camera_id: str, seconds: int, as_json: bool) -> None:
    """Record a camera that stands by for `seconds` from now; 0 ends that."""
    until_us = wall_us() + seconds * US if seconds else 0
    with Index.open(DataDir.open(data).index_path) as index, index.write() as transaction:
        camera = transaction.camera(camera_id)
        if camera is None:
            raise NotFound(
                f"no camera {camera_id[:80]!r}; `keyreel camera list` shows the ids", reason="unknown-camera"
            )
        transaction.put_camera(camera.asked(until_us))
    until = format_time(until_us) if seconds else None
    if as_json:
        print_json({"camera": camera_id, "until": until})
    else:
        print(f"camera {camera_id} " + (f"is recorded until {until}" if until else "is asked for no more"))


def accept(data: Path, camera_id: str, as_json: bool) -> None:
    """The device that answers for a camera now is taken for it."""
    datadir = DataDir.open(data)
    with open_index(data) as index, index.read() as snapshot:
        camera = next((one for one in snapshot.cameras() if one.id == camera_id), None)
    if camera is None:
        raise NotFound(f"no camera {camera_id[:80]!r}; `keyreel camera list` shows the ids", reason="unknown-camera")
    known = forget(datadir.path, camera.stream_names())
    signatures.forget(datadir.path, camera.stream_names())
    if as_json:
        print_json({"camera": camera_id, "accepted": known})
    else:
        print(f"camera {camera_id}: " + ("what answers now is taken for it" if known else "no device was known yet"))


def remove(data: Path, camera_id: str, as_json: bool) -> None:
    """Take a camera out of the register."""
    with Index.open(DataDir.open(data).index_path) as index, index.write() as transaction:
        camera = transaction.camera(camera_id)
        transaction.remove_camera(camera_id)
    forget(data, camera.stream_names() if camera is not None else ())
    signatures.forget(data, camera.stream_names() if camera is not None else ())
    if as_json:
        print_json({"removed": camera_id})
    else:
        print(f"camera {camera_id} is no longer recorded; its footage stays")


def public(camera: Camera) -> dict[str, Any]:
    """A camera without its passwords."""
    fields: dict[str, Any] = msgspec.to_builtins(camera)
    fields["main"] = redact(camera.main)
    fields["sub"] = None if camera.sub is None else redact(camera.sub)
    return fields


def read_csv(path: Path) -> list[Camera]:
    """Cameras from a CSV file whose head line names the fields of a camera; every wrong row is told with its line."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise UserError(f"{path} is larger than {BYTES_MAX >> 20} MiB; split it")
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from None
    rows = read_rows(text, str(path))
    if wrong := [f"{path}, line {row.line}: {row.wrong}" for row in rows if row.camera is None]:
        more = [f"and {len(wrong) - WRONG_SHOWN} more"] if len(wrong) > WRONG_SHOWN else []
        raise UserError("\n".join([*wrong[:WRONG_SHOWN], *more]))
    return [row.camera for row in rows if row.camera is not None]
