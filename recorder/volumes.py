"""The volumes this node records to.

Kept true: a directory is written to only when its identity file says it is the volume we know there, so an empty mount
point is refused and nothing is ever recorded to the disk underneath; a failed volume takes no new chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from base.config import Config
from base.datadir import DataDir
from base.errors import ConfigError, VolumeError
from chunks.records import StoredRecord
from chunks.volume import Volume
from chunks.writer import VolumeWriter


def open_volumes(datadir: DataDir, config: Config) -> list[Volume]:
    """Open the volumes this node is configured to record to; each must hold the identity the data folder knows."""
    known = {path.resolve(): volume_id for volume_id, path in datadir.volumes.items()}
    paths = [Path(volume.path) for volume in config.volumes] or [datadir.media_path]
    for path in paths:
        if path.resolve() not in known:
            raise ConfigError(
                f"volume {path} is not one of this node's; `keyreel serve` or `keyreel record` makes it one"
            )
    return [Volume.open(path, known[path.resolve()]) for path in paths]


class Volumes:
    """The writers of all volumes, and which of them takes the next chunk."""

    def __init__(
        self,
        volumes: list[Volume],
        config: Config,
        on_commit: Callable[[list[StoredRecord]], None],
        on_failed: Callable[[VolumeWriter, Exception], None],
    ) -> None:
        self.failed: dict[bytes, str] = {}
        self.writers: list[VolumeWriter] = []
        for volume in volumes:
            self.writers.append(self._writer(volume, config, on_commit, on_failed))

    def _writer(
        self,
        volume: Volume,
        config: Config,
        on_commit: Callable[[list[StoredRecord]], None],
        on_failed: Callable[[VolumeWriter, Exception], None],
    ) -> VolumeWriter:
        def failed(error: Exception, _chunks: object) -> None:
            self.failed[volume.id] = str(error)
            on_failed(writer, error)

        writer = VolumeWriter(
            volume,
            on_commit=on_commit,
            on_failure=failed,
            sync_interval_s=config.recorder.sync_interval_ms / 1000,
            queue_bytes_max=config.recorder.queue_bytes_max,
        )
        return writer

    def start(self) -> None:
        """Start one thread per volume."""
        for writer in self.writers:
            writer.start()

    def stop(self) -> None:
        """Drain, sync and commit everything queued; then end the threads."""
        for writer in self.writers:
            writer.stop()

    def pick(self) -> VolumeWriter | None:
        """The working volume with the most free space; None when none works."""
        working = [writer for writer in self.writers if writer.volume.id not in self.failed]
        return max(working, key=free_bytes, default=None)


def free_bytes(writer: VolumeWriter) -> int:
    """Free space of a writer's volume, -1 when it does not answer."""
    try:
        return writer.volume.free_bytes()
    except VolumeError:
        return -1
