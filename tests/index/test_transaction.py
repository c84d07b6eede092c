from __future__ import annotations

import pytest

from base.errors import DamageError, NotFound
from base.media import AudioConfig, StreamConfig, VideoConfig
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
from index import Index

CONFIG = StreamConfig(VideoConfig("h264", (), (b"\x67sps",), (b"\x68pps",)), AudioConfig("aac", 48000, 2, b"\x11\x90"))
BASE_US = 1_790_000_000_000_000
VOLUME = bytes(range(16))


def opened(stream_id: int, sequence: int, start_us: int, *, epoch: int = 1, gap_us: int = 0) -> ChunkOpened:
    head = ChunkHead(
        node=b"n" * 16,
        volume=VOLUME,
        opening=b"o" * 16,
        stream_id=stream_id,
        stream_name=f"cam{stream_id}.main",
        sequence=sequence,
        epoch=epoch,
        run=1,
        start_us=start_us,
        monotonic_us=5,
        clock_state=ClockState.SYNCED,
        clock_error_us=100,
        origin_90k=start_us * 9 // 100,
        gap_start_us=gap_us,
        gap_cause=GapCause.OFFLINE,
    )
    return ChunkOpened(head, CONFIG, 900)


def chunk(
    stream_id: int, sequence: int, start_us: int, fragments: int, *, gop: int = 2, seal: bool = True, gap_us: int = 0
) -> list[StoredRecord]:
    records: list[StoredRecord] = [opened(stream_id, sequence, start_us, gap_us=gap_us)]
    offset = 900
    for i in range(fragments):
        at = start_us + i * 1_000_000
        records.append(
            FragmentStored(stream_id, sequence, i + 1, offset, 1000 + i, at, at + 1_000_000, i % gop == 0, 25, 950)
        )
        offset += 1000 + i
    if seal:
        records.append(ChunkSealed(stream_id, sequence, start_us + fragments * 1_000_000, offset + 300, offset))
    return records


def dump(index: Index) -> dict[bytes, list[tuple[bytes, bytes]]]:
    with index.read() as snapshot:
        return {name.encode(): list(snapshot._txn.cursor(db).iternext()) for name, db in snapshot._db._asdict().items()}


def test_a_chunk_is_found_again_while_it_grows_and_after_it_is_sealed(index: Index) -> None:
    records = chunk(1, 1, BASE_US, 7)
    with index.write() as transaction:
        transaction.apply(records[:-1])
    with index.read() as snapshot:
        row = snapshot.chunk(1, 1)
        assert row is not None
        assert not row.sealed
        assert (row.end_us, row.fragments, row.samples, row.media_bytes) == (BASE_US + 7_000_000, 7, 175, 6650)
        assert row.size == 900 + 7000 + 21
        assert snapshot.open_chunks() == [row]
        assert snapshot.durable_until(1) == row.end_us
        assert snapshot.config(1, 1) == CONFIG
        frame = snapshot.seek(1, BASE_US + 5_999_999)
        assert frame == (BASE_US + 4_000_000, 1, 900 + 4000 + 6)
    with index.write() as transaction:
        transaction.apply(records[-1:])
        sealed = transaction.chunk(1, 1)
        assert sealed is not None
        assert sealed.sealed
        assert sealed._replace(sealed=False, size=row.size, table_offset=0) == row
        assert transaction.open_chunks() == []
        assert transaction.seek(1, BASE_US + 5_999_999) == frame
        assert (transaction.next_sequence(1), transaction.next_epoch(1), transaction.next_run(1)) == (2, 2, 2)


def test_applying_records_again_changes_nothing(index: Index) -> None:
    records = [
        *chunk(1, 1, BASE_US, 70, gop=1),
        *chunk(1, 2, BASE_US + 80_000_000, 5, seal=False, gap_us=BASE_US + 70_000_000),
    ]
    with index.write() as transaction:
        transaction.apply(records)
    before = dump(index)
    for again in (records, records[3:], records[:1], records[-1:]):
        with index.write() as transaction:
            transaction.apply(again)
        assert dump(index) == before


def test_batches_of_any_size_give_the_same_rows(index: Index, tmp_path: object) -> None:
    records = chunk(3, 1, BASE_US, 200, gop=1)
    with index.write() as transaction:
        transaction.apply(records)
    whole = index.read
    with whole() as snapshot:
        expected = snapshot.key_frames(3, 0, 2**62).tolist()
    with Index.open(index.path.parent / "other", create=True) as other:
        for record in records:
            with other.write() as transaction:
                transaction.apply([record])
        with other.read() as snapshot:
            assert snapshot.key_frames(3, 0, 2**62).tolist() == expected
            assert len(expected) == 200
        assert dump(other) == dump(index)


