"""Fragments made of hostile input: what a builder cuts must be what a chunk's reader takes."""

from __future__ import annotations

import itertools

from chunks.format import unpack_seal
from chunks.frametable import FrameTable
from native import units as native_units
from native.crc import crc32c
from native.fragment import FragmentBuilder
from native.moof import SEAL_SIZE, Fragment
from native.sink import CollectSink
from native.slab import pool
from tests.fuzz.feed import Feed

TOTAL_BYTES_MAX = 1 << 20
_TIMES = (0, 3600, 1, 90_000, 900_000)


def split_sample(sample: bytes, head: int) -> list[bytes]:
    """NAL units of a sample; their lengths must fill it exactly."""
    nals, at = [], 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + 4], "big")
        assert head <= size <= len(sample) - at - 4, "a NAL unit's length does not fit its sample"
        nals.append(sample[at + 4 : at + 4 + size])
        at += 4 + size
    return nals


def check_fragments(fragments: list[Fragment], head: int) -> list[bytes]:
    """Write, seal and read back; the samples as stored."""
    stored, records, samples, at = [], [], [], 100
    for number, fragment in enumerate(fragments, 1):
        length = fragment.prepare(
            number=number, stream_id=1, sequence=2, wall_us=number, end_us=number + 1,
            video_base_90k=fragment.first_dts_90k, audio_base=fragment.audio_first_ts,
        )  # fmt: skip
        data = fragment.to_bytes(at)
        seal = unpack_seal(data, len(data) - SEAL_SIZE)
        assert len(data) == length
        assert seal is not None
        assert (seal.offset, seal.length, seal.number) == (at, length, number)
        assert seal.crc == crc32c(data[:-4])
        record = fragment.table_record(at)
        assert record == data[: seal.head_length] + data[-SEAL_SIZE:]
        records.append(record)
        stored.append((at, data))
        at += length
    table = FrameTable.from_records(b"".join(records))
    assert len(table) == len(fragments)
    for i, fragment in enumerate(fragments):
        samples += _check_rows(table, i, fragment, *stored[i], head)
    return samples


def _check_rows(table: FrameTable, i: int, fragment: Fragment, offset: int, data: bytes, head: int) -> list[bytes]:
    first, count = int(table.video_first[i]), int(table.video_count[i])
    sizes = table.video_size[first : first + count].tolist()
    dts = table.video_dts[first : first + count].tolist()
    audio = table.audio_size[int(table.audio_first[i]) :][: int(table.audio_count[i])].tolist()
    told = fragment.video_table()
    assert [row[2] for row in told] == sizes
    assert len(audio) == fragment.audio_samples
    assert sum(sizes) + sum(audio) == fragment.media_bytes == table.media_bytes[i]
    assert all(a < b for a, b in itertools.pairwise(dts)), "decode times do not ascend"
    assert all(size > 0 for size in sizes + audio)
    samples, at = [], int(table.video_at[i]) - offset
    for size in sizes:
        samples.append(data[at : at + size])
        split_sample(samples[-1], head)
        at += size
    assert at == int(table.audio_at[i]) - offset
    return samples


def make_builder(feed: Feed, codec: str, fragments: list[Fragment], *, audio: bool) -> FragmentBuilder:
    """Bounds that a small input can reach."""
    unit, fragment = feed.one_of((8 << 20, 32 << 20), (64, 256), (5000, 9000), (200_000, 300_000))
    return FragmentBuilder(
        codec, fragments.append, audio_rate_hz=feed.one_of(8000, 48000, 1) if audio else 0,
        fragment_90k=feed.one_of(90_000, 1, 20_000, 1 << 40), unit_bytes_max=unit, fragment_bytes_max=fragment,
    )  # fmt: skip


def assert_given_back(before: int) -> None:
    """What was used before may be others' garbage, and go meanwhile."""
    assert pool()[0] <= before, "slabs were not given back"


def builder(data: bytes) -> None:
    """Units and frames with any times, in any order."""
    feed = Feed(data)
    before = pool()[0]
    codec = feed.one_of("h264", "h265")
    fragments: list[Fragment] = []
    made = make_builder(feed, codec, fragments, audio=feed.u(1) & 1 == 1)
    time = audio_time = 1 << 32
    arrival_us, total = 1_000_000, 0
    while feed.more and total < TOTAL_BYTES_MAX:
        what = feed.u(1)
        arrival_us += feed.u(2) if what & 8 else 40_000
        if what & 3 == 0:
            made.flush(arrival_us, feed.u(1) * 1000)
        elif what & 3 == 1 and made.audio is not None:
            audio_time += feed.s(4) if what & 16 else 320
            frame = feed.blob()
            total += len(frame)
            made.push_audio(audio_time, arrival_us, frame)
        else:
            time += feed.s(4) if what & 16 else _TIMES[what >> 5 & 3]
            sample = feed.blob()
            if what & 4:
                sample = len(sample).to_bytes(4, "big") + sample
            total += len(sample)
            try:
                made.push_video(time, arrival_us, sample, what & 128 == 0, what >> 6 & 1)
            except ValueError:  # a length that does not fit, as its docstring says
                continue
        assert made.pending_bytes >= 0
    made.finish()
    assert made.pending_bytes == 0 or made.audio is not None
    check_fragments(fragments, 1 if codec == "h264" else 2)
    fragments.clear()
    del made
    assert_given_back(before)


def units(data: bytes) -> None:
    """Samples of a demuxer: what is taken is made of the sample's own bytes, and the same in both forms."""
    feed = Feed(data)
    codec = feed.one_of("h264", "h265")
    head = 1 if codec == "h264" else 2
    length_bytes = feed.one_of(4, 1, 2, 3)
    sample = feed.rest()
    sink = CollectSink()
    if native_units.push_annexb(sink, codec, 1, 2, sample):
        nals = split_sample(sink.units[-1][2], head)
        assert all(nal in sample and nal[-1:] != b"\0" for nal in nals)
        again = CollectSink()
        assert native_units.push_annexb(again, codec, 1, 2, b"".join(b"\0\0\0\1" + nal for nal in nals))
        assert again.units == sink.units
        prefixed = CollectSink()
        assert native_units.push_prefixed(prefixed, codec, 4, 1, 2, sink.units[-1][2])
        assert prefixed.units == sink.units
    sink = CollectSink()
    if native_units.push_prefixed(sink, codec, length_bytes, 1, 2, sample):
        split_sample(sink.units[-1][2], head)
    native_units.push_frame(sink, 1, 2, sample)
