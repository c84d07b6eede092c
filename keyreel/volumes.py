"""The volumes from the command line.

Kept true: a directory becomes a volume only when it is there and empty, or is one of this node's already; the last
volume that takes chunks is not drained; none with footage is let go without being forced; nothing is deleted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from base.config import Config
from base.datadir import DataDir
from base.errors import ConfigError, KeyreelError, NotFound, UserError, VolumeError
from base.status import VolumeFigures
from chunks.volume import Volume
from index import Index
from keyreel.node import check_new, open_node, own_paths
from keyreel.output import bytes_text, print_json, table
from keyreel.show import live_status
from recorder.volumes import draining_volumes

TIME_MAX_US = 1 << 62


def add(data: Path, path: Path, as_json: bool) -> None:
    """Make a directory a volume of this node, or take one of its own back."""
    datadir = DataDir.create(data)
    path = path.absolute()
    known = {where.resolve(): volume_id for volume_id, where in datadir.volumes.items()}
    volume_id = known.get(path.resolve())
    if volume_id is None:
        if not path.is_dir():
            raise VolumeError(f"volume {path} is not a directory; mount the disk or make it", reason="missing")
        volume = Volume.open(path) if check_new(path, datadir.node_id) else Volume.create(path, datadir.node_id)
    else:
        volume = Volume.open(path, volume_id)
    datadir.add_volume(volume.id, path, "record")
    if as_json:
        print_json({"id": volume.id.hex(), "path": str(path), "free_bytes": volume.free_bytes()})
    else:
        print(f"volume {path}: recorded to from now on, {bytes_text(volume.free_bytes())} free")


def show(data: Path, config: Path | None, as_json: bool) -> None:
    """Print the registry, with what the recorder says of each volume."""
    node = open_node(data, config)
    found = reports(node.datadir, node.config)
    if as_json:
        print_json({"volumes": found})
        return
    rows = [
        [
            one["path"], one["state"], bytes_text(one["free_bytes"]), str(one["streams"]), room_text(one), one["id"],
            one["detail"] or one.get("deleting_detail", ""),
        ]
        for one in found
    ]  # fmt: skip
    table(["volume", "state", "free", "streams", "room", "id", "detail"], rows, "there is no volume yet")


def room_text(one: Mapping[str, Any]) -> str:
    """How long a volume's room lasts, for people."""
    left, kept, held = one.get("days_left"), one.get("days_kept"), one.get("days_held")
    if left is None or kept is None:
        return "-"
    text = f"keeps {kept:.1f} days" + (f", {left:.1f} until it is full" if left else "")
    text += f", holds cost {held:.1f}" if held else ""
    if one.get("short_bytes"):
        return f"SHORT of {bytes_text(one['short_bytes'])}, and nothing may go"
    return text + (f", too few for {one['streams_short']} streams" if one.get("streams_short") else "")


def reports(datadir: DataDir, config: Config) -> list[dict[str, Any]]:
    """One entry per known volume."""
    status = live_status(datadir)
    told = {volume.id: volume for volume in status.volumes} if status is not None else {}
    draining = draining_volumes(datadir, config)
    found = []
    for volume_id, path in datadir.volumes.items():
        said = told.get(volume_id.hex())
        entry: dict[str, Any] = {"id": volume_id.hex(), "path": str(path), "takes_chunks": volume_id not in draining}
        if said is not None:
            entry |= {"state": said.state, "reason": said.reason, "detail": said.detail}
            entry |= {"free_bytes": said.free_bytes, "total_bytes": said.total_bytes, "streams": said.streams}
            entry |= {field: getattr(said, field) for field in VolumeFigures.__struct_fields__}
        else:
            entry |= _look(path, volume_id, volume_id in draining)
        found.append(entry)
    return found


def _look(path: Path, volume_id: bytes, draining: bool) -> dict[str, Any]:
    """A volume's state when no recorder tells of it."""
    try:
        volume = Volume.open(path, volume_id)
        sizes = {"free_bytes": volume.free_bytes(), "total_bytes": volume.total_bytes(), "streams": 0}
    except KeyreelError as error:
        sizes = {"free_bytes": 0, "total_bytes": 0, "streams": 0}
        return {"state": "quarantined", "reason": error.reason, "detail": str(error)} | sizes
    return {"state": "draining" if draining else "ok", "reason": "", "detail": ""} | sizes


def drain(data: Path, config: Path | None, name: str, undo: bool, as_json: bool) -> None:
    """Put no new chunks on a volume, or do so again."""
    node = open_node(data, config)
    volume_id, path = _find(node.datadir, name)
    others = node.datadir.volumes.keys() - draining_volumes(node.datadir, node.config) - {volume_id}
    if not undo and not others:
        raise UserError(
            f"volume {path} is the last one that takes chunks; add another with `keyreel volume add` first",
            reason="last-volume",
        )
    node.datadir.set_role(volume_id, "record" if undo else "drain")
    if as_json:
        print_json({"id": volume_id.hex(), "path": str(path), "draining": not undo})
    else:
        print(f"volume {path}: {'takes new chunks again' if undo else 'takes no new chunks; its footage stays'}")


def remove(data: Path, config: Path | None, name: str, force: bool, as_json: bool) -> None:
    """Let a volume go."""
    node = open_node(data, config)
    volume_id, path = _find(node.datadir, name)
    if path.resolve() in {own.resolve() for own in own_paths(node)}:
        where = (
            "the configuration names it; take it out there" if node.config.volumes else "it is the data folder's own"
        )
        raise ConfigError(f"volume {path} cannot be removed: {where}, or drain it")
    if not force:
        if volume_id not in draining_volumes(node.datadir, node.config):
            raise UserError(f"volume {path} takes chunks; drain it with `keyreel volume drain` first", reason="in-use")
        chunks = _chunks_on(node.datadir, volume_id)
        if chunks:
            raise UserError(
                f"volume {path} holds {chunks} chunks, which would not play any more; wait until they have expired, "
                "or add --force",
                reason="in-use",
            )
    node.datadir.forget_volume(volume_id)
    if as_json:
        print_json({"removed": volume_id.hex(), "path": str(path)})
    else:
        print(f"volume {path} is this node's no more; nothing on it was deleted")


def _find(datadir: DataDir, name: str) -> tuple[bytes, Path]:
    """A volume by its id, or by its directory."""
    for volume_id, path in datadir.volumes.items():
        if name == volume_id.hex() or Path(name).resolve() == path.resolve():
            return volume_id, path
    known = ", ".join(str(path) for path in datadir.volumes.values()) or "none yet"
    raise NotFound(f"no volume of this node is {name}; there are: {known}")


def _chunks_on(datadir: DataDir, volume_id: bytes) -> int:
    """How many chunks the index knows on a volume."""
    if not (datadir.index_path / "data.mdb").exists():
        return 0
    with Index.open(datadir.index_path, readonly=True) as index, index.read() as snapshot:
        rows = (row for stream in snapshot.streams() for row in snapshot.chunks(stream.id, 0, TIME_MAX_US))
        return sum(row.volume == volume_id for row in rows)
