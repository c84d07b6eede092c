"""The playback program: opens a node's index for reading and serves it until it is told to stop.

Kept true: it writes nothing but the camera register; it starts and ends without the recorder, and the recorder
without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from base.config import Config
from base.datadir import DataDir
from base.errors import ConfigError
from base.history import history_path
from base.log import get_logger
from base.service import stop_event
from clips.store import ChunkStore
from index import Index
from playback.app import Server
from playback.context import Context
from playback.memory import keep_buffers

_LOG = get_logger()


class KnownVolumes(Mapping[bytes, Path]):
    """The node's volumes, read again when one is asked for that was added since."""

    def __init__(self, datadir: DataDir) -> None:
        self._datadir = datadir

    def __getitem__(self, volume_id: bytes) -> Path:
        if volume_id not in self._datadir.volumes:
            self._datadir = DataDir.open(self._datadir.path)
        return self._datadir.volumes[volume_id]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._datadir.volumes)

    def __len__(self) -> int:
        return len(self._datadir.volumes)


class Address(msgspec.Struct):
    """`run/playback.json`: where this process listens, for the command line."""

    pid: int
    url: str


async def run(datadir: DataDir, config: Config) -> None:
    """Serve until the stop event is set."""
    keep_buffers()
    index = Index.open(datadir.index_path)
    try:
        store = ChunkStore(KnownVolumes(datadir), bytes_max=config.api.store_bytes_max)
        context = Context(index, store, datadir.run_path, config.api, _version())
        context.history_path = history_path(datadir.path)
        server = Server(context)
        await server.start()
        try:
            _publish(datadir, server.url)
            await stop_event().wait()
        finally:
            await server.stop()
    finally:
        index.close()


def _publish(datadir: DataDir, url: str) -> None:
    """Tell the address; it describes only this moment, so it is not synced."""
    path = datadir.run_path / "playback.json"
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(exist_ok=True)
        fresh.write_bytes(msgspec.json.encode(Address(os.getpid(), url)))
        os.replace(fresh, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None


def _version() -> str:
    try:
        return version("keyreel")
    except PackageNotFoundError:
        return "0"
