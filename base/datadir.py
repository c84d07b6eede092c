"""The data folder of one node: its identity, its layout and its lock.

    DATA/node.json       {"format": 1, "node": "<32 hex>", "volumes": {"<32 hex>": "<path>"},
                          "roles": {"<32 hex>": "record" or "drain"}}; a volume without a role is the configuration's
    DATA/node.lock       held for a moment by whoever changes node.json
    DATA/keyreel.toml    the configuration, when the operator wrote one
    DATA/index/          the LMDB environment
    DATA/register.json   copy of the camera register, so that the index stays disposable
    DATA/media/          the volume used when none is configured
    DATA/identities.json what each camera said of itself, see base/identities.py
    DATA/camera-signatures.json  what each camera last signed, see base/signatures.py
    DATA/keys/           the node's keys, see evidence/keys.py
    DATA/ledger/         what was recorded, proved, see evidence/ledger.py
    DATA/history.sqlite  figures of the last day, and streams' comings and goings, see base/history.py
    DATA/run/            what describes only this moment: recorder-0.json
    DATA/lock            held by the one process that records into this folder

Kept true: a folder is refused before anything in it is touched; `node.json` is replaced atomically and synced; at most
one process tree holds the lock, and it is the kernel that releases it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from base.errors import ConfigError, FormatError

FORMAT_VERSION: Final = 1
Role = Literal["record", "drain"]
# May lie in a folder that becomes a data folder; the last when an earlier start was interrupted.
_ALLOWED_BEFORE: Final = frozenset({"keyreel.toml", "lost+found", "node.json.new"})


class _Node(msgspec.Struct, forbid_unknown_fields=False):
    format: int
    node: str
    volumes: dict[str, str] = {}
    roles: dict[str, Literal["record", "drain"]] = {}


class DataDir:
    """An existing data folder; `open` or `create` make one of these, and neither of them takes the lock."""

    def __init__(self, path: Path, node: _Node) -> None:
        self.path = path
        self._node = node
        self.node_id: bytes = bytes.fromhex(node.node)
        self.index_path = path / "index"
        self.register_path = path / "register.json"
        self.media_path = path / "media"
        self.run_path = path / "run"
        self.keys_path = path / "keys"
        self.ledger_path = path / "ledger"
        self.lock_path = path / "lock"
        self.config_path = path / "keyreel.toml"

    @classmethod
    def open(cls, path: Path | str) -> DataDir:
        """Read the folder's identity; refuses a folder that is not one, or is of a newer format."""
        path = Path(path).absolute()
        try:
            raw = (path / "node.json").read_bytes()
        except FileNotFoundError:
            raise ConfigError(
                f"{path} is not a Keyreel data folder (it has no node.json); `keyreel serve --data {path}` makes one"
            ) from None
        except OSError as error:
            raise ConfigError(f"{path}/node.json cannot be read: {error}") from None
        return cls(path, _decode(raw, path))

    @classmethod
    def create(cls, path: Path | str) -> DataDir:
        """Make an empty or absent directory a data folder with a new node id; an existing data folder is opened."""
        path = Path(path).absolute()
        if (path / "node.json").exists():
            return cls.open(path)
        try:
            if path.exists() and {entry.name for entry in path.iterdir()} - _ALLOWED_BEFORE:
                raise ConfigError(f"{path} is not empty and not a Keyreel data folder; name an empty directory")
            path.mkdir(parents=True, exist_ok=True)
            node = _Node(format=FORMAT_VERSION, node=secrets.token_hex(16))
            replace_synced(path / "node.json", msgspec.json.format(msgspec.json.encode(node)))
        except OSError as error:
            raise ConfigError(f"data folder {path} cannot be made: {error}") from None
        return cls(path, node)

    @property
    def volumes(self) -> Mapping[bytes, Path]:
        """The volumes that this node has ever recorded to: identity → directory."""
        return {bytes.fromhex(key): self.path / value for key, value in self._node.volumes.items()}

    @property
    def roles(self) -> Mapping[bytes, Role]:
        """What the operator wants of volumes that he added or drains."""
        return {bytes.fromhex(key): value for key, value in self._node.roles.items()}

    def add_volume(self, volume_id: bytes, path: Path, role: Role | None = None) -> None:
        """Remember a volume, or where it is mounted now, and what it is for."""
        inside = path.absolute()
        name = str(inside.relative_to(self.path)) if inside.is_relative_to(self.path) else str(inside)
        with self._changing() as node:
            node.volumes[volume_id.hex()] = name
            if role is not None:
                node.roles[volume_id.hex()] = role

    def set_role(self, volume_id: bytes, role: Role | None) -> None:
        """Say what a known volume is for; None leaves that to the configuration."""
        with self._changing() as node:
            if role is None:
                node.roles.pop(volume_id.hex(), None)
            else:
                node.roles[volume_id.hex()] = role

    def forget_volume(self, volume_id: bytes) -> None:
        """The volume is this node's no more; what is on it stays."""
        with self._changing() as node:
            node.volumes.pop(volume_id.hex(), None)
            node.roles.pop(volume_id.hex(), None)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_Node]:
        """node.json as it is now, replaced at the end when it was changed; one process at a time."""
        descriptor = os.open(self.path / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            before = (self.path / "node.json").read_bytes()
            self._node = _decode(before, self.path)
            yield self._node
            after = msgspec.json.format(msgspec.json.encode(self._node))
            if after != before:
                replace_synced(self.path / "node.json", after)
        except OSError as error:
            raise ConfigError(f"{self.path}/node.json cannot be changed: {error}") from None
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def lock(self, *, wait_s: float = 10.0) -> Iterator[int]:
        """Hold the folder for recording; yields the locked descriptor, which a child may inherit to hold it too.

        A living holder is refused at once. A dead one's children may need a moment to be gone, so those are waited for.
        """
        descriptor = _take(self.lock_path, wait_s)
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self.run_path.mkdir(exist_ok=True)
            yield descriptor
        finally:
            os.close(descriptor)

    def locked(self) -> bool:
        """True while some process records into this folder."""
        try:
            descriptor = os.open(self.lock_path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)


def replace_synced(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a small file so that after a power cut it is the old one or the new one, whole."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(fresh, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _decode(raw: bytes, path: Path) -> _Node:
    try:
        node = msgspec.json.decode(raw, type=_Node)
        if node.format == FORMAT_VERSION and len(bytes.fromhex(node.node)) != 16:
            raise ValueError("node is not 32 hexadecimal digits")
        for key in (*node.volumes, *node.roles):
            bytes.fromhex(key)
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"{path}/node.json is damaged: {error}; restore it from a backup") from None
    if node.format != FORMAT_VERSION:
        raise FormatError(
            f"{path} has data folder format {node.format}, this version knows format {FORMAT_VERSION}; "
            "nothing was changed; use the Keyreel version that wrote it, or a newer one"
        )
    return node


def _take(path: Path, wait_s: float) -> int:
    """An exclusively locked descriptor of `path`, or `ConfigError` that names the holder."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"lock {path} cannot be opened: {error}") from None
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            if _alive(holder) or time.monotonic() > deadline:
                os.close(descriptor)
                raise ConfigError(
                    f"{path.parent} is already served by process {holder or 'unknown'}; "
                    "stop that one first, or name another data folder"
                ) from None
            time.sleep(0.02)


def _alive(holder: str) -> bool:
    try:
        os.kill(int(holder), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
