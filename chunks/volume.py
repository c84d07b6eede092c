"""A volume: one directory on one file system, known by its identity file and not by its path.

Kept true: nothing is recorded to a directory whose identity is not the expected one, so a missing mount never fills
the disk below it; the identity file is written once, atomically, and synced.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from base.datadir import replace_synced
from base.errors import ConfigError, FormatError, VolumeError

IDENTITY_NAME: Final = "keyreel-volume.json"
# What may lie in a directory that becomes a volume: a file system's own, and what an interrupted attempt left.
ALLOWED_BEFORE: Final = frozenset({"lost+found", IDENTITY_NAME + ".new"})
VOLUME_FORMAT: Final = 1


class _Identity(msgspec.Struct):
    format: int
    id: str
    node: str


@dataclass(frozen=True, slots=True)
class Volume:
    """An opened volume."""

    id: bytes  # 16
    root: Path
    node: bytes  # 16, the node that made it

    @classmethod
    def create(cls, root: Path, node: bytes) -> Volume:
        """Give a directory an identity; refused where there is one."""
        root.mkdir(parents=True, exist_ok=True)
        identity_path = root / IDENTITY_NAME
        if identity_path.exists():
            raise ConfigError(f"{root} is a volume already; open it, or choose another directory")
        made = os.urandom(16)
        identity = msgspec.json.encode(_Identity(VOLUME_FORMAT, made.hex(), node.hex())) + b"\n"
        replace_synced(identity_path, identity)
        sync_directory(root.parent)
        return cls(made, root, node)

    @classmethod
    def open(cls, root: Path, expected_id: bytes | None = None) -> Volume:
        """The volume at root; VolumeError `missing` when it is not there or is another one."""
        try:
            identity = msgspec.json.decode((root / IDENTITY_NAME).read_bytes(), type=_Identity)
            volume = cls(bytes.fromhex(identity.id), root, bytes.fromhex(identity.node))
        except FileNotFoundError:
            raise VolumeError(f"{root} holds no volume; is its disk mounted?", reason="missing") from None
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise VolumeError(f"{root}: too many files are open; raise the limit", reason="limit") from error
            raise VolumeError(f"{root} cannot be read ({error.strerror}); check its disk", reason="eio") from error
        except (msgspec.DecodeError, ValueError) as error:
            raise FormatError(f"{root / IDENTITY_NAME} is not a volume's identity: {error}") from None
        if identity.format != VOLUME_FORMAT or len(volume.id) != 16 or len(volume.node) != 16:
            raise FormatError(f"{root} is a volume of format {identity.format}; this version knows {VOLUME_FORMAT}")
        if expected_id is not None and volume.id != expected_id:
            raise VolumeError(
                f"{root} is volume {volume.id.hex()}, not {expected_id.hex()}; is the right disk mounted?",
                reason="missing",
            )
        return volume

    def free_bytes(self) -> int:
        """Room left for media."""
        stats = self._statvfs()
        return stats.f_bavail * stats.f_frsize

    def total_bytes(self) -> int:
        """Size of the file system."""
        stats = self._statvfs()
        return stats.f_blocks * stats.f_frsize

    def _statvfs(self) -> os.statvfs_result:
        try:
            return os.statvfs(self.root)
        except OSError as error:
            raise VolumeError(
                f"{self.root} does not answer ({error.strerror}); check its disk", reason="eio"
            ) from error


@contextmanager
def proven(volume: Volume) -> Iterator[Path]:
    """The volume's directory by a handle, after it proved to be the volume: a mount that leaves changes it no more."""
    root = os.open(volume.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = Path(f"/proc/self/fd/{root}")
        Volume.open(path, volume.id)
        yield path
    finally:
        os.close(root)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
