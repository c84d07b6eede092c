"""The index falls behind, by a disk that hangs or is full: nobody waits for it, and it reads again what it missed."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from base.errors import VolumeError
from index.check import check
from recorder import committer as committer_module
from recorder.takein import TakeIn
from tests.recorder.test_pipeline import TIMELINE, Bench


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def _pictures(bench: Bench) -> int:
    """As the index knows them, when it and the files agree."""
    bench.close()
    assert check(bench.index, [bench.volume], deep=True) == []
    with bench.index.read() as snapshot:
        rows = snapshot.chunks(bench.stream.id, *TIMELINE)
        assert len(snapshot.key_frames(bench.stream.id, *TIMELINE)) == sum(row.samples for row in rows) / 10
    return sum(row.samples for row in rows)


async def test_a_hung_index_is_waited_for_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "BACKLOG_RECORDS_MAX", 4)
    bench = Bench(tmp_path, chunk_s=10)
    bench.begin()
    await bench.play(5)
    await _until(lambda: not bench.writer.queue_bytes)
    with bench.index.write():  # as long as this lasts, the writing thread hangs
        await bench.play(25)
        await _until(lambda: not bench.writer.queue_bytes)
        jobs = [bench.committer.call(lambda _: 1) for _ in range(committer_module.JOBS_MAX + 10)]
        refused = [job for job in jobs if job.done() and isinstance(job.exception(), VolumeError)]
        assert len(refused) >= 9
        assert bench.committer.behind
        await bench.play(5)
    await bench.play(5)
    await _until(lambda: not bench.committer.behind)
    bench.end()
    await _until(lambda: not bench.writer.queue_bytes)
    await _until(lambda: not bench.committer.behind)
    assert _pictures(bench) == 400
    bench.index.close()


async def test_more_chunks_than_are_remembered_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hung index costs in memory is bounded; beyond it the index says that it lacks chunks."""
    monkeypatch.setattr(committer_module, "BACKLOG_RECORDS_MAX", 4)
    monkeypatch.setattr(committer_module, "BEHIND_CHUNKS_MAX", 2)
    bench = Bench(tmp_path, chunk_s=10)
    bench.begin()
    await bench.play(5)
    await _until(lambda: not bench.writer.queue_bytes)
    with bench.index.write():
        await bench.play(55)
        await _until(lambda: not bench.writer.queue_bytes)
        assert bench.committer.behind == 2
        assert bench.committer.backlog_records <= 4
        assert bench.committer.hung_s > 0
    await _until(lambda: not bench.committer.behind)
    bench.end()
    await _until(lambda: not bench.writer.queue_bytes and not bench.committer.behind)
    with bench.index.read() as snapshot:
        assert not snapshot.is_read_in()
        known = len(snapshot.chunks(bench.stream.id, *TIMELINE))
    files = sum(1 for _ in bench.volume.root.rglob("*.mp4"))
    assert known < files
    taking = TakeIn(bench.index, bench.committer, lambda: False)
    assert taking.run([bench.volume])
    assert _pictures(bench) == bench.at
    bench.index.close()


@pytest.mark.needs_mount
async def test_a_full_index_disk_costs_no_picture(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "keyreel-test", folder], check=True)
    try:
        bench = Bench(tmp_path, chunk_s=10)
        bench.begin()
        await bench.play(5)
        await _until(lambda: not bench.writer.queue_bytes)
        with contextlib.suppress(OSError), (folder / "other").open("wb", buffering=0) as other:
            while other.write(bytes(1 << 10)):
                pass
        while not bench.committer.behind:
            await bench.play(5)
            await _until(lambda: not bench.writer.queue_bytes)
        await bench.play(25)
        (folder / "other").unlink()
        await _until(lambda: not bench.committer.behind)
        await bench.play(5)
        bench.end()
        await _until(lambda: not bench.writer.queue_bytes)
        await _until(lambda: not bench.committer.behind)
        assert _pictures(bench) == bench.at
        bench.index.close()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
