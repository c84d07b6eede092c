"""Streams are spread evenly over workers, whatever pattern their ids have, and each belongs to exactly one."""

from __future__ import annotations

from itertools import pairwise

import pytest

from base.config import Config
from recorder.pipeline import Rotation
from recorder.share import WHOLE, Share

WORKERS_MAX = 16
HOUR_US = 3600 * 1_000_000


def owners(workers: int, ids: range) -> list[int]:
    """Worker of each stream; fails when a stream has none or two."""
    shares = [Share(worker, workers) for worker in range(workers)]
    found = []
    for stream_id in ids:
        [owner] = [share.worker for share in shares if share.owns(stream_id)]
        found.append(owner)
    return found


@pytest.mark.parametrize("workers", range(1, WORKERS_MAX + 1))
@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize("first", [1, 2, 1000])
def test_shares_are_even_for_main_sub_pairs_too(workers: int, step: int, first: int) -> None:
    """Ids by step: all streams, the mains alone, the subs alone, every second camera."""
    for streams in (16, 100, 2000):
        found = owners(workers, range(first, first + step * streams, step))
        counts = [found.count(worker) for worker in range(workers)]
        assert sum(counts) == streams
        assert max(counts) <= streams / workers + 4, counts


def test_a_lone_recorder_has_all_streams() -> None:
    assert all(WHOLE.owns(stream_id) for stream_id in range(1, 1000))
    assert WHOLE.first
    assert not Share(1, 2).first


def test_a_share_that_is_none_is_refused() -> None:
    for worker, workers in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="no worker"):
            Share(worker, workers)


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_chunks_of_one_worker_end_spread_over_the_whole_interval(workers: int) -> None:
    """Else a worker opens and seals all its chunks in a part of each interval, and rests in the others."""
    rotation = Rotation(HOUR_US, 1 << 40)
    share = Share(1, workers)
    own = [stream_id for stream_id in range(1, 1601) if share.owns(stream_id)]
    later = [sum(rotation.slot(one, k * HOUR_US // 8) > rotation.slot(one, 0) for one in own) for k in range(9)]
    ends = [b - a for a, b in pairwise(later)]
    assert sum(ends) == len(own)
    assert min(ends) > len(own) / 8 * 0.7, ends


def test_all_workers_together_keep_the_nodes_bounds() -> None:
    node = Config().recorder
    for workers in range(1, WORKERS_MAX + 1):
        part = Share(0, workers).part_of(Config()).recorder
        assert part.queue_bytes_max * workers <= node.queue_bytes_max
        assert part.pre_record_bytes_max * workers <= node.pre_record_bytes_max
        assert 1 <= part.handshakes_max <= max(1, node.handshakes_max // workers)
        assert part.receive_bytes_max * workers <= node.receive_bytes_max
        assert part.queue_bytes_max >= 2 * part.unit_bytes_max