def test_late_fragments_of_a_superseded_chunk_are_sought_rightly(index: Index) -> None:
    old = chunk(1, 1, BASE_US, 10, gop=1, seal=False)
    new = chunk(1, 2, BASE_US + 10_000_000, 10, gop=1)
    with index.write() as transaction:
        transaction.apply(old[:6])
        transaction.apply(new)
    with index.read() as snapshot:
        assert snapshot.seek(1, BASE_US + 12_500_000) == (BASE_US + 12_000_000, 2, 900 + 2000 + 1)
        assert snapshot.seek(1, BASE_US + 9_500_000) == (BASE_US + 4_000_000, 1, 900 + 4000 + 6)
        assert snapshot.durable_until(1) == BASE_US + 5_000_000  # the hole is not declared
    with index.write() as transaction:
        transaction.apply(old[6:])
    with index.read() as snapshot:
        assert snapshot.seek(1, BASE_US + 9_500_000) == (BASE_US + 9_000_000, 1, 900 + 9000 + 36)
        assert snapshot.seek(1, BASE_US + 30_000_000) == (BASE_US + 19_000_000, 2, 900 + 9000 + 36)
        times = snapshot.key_frames(1, BASE_US, BASE_US + 20_000_000)["time_us"]
        assert times.tolist() == [BASE_US + i * 1_000_000 for i in range(20)]
        assert snapshot.durable_until(1) == BASE_US + 20_000_000
        assert [row.sequence for row in snapshot.open_chunks()] == [1]


def test_a_declared_gap_lets_the_watermark_pass_a_chunk_left_open(index: Index) -> None:
    with index.write() as transaction:
        transaction.apply(chunk(1, 1, BASE_US, 4, seal=False))
        transaction.apply(chunk(1, 2, BASE_US + 9_000_000, 4, seal=False))
        assert transaction.durable_until(1) == BASE_US + 4_000_000
        transaction.apply([Gap(1, BASE_US + 4_000_000, BASE_US + 9_000_000, GapCause.VOLUME)])
        assert transaction.durable_until(1) == BASE_US + 13_000_000


def test_an_opened_chunk_without_pictures_hides_nothing(index: Index) -> None:
    with index.write() as transaction:
        transaction.apply(chunk(1, 1, BASE_US, 4))
        transaction.apply([opened(1, 2, BASE_US + 4_000_000)])
        assert transaction.durable_until(1) == BASE_US + 4_000_000
        assert [row.sequence for row in transaction.chunks(1, 0, 2**62)] == [1]
        assert transaction.chunk_at(1, BASE_US + 4_000_000) is None
        assert [row.sequence for row in transaction.open_chunks()] == [2]
        assert transaction.seek(1, BASE_US + 9_000_000) == (BASE_US + 2_000_000, 1, 900 + 2000 + 1)


def test_records_that_contradict_the_index_are_refused_and_nothing_is_kept(index: Index) -> None:
    with index.write() as transaction:
        transaction.apply(chunk(1, 1, BASE_US, 4))
    before = dump(index)
    with pytest.raises(DamageError, match="sequence 1"), index.write() as transaction:
        transaction.apply([opened(1, 5, BASE_US + 50_000_000), opened(1, 1, BASE_US + 1)])
    with pytest.raises(NotFound, match="ChunkOpened"), index.write() as transaction:
        transaction.apply(chunk(1, 9, BASE_US, 4)[1:2])
    with pytest.raises(DamageError, match="microseconds"), index.write() as transaction:
        transaction.apply([opened(1, 6, -1)])
    assert dump(index) == before


def test_gaps_of_a_stream_never_overlap_and_the_first_told_stays(index: Index) -> None:
    with index.write() as transaction:
        transaction.apply([Gap(1, 100, 200, GapCause.OFFLINE), Gap(1, 300, 400, GapCause.PACKET_LOSS, 3)])
        transaction.apply([Gap(1, 50, 500, GapCause.STOPPED)])
        transaction.apply([Gap(1, 120, 180, GapCause.CRASH), Gap(1, 7, 7, GapCause.CRASH)])
        found = [(gap.start_us, gap.end_us, gap.cause.name) for gap in transaction.gaps(1, 0, 1000)]
        assert found == [
            (50, 100, "STOPPED"),
            (100, 200, "OFFLINE"),
            (200, 300, "STOPPED"),
            (300, 400, "PACKET_LOSS"),
            (400, 500, "STOPPED"),
        ]
        assert [gap.start_us for gap in transaction.gaps(1, 350, 400)] == [300]


def test_a_gap_told_again_with_a_later_end_grows_in_place(index: Index) -> None:
    with index.write() as transaction:
        for end_us in (200, 300, 250):
            transaction.apply([Gap(1, 100, end_us, GapCause.OFFLINE)])
        assert transaction.gaps(1, 0, 1000) == [Gap(1, 100, 300, GapCause.OFFLINE)]
