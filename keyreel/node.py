"""Opens one node: data folder, configuration, volumes and index, in the order in which refusing is harmless.

Kept true: everything that can be refused is refused before anything is written; a volume that is new to the node must
be right, one that it knows may be away: the recorder reports it, leaves it alone, and takes it back when its identity
file is there again; the index is verified before a program opens it, and made anew when it is gone or damaged.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from base.config import Config, load
from base.datadir import DataDir
from base.errors import ConfigError, FormatError, VolumeError
from base.log import get_logger
from base.status import clear_status
from chunks.volume import ALLOWED_BEFORE, IDENTITY_NAME, Volume
from index.renewal import make_ready, why_not_sound
from index.suspect import tell


@dataclass(frozen=True, slots=True)
class Node:
    """A data folder and the configuration that goes with it."""

    datadir: DataDir
    config: Config


def open_node(
    data: Path,
    config_path: Path | None = None,
    listen: str | None = None,
    *,
    create: bool = False,
    serves: bool = False,
) -> Node:
    """Read configuration and identity: `config_path`, else DATA/keyreel.toml, else the defaults. Writes nothing
    unless `create` is set and the folder is not a data folder yet; `serves` asks first whether the address is free."""
    own = data / "keyreel.toml"
    config = load(config_path or (own if own.exists() else None), listen=listen)
    if serves:
        _check_free(config.api.address, config.api.listen)
    return Node(DataDir.create(data) if create else DataDir.open(data), config)


def _check_free(address: tuple[str, int], listen: str) -> None:
    """Refuse an address that another program listens on, before anything is made or recorded."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {listen}: {os.strerror(error.errno or 0).lower()}; free the port or name another one"
            ) from None


@contextmanager
def recording(node: Node) -> Iterator[int]:
    """Hold the node for recording, with volumes and index ready; yields the lock's descriptor."""
    _verify_volumes(node)
    with node.datadir.lock() as descriptor:
        clear_status(node.datadir.run_path)
        _take_volumes(node)
        prepare_index(node.datadir, verified=True)
        yield descriptor


def known_volumes(datadir: DataDir) -> list[Volume]:
    """Every volume this node has recorded to; one that is not there now is refused with its name."""
    return [Volume.open(path, volume_id) for volume_id, path in datadir.volumes.items()]


def present_volumes(datadir: DataDir) -> list[Volume]:
    """Those that are there now; the others are named in the log."""
    found = []
    for volume_id, path in datadir.volumes.items():
        try:
            found.append(Volume.open(path, volume_id))
        except (VolumeError, FormatError) as error:
            get_logger().error("a volume is left out", volume=str(path), error=str(error))
    return found


def prepare_index(datadir: DataDir, *, verified: bool = False) -> None:
    """Let an index be there: empty on first use, else one that the recorder reads the chunks into.

    Only who holds the lock has it `verified`, as a damaged one is replaced.
    """
    make_ready(datadir.index_path, datadir.node_id, lambda: present_volumes(datadir), verified=verified)


def suspect_index(datadir: DataDir) -> None:
    """A program that reads the index ended: if the index is why, the recorder makes it again."""
    if why := why_not_sound(datadir.index_path):
        tell(datadir.index_path, "met", why)


def own_paths(node: Node) -> list[Path]:
    """Where this node records to: the configured volumes, else the data folder's own."""
    return [Path(volume.path) for volume in node.config.volumes] or [node.datadir.media_path]


def _verify_volumes(node: Node) -> None:
    """Refuse a directory new to this node that is not there or cannot become a volume; reads only."""
    known = {path.resolve() for path in node.datadir.volumes.values()}
    for path in own_paths(node):
        if path.resolve() in known:
            continue
        if not check_new(path, node.datadir.node_id) and node.config.volumes and not path.is_dir():
            raise VolumeError(f"volume {path} is not a directory; mount the disk or make it", reason="missing")


def check_new(path: Path, node_id: bytes) -> bool:
    """Refuse a directory that cannot become a volume of this node; True when it has been one."""
    if (path / IDENTITY_NAME).exists():
        if (owner := Volume.open(path).node) != node_id:
            raise ConfigError(f"volume {path} belongs to another node ({owner.hex()}); name another directory")
        return True
    if path.is_dir() and {entry.name for entry in path.iterdir()} - ALLOWED_BEFORE:
        raise ConfigError(f"volume {path} is not empty and has no {IDENTITY_NAME}; name an empty directory")
    return False


def _take_volumes(node: Node) -> None:
    """Give new volumes their identity, and remember where each of ours is mounted now."""
    known = {path.resolve() for path in node.datadir.volumes.values()}
    for path in own_paths(node):
        if path.resolve() not in known:
            is_ours = (path / IDENTITY_NAME).exists()
            volume = Volume.open(path) if is_ours else Volume.create(path, node.datadir.node_id)
            node.datadir.add_volume(volume.id, path)
