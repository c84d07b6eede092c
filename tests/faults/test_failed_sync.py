"""A sync that failed, on real file systems: what the kernel still has in memory is not what the disk has.

After a failed write the kernel keeps the page as if it were written, and the next sync of that file succeeds. So
nothing is told of such a file any more; and a recovery by another process, which cannot know of the failure, reads the
disk and not the memory.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from base.errors import VolumeError
from chunks.records import StoredRecord
from chunks.volume import Volume
from chunks.writer import VolumeWriter
from index import Index
from index.check import check
from recorder.startup import resume
from tests.chunks.conftest import media  # noqa: F401 (a fixture)
from tests.chunks.media import START_US, Media, build
from tests.faults.device import Disk, FileSystem
from tests.recorder.torn import head_of

pytestmark = [pytest.mark.needs_device, pytest.mark.parametrize("filesystem", ["ext4", "xfs"])]
FIRST_90K = 5_000_000
STREAM = 1


class Writing:
    """One chunk, fragment by fragment."""

    def __init__(self, disk: Disk, source: Media) -> None:
        self.told: list[StoredRecord] = []
        self.failed = threading.Event()
        self.synced = threading.Event()
        self.volume = Volume.create(disk.root / "media", bytes(16))
        self.writer = VolumeWriter(self.volume, on_commit=self._tell, on_failure=self._fail, sync_interval_s=0.02)
        self.writer.start()
        self._fragments = build(source)
        self._chunk = self.writer.open_chunk(head_of(self.volume, STREAM, 1, START_US), source.config)

    @property
    def path(self) -> Path:
        return self._chunk.path

    def _tell(self, records: list[StoredRecord]) -> None:
        self.told += records
        self.synced.set()

    def _fail(self, error: VolumeError, _chunks: object) -> None:
        self.error = error
        self.failed.set()

    def put(self, i: int) -> None:
        """Hand over the i-th fragment."""
        self.synced.clear()
        fragment = self._fragments[i]
        assert self.writer.append(
            self._chunk, fragment,
            start_us=START_US + (fragment.first_dts_90k - FIRST_90K) * 100 // 9,
            end_us=START_US + (fragment.end_dts_90k - FIRST_90K) * 100 // 9,
            video_base_90k=FIRST_90K, audio_base=0,
        )  # fmt: skip


@pytest.fixture
def index(tmp_path: Path) -> Index:
    one = Index.open(tmp_path / "index", create=True)
    with one.write() as transaction:
        assert transaction.ensure_stream("s0.main").id == STREAM
    return one


def test_a_restart_tells_nothing_of_what_never_reached_the_disk(
    disk_of: Callable[[FileSystem], Disk],
    index: Index,
    media: Callable[..., Media],  # noqa: F811
    filesystem: FileSystem,
) -> None:
    """One volume, so nobody wrote it again elsewhere; the disk works again when the next process starts."""
    disk = disk_of(filesystem)
    one = Writing(disk, media())
    one.put(0)
    assert one.synced.wait(30)
    with index.write() as transaction:
        transaction.apply(one.told)
    disk.eio(*disk.where(one.path))
    one.put(1)
    assert one.failed.wait(30)
    assert one.error.reason == "eio"
    assert not one.synced.is_set()
    disk.well()
    with contextlib.suppress(OSError):  # the first sync of the file system tells the next process, and it tries again
        resume(index, [one.volume], complete=True)
    going_on = resume(index, [one.volume], complete=True)
    disk.drop_caches()
    assert check(index, [one.volume], deep=True) == []
    assert going_on[STREAM].end_us > START_US


def test_no_second_sync_of_a_file_whose_first_failed(
    disk_of: Callable[[FileSystem], Disk],
    media: Callable[..., Media],  # noqa: F811
    filesystem: FileSystem,
) -> None:
    """The disk fails for a moment only; the writer does not ask again, and gives back all that it had not told."""
    disk = disk_of(filesystem)
    one = Writing(disk, media())
    one.put(0)
    assert one.synced.wait(30)
    told = list(one.told)
    disk.eio(*disk.where(one.path))
    one.put(1)
    assert one.failed.wait(30)
    disk.well()
    one.put(2)
    one.writer.stop()
    assert one.told == told
    assert [record.number for _, _, record in one.writer.unsynced()] == [2, 3]
