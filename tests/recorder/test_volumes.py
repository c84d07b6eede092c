"""Which volume takes a stream's next chunk: real slots and writers, with free bytes and syncs as a test says."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from base.config import Config
from base.errors import VolumeError
from chunks.volume import Volume
from chunks.writer import VolumeWriter
from recorder.volumes import MOVE_FACTOR, Volumes

NODE = b"n" * 16
GB = 1_000_000_000


class Rig:
    """Volumes whose watch does not run, so that what is set stays."""

    def __init__(self, folder: Path, free_gb: dict[str, float]) -> None:
        self.writers: dict[str, VolumeWriter] = {}
        made = {name: Volume.create(folder / name, NODE) for name in free_gb}
        self.volumes = Volumes(
            {volume.id: volume.root for volume in made.values()},
            frozenset(),
            Config(),
            on_commit=lambda _: None,
            on_failed=lambda *_: None,
            settle=lambda *_: None,
        )
        for name, volume in made.items():
            slot = self.volumes.slots[volume.id]
            slot.writer = self.writers[name] = VolumeWriter(
                volume, on_commit=lambda _: None, on_failure=lambda *_: None
            )
            slot.reason = ""
            self.set_free(name, free_gb[name])
            slot.writer.start()

    def slot(self, name: str):  # type: ignore[no-untyped-def]
        return self.volumes.slots[self.writers[name].volume.id]

    def set_free(self, name: str, free_gb: float) -> None:
        self.slot(name).free_bytes = round(free_gb * GB)

    def pick(self, current: str | None = None) -> str | None:
        found = self.volumes.pick(self.writers[current] if current else None)
        return next((name for name, writer in self.writers.items() if writer is found), None)

    def close(self) -> None:
        for writer in self.writers.values():
            writer.stop()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[type[Rig]]:
    made: list[Rig] = []

    def build(**free_gb: float) -> Rig:
        made.append(Rig(tmp_path, free_gb))
        return made[-1]

    yield build  # type: ignore[misc]
    for one in made:
        one.close()


def test_streams_are_spread_by_free_space(make) -> None:  # type: ignore[no-untyped-def]
    """Three times the room takes three times the streams."""
    one = make(small=100, large=300)
    assert Counter(one.pick() for _ in range(40)) == {"small": 10, "large": 30}


def test_equal_volumes_share_alike(make) -> None:  # type: ignore[no-untyped-def]
    one = make(a=100, b=100, c=100)
    assert Counter(one.pick() for _ in range(30)) == {"a": 10, "b": 10, "c": 10}


def test_a_stream_stays_while_no_other_volume_is_much_better(make) -> None:  # type: ignore[no-untyped-def]
    """Of two that each have one stream; the one that asks leaves its own place, and needs one on the other."""
    one = make(here=100, there=100)
    assert {one.pick(), one.pick()} == {"here", "there"}
    one.set_free("there", 100 * 2 * MOVE_FACTOR - 1)
    assert one.pick("here") == "here"
    one.set_free("there", 100 * 2 * MOVE_FACTOR + 1)
    assert one.pick("here") == "there"
    assert [one.volumes.streams(one.slot(name)) for name in ("here", "there")] == [0, 2]


def test_slow_syncs_count_against_a_volume(make) -> None:  # type: ignore[no-untyped-def]
    one = make(slow=300, fast=100)
    one.writers["slow"].last_sync_s = 0.4
    assert one.pick() == "slow", "no slower than a sync may be"
    one.volumes.count_streams([])
    one.writers["slow"].last_sync_s = 2.0  # a quarter of 300 is less than 100
    assert one.pick() == "fast"


def test_a_write_that_hangs_is_slow_before_it_is_over(make) -> None:  # type: ignore[no-untyped-def]
    one = make(stuck=300, fast=100)
    one.writers["stuck"].busy_since_s = time.monotonic() - 2.5
    assert one.pick() == "fast"
    one.writers["stuck"].busy_since_s = 0.0
    assert one.pick() == "stuck"


def test_what_waits_for_a_disk_counts_against_it(make) -> None:  # type: ignore[no-untyped-def]
    one = make(busy=300, idle=100)
    one.writers["busy"]._queued = round(0.8 * one.writers["busy"].queue_bytes_max)
    assert one.pick() == "idle"
    one.writers["busy"]._queued = 0


def test_who_takes_no_chunks_is_not_picked(make) -> None:  # type: ignore[no-untyped-def]
    one = make(a=300, b=200, c=100)
    one.slot("a").draining = True
    assert one.pick() == "b"
    one.slot("b").reason = "enospc"
    assert one.pick() == "c"
    one.writers["c"].error = VolumeError("for a test", reason="eio")
    assert one.pick() is None
    assert one.pick("c") == "c", "until what it had not made durable was asked for"
    one.writers["c"].given = True
    assert one.pick("c") is None
    one.slot("b").reason = ""
    assert one.pick("c") == "b"
    one.writers["c"].error = None


def test_a_full_volume_takes_nothing_and_can_be_read(make) -> None:  # type: ignore[no-untyped-def]
    one = make(full=100, dead=100, well=100)
    one.slot("full").reason, one.slot("dead").reason = "enospc", "eio"

    def names(volumes: list[Volume]) -> set[str]:
        return {volume.root.name for volume in volumes}

    assert {one.pick() for _ in range(3)} == names(one.volumes.answering()) == {"well"}
    assert names(one.volumes.readable()) == {"full", "well"}
