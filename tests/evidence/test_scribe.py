"""What of a recording becomes entries, and what happens when there are too many."""

from __future__ import annotations

from hashlib import sha256

import pytest

from base.media import StreamConfig, VideoConfig
from chunks.format import pack_config, pack_header
from chunks.records import ChunkHead, ChunkOpened, ChunkSealed, ClockState, FragmentStored, Gap, GapCause
from evidence.ledger import Chunk, ChunkState, ClockNote, Content, Epoch, GapNote, Missed, Opened
from evidence.scribe import LOSSES_MAX, Scribe
from evidence.tree import leaf_hash, root_of

NOW_US = 1_790_000_000_000_000
CONFIG = StreamConfig(VideoConfig("h264", (), (bytes.fromhex("6742c00ada0a18c8f00884d4"),), (b"\x68\xce\x3c\x80",)))
LEAVES = [leaf_hash(bytes([number])) for number in range(10)]


def chunk_opened(sequence: int = 1, epoch: int = 1, volume: int = 1, gap_start_us: int = 0) -> ChunkOpened:
    head = ChunkHead(
        bytes(16), bytes([volume]) * 16, bytes([sequence]) * 16, 7, "gate.main", sequence, epoch, 1, NOW_US, 5,
        ClockState.SYNCED, 10, 0, gap_start_us, GapCause.OFFLINE,
    )  # fmt: skip
    return ChunkOpened(head, CONFIG, 100)


def fragment(number: int, sequence: int = 1, gap: Gap | None = None) -> FragmentStored:
    end_us = NOW_US + number * 500_000
    return FragmentStored(7, sequence, number, number * 100, 100, end_us - 500_000, end_us, True, 10, 90, 0, gap)


def said(scribe: Scribe) -> list[Content]:
    return [content for _, content in scribe.waiting]


def test_a_chunks_life() -> None:
    scribe = Scribe(100)
    record = chunk_opened(gap_start_us=NOW_US - 50)
    scribe.opened(record, NOW_US)
    for number in range(1, 4):
        scribe.stored(fragment(number), LEAVES[number - 1], NOW_US)
    scribe.sealed(ChunkSealed(7, 1, NOW_US, 900, 400), NOW_US)
    header = pack_header(record.head, CONFIG)
    assert said(scribe) == [
        GapNote(NOW_US - 50, NOW_US, GapCause.OFFLINE, 0),
        Epoch(1, sha256(pack_config(CONFIG)).digest()),
        Opened(record.head.opening, record.head.volume, 1, 1, 1, NOW_US, len(header), sha256(header).digest()),
        Chunk(record.head.opening, 1, ChunkState.SEALED, 1, 3, NOW_US, NOW_US + 1_500_000, 300, root_of(LEAVES[:3])),
    ]
    assert scribe.sign_soon


def test_a_growing_chunk_is_told_each_interval_and_an_idle_one_is_not() -> None:
    scribe = Scribe(100)
    scribe.opened(chunk_opened(), NOW_US)
    for number in range(1, 6):
        scribe.stored(fragment(number), LEAVES[number - 1], NOW_US)
        if number in (2, 5):
            scribe.progress(NOW_US)
            taken = [content for _, content in scribe.take(NOW_US, "")]
            assert taken[-1] == Chunk(
                bytes([1]) * 16, 1, ChunkState.GROWING, 1, number, NOW_US, NOW_US + number * 500_000, number * 100,
                root_of(LEAVES[:number]),
            )  # fmt: skip
    scribe.progress(NOW_US)
    assert not scribe.waiting


def test_a_failed_volume_ends_its_chunks_alone() -> None:
    scribe = Scribe(100)
    scribe.opened(chunk_opened(1, volume=1), NOW_US)
    scribe.stored(fragment(1, 1), LEAVES[0], NOW_US)
    scribe.opened(chunk_opened(2, volume=2), NOW_US)
    scribe.stored(fragment(1, 2), LEAVES[0], NOW_US)
    scribe.volume_failed(bytes([1]) * 16, NOW_US)
    scribe.stored(fragment(2, 2), LEAVES[1], NOW_US)
    scribe.sealed(ChunkSealed(7, 2, NOW_US, 900, 400), NOW_US)
    states = [(one.sequence, one.state, one.fragments) for one in said(scribe) if isinstance(one, Chunk)]
    assert states == [(1, ChunkState.GIVEN_UP, 1), (2, ChunkState.SEALED, 2)]


