from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import DamageError, NotFound
from base.media import StreamConfig, VideoConfig
from chunks.records import (
    ChunkHead,
    ChunkOpened,
    ChunkSealed,
    ClockState,
    FragmentStored,
    Gap,
    GapCause,
    StoredRecord,
)
from index import Index, Snapshot

CONFIG = StreamConfig(VideoConfig("h265", (b"v",), (b"s",), (b"p", b"q")))
S = 1_000_000


class Twin:
    """What the index should answer, kept in plain lists."""

    def __init__(self) -> None:
        self.frames: dict[int, list[tuple[int, int, int]]] = {}
        self.extents: dict[int, dict[int, tuple[int, int]]] = {}  # stream → sequence → (start, end)
        self.gaps: dict[int, set[int]] = {}  # by millisecond

    def apply(self, record: StoredRecord) -> None:
        if isinstance(record, ChunkOpened) and record.head.gap_start_us:
            head = record.head
            self.declare(Gap(head.stream_id, head.gap_start_us, head.start_us, head.gap_cause))
        if isinstance(record, FragmentStored):
            extents = self.extents.setdefault(record.stream_id, {})
            start_us, _ = extents.get(record.sequence, (record.start_us, 0))
            extents[record.sequence] = (start_us, record.end_us)
            if record.key:
                frame = (record.start_us, record.sequence, record.offset)
                self.frames.setdefault(record.stream_id, []).append(frame)
            if record.gap is not None:
                self.declare(record.gap)

    def declare(self, gap: Gap) -> None:
        self.gaps.setdefault(gap.stream_id, set()).update(range(gap.start_us // 1000, gap.end_us // 1000))

    def seek(self, stream_id: int, time_us: int) -> tuple[int, int, int] | None:
        return max((frame for frame in self.frames.get(stream_id, []) if frame[0] <= time_us), default=None)

    def seek_next(self, stream_id: int, time_us: int) -> tuple[int, int, int] | None:
        return min((frame for frame in self.frames.get(stream_id, []) if frame[0] >= time_us), default=None)

    def recorded(self, stream_id: int) -> set[int]:
        spans = self.extents.get(stream_id, {}).values()
        covered = {at for start, end in spans for at in range(start // 1000, end // 1000)}
        return covered - self.gaps.get(stream_id, set())


def history(rng: random.Random, stream_id: int) -> list[StoredRecord]:
    """A stream's records: chunks of irregular GOPs, some holes declared and some not, the last chunk open."""
    records: list[StoredRecord] = []
    now_us, end_us = rng.randint(1, 9) * S, 0
    for sequence in range(1, rng.randint(2, 6)):
        declared = end_us if end_us and now_us > end_us and rng.random() < 0.5 else 0
        head = ChunkHead(
            bytes(16), bytes(16), bytes(16), stream_id, f"c{stream_id}.main", sequence, 1, sequence, now_us, 0,
            ClockState.SYNCED, 0, 0, declared, GapCause.OFFLINE,
        )  # fmt: skip
        records.append(ChunkOpened(head, CONFIG, 500))
        offset = 500
        for number in range(1, rng.choice([2, 5, 100])):
            length, duration_us = rng.randint(1, 2000), rng.randint(1, 40) * 50_000
            lost_us = rng.randint(0, duration_us // 1000) * 1000
            gap = Gap(stream_id, now_us, now_us + lost_us, GapCause.PACKET_LOSS, 1) if rng.random() < 0.1 else None
            is_key = number == 1 or rng.random() < 0.7
            records.append(
                FragmentStored(
                    stream_id, sequence, number, offset, length, now_us, now_us + duration_us, is_key, 9, 7, 0, gap
                )
            )
            offset, now_us = offset + length, now_us + duration_us
        end_us = now_us
        records.append(ChunkSealed(stream_id, sequence, end_us, offset + 50, offset))
        now_us += rng.choice([0, 0, 5 * S])
    return records[: rng.randint(1, len(records))]


def shuffled_batches(rng: random.Random, histories: list[list[StoredRecord]]) -> Iterator[list[StoredRecord]]:
    """All records, the order kept inside a stream, in batches of any size; some told twice."""
    queues = [list(records) for records in histories]
    while any(queues):
        batch: list[StoredRecord] = []
        for queue in rng.sample(queues, len(queues)):
            count = rng.choice([0, 1, 3, 80])
            batch += queue[:count]
            del queue[:count]
        yield batch
        if rng.random() < 0.2:
            yield batch


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_answers_agree_with_a_plain_twin(seed: int) -> None:
    rng = random.Random(seed)
    histories = [history(rng, stream_id) for stream_id in (1, 2, 3)]
    twin = Twin()
    for record in (record for records in histories for record in records):
        twin.apply(record)
    with tempfile.TemporaryDirectory() as folder, Index.open(Path(folder) / "index", create=True) as index:
        for batch in shuffled_batches(rng, histories):
            with index.write() as transaction:
                transaction.apply(batch)
        with index.read() as snapshot:
            for stream_id in (1, 2, 3, 4):
                compare(snapshot, twin, stream_id, rng)


def compare(snapshot: Snapshot, twin: Twin, stream_id: int, rng: random.Random) -> None:
    frames = twin.frames.get(stream_id, [])
    assert snapshot.key_frames(stream_id, 0, 2**62).tolist() == frames
    times = [frame[0] + by for frame in frames for by in (-1, 0, 1)] + [-5, 0, 2**62, 2**64, 2**70]
    for time_us in rng.sample(times, min(len(times), 60)):
        assert snapshot.seek(stream_id, time_us) == twin.seek(stream_id, time_us)
        assert snapshot.seek_next(stream_id, time_us) == twin.seek_next(stream_id, time_us)
        assert snapshot.seek_many([4, stream_id], time_us) == [None, twin.seek(stream_id, time_us)]
    start_us, end_us = sorted(rng.choices(times[:-2], k=2))
    expected = [frame for frame in frames if start_us <= frame[0] < end_us]
    assert snapshot.key_frames(stream_id, start_us, end_us).tolist() == expected
    extents = {sequence: span for sequence, span in twin.extents.get(stream_id, {}).items() if span[0] < span[1]}
    found = {row.sequence: (row.start_us, row.end_us) for row in snapshot.chunks(stream_id, start_us, end_us)}
    assert found == {k: (a, b) for k, (a, b) in extents.items() if a < end_us and b > start_us}
    timeline = snapshot.timeline(stream_id, 0, 2**62)
    recorded = {at for start, end in timeline.spans for at in range(start // 1000, end // 1000)}
    assert recorded == twin.recorded(stream_id)
    declared = {at for gap in timeline.gaps for at in range(gap.start_us // 1000, gap.end_us // 1000)}
    assert declared == twin.gaps.get(stream_id, set())
    assert timeline.durable_until_us == max((end for _, end in extents.values()), default=0)
    part = snapshot.timeline(stream_id, 3 * S + 1, 9 * S)
    covered = {at for start, end in part.spans for at in range(start, end, 1000)}
    assert all(3 * S + 1 <= start < end <= 9 * S for start, end in part.spans)
    assert len(covered) >= len([at for at in twin.recorded(stream_id) if 3001 <= at < 9000])


def test_a_resolution_bounds_the_answer(index: Index) -> None:
    rng = random.Random(1)
    with index.write() as transaction:
        while len(records := history(rng, 1)) < 200:
            pass
        transaction.apply(records)
        exact = transaction.timeline(1, 0, 10**12)
        for resolution_us in (S, 10 * S, 10**12):
            coarse = transaction.timeline(1, 0, 10**12, resolution_us)
            bound = 10**12 // resolution_us + 1
            assert len(coarse.spans) <= min(len(exact.spans), bound)
            assert len(coarse.gaps) <= min(len(exact.gaps), bound)
            assert coarse.spans[0][0] == exact.spans[0][0]
            assert coarse.spans[-1][1] == exact.spans[-1][1]
            assert sum(gap.packets for gap in coarse.gaps) == sum(gap.packets for gap in exact.gaps)


def test_damaged_rows_are_errors_and_never_answers(index: Index) -> None:
    rng = random.Random(5)
    while len(records := history(rng, 1)) < 200:
        pass
    with index.write() as transaction:
        transaction.apply(records)
        rows = list(transaction._time_rows(transaction._db.key_frames, 1, 0, 2**62))
        for key, _ in rows:
            transaction._txn.put(key, b"\xff" * 9, db=transaction._db.key_frames)
        transaction._txn.put(b"\0\0\0\1\0\0\0\1", b"\xc1junk", db=transaction._db.epochs)
    with index.read() as snapshot:
        for ask in (snapshot.seek, snapshot.seek_next):
            with pytest.raises(DamageError, match="keyreel rebuild"):
                ask(1, 10 * S)
        with pytest.raises(DamageError, match="keyreel rebuild"):
            snapshot.key_frames(1, 0, 2**62)
        with pytest.raises(DamageError, match="configuration"):
            snapshot.config(1, 1)
        with pytest.raises(NotFound, match="epoch 9"):
            snapshot.config(1, 9)
        assert snapshot.seek(7, 10 * S) is None


def test_readers_in_threads_see_whole_commits_while_the_writer_goes_on(index: Index) -> None:
    done = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not done.is_set():
            with index.read() as snapshot:
                ends = {snapshot.durable_until(stream_id) for stream_id in range(1, 21)}
                if len(ends) != 1:
                    wrong.append(ends)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    heads = [
        ChunkHead(
            bytes(16), bytes(16), bytes(16), n, f"c{n}.main", 1, 1, 1, S, 0, ClockState.SYNCED, 0, 0
        )
        for n in range(1, 21)
    ]  # fmt: skip
    with index.write() as transaction:
        transaction.apply([ChunkOpened(head, CONFIG, 500) for head in heads])
    for number in range(1, 60):
        at = number * S
        with index.write() as transaction:
            transaction.apply(
                [FragmentStored(n, 1, number, number * 900, 900, at, at + S, True, 5, 800) for n in range(1, 21)]
            )
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