def test_a_record_that_was_lost_ends_the_covering_of_its_chunk() -> None:
    scribe = Scribe(100)
    scribe.opened(chunk_opened(), NOW_US)
    scribe.stored(fragment(1), LEAVES[0], NOW_US)
    scribe.stored(fragment(3), LEAVES[2], NOW_US)
    scribe.sealed(ChunkSealed(7, 1, NOW_US, 900, 400), NOW_US)
    assert not [one for one in said(scribe) if isinstance(one, Chunk)]


def test_losses_of_packets_are_bounded_and_other_gaps_are_told_at_once() -> None:
    scribe = Scribe(1000)
    scribe.opened(chunk_opened(), NOW_US)
    scribe.waiting.clear()
    for number in range(1, 6):
        loss = Gap(7, NOW_US + number, NOW_US + number + 1, GapCause.PACKET_LOSS, 3)
        scribe.stored(fragment(number, gap=loss), LEAVES[0], NOW_US)
    scribe.gap(Gap(7, 1, 2, GapCause.VOLUME), NOW_US)
    assert said(scribe) == [GapNote(1, 2, GapCause.VOLUME, 0)]
    scribe.progress(NOW_US)
    assert sum(isinstance(one, GapNote) for one in said(scribe)) == 6
    scribe.waiting.clear()
    for number in range(500):
        scribe.gap(Gap(7, NOW_US + number, NOW_US + number + 1, GapCause.PACKET_LOSS, 3), NOW_US)
    scribe.progress(NOW_US)
    told = [one for one in said(scribe) if isinstance(one, GapNote)]
    assert len(told) == LOSSES_MAX
    assert told[-1] == GapNote(NOW_US + 7, NOW_US + 500, GapCause.PACKET_LOSS, 1479)


def test_the_clock_is_told_when_what_is_known_of_it_changes() -> None:
    scribe = Scribe(100)
    for state, ahead_us, reason in ((1, 0, ""), (1, 20, ""), (2, 20, "unsynced"), (2, 30, "ahead"), (1, 0, "")):
        scribe.clock(ClockNote(state, 5, ahead_us, reason), NOW_US)
    assert [(one.state, one.detail) for one in said(scribe) if isinstance(one, ClockNote)] == [
        (1, ""), (2, "unsynced"), (2, "ahead"), (1, ""),
    ]  # fmt: skip


def test_what_does_not_fit_is_counted_and_told() -> None:
    scribe = Scribe(3)
    for number in range(8):
        scribe.add(NOW_US + number, GapNote(number, number + 1, 1, 0))
    taken = scribe.take(NOW_US, "disk")
    assert taken[0] == (NOW_US + 5, Missed(5, NOW_US, NOW_US + 4, "disk"))
    assert [content for _, content in taken[1:]] == [GapNote(number, number + 1, 1, 0) for number in (5, 6, 7)]
    scribe.add(NOW_US + 9, GapNote(9, 10, 1, 0))
    scribe.give_back(taken)
    taken = scribe.take(NOW_US, "disk")
    assert taken[0][1] == Missed(6, NOW_US, NOW_US + 5, "disk")
    assert len(taken) == 4
    scribe.written()
    scribe.add(NOW_US, GapNote(1, 2, 1, 0))
    assert len(scribe.take(NOW_US, "")) == 1


@pytest.mark.parametrize("end", [False, True])
def test_a_root_over_more_takes_the_place_of_one_that_waits(end: bool) -> None:
    scribe = Scribe(100)
    scribe.opened(chunk_opened(), NOW_US)
    for number in range(1, 9):
        scribe.stored(fragment(number), LEAVES[number - 1], NOW_US)
        scribe.progress(NOW_US)
    if end:
        scribe.sealed(ChunkSealed(7, 1, NOW_US, 900, 400), NOW_US)
    (root,) = [one for one in said(scribe) if isinstance(one, Chunk)]
    assert (root.fragments, root.state) == (8, ChunkState.SEALED if end else ChunkState.GROWING)
