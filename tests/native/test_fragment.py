"""FragmentBuilder and Fragment against plain twins: bytes, times, cuts, loss, bounds."""

from __future__ import annotations

import itertools
import os
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.crc import crc32c
from native.fragment import Fragment, FragmentBuilder
from native.rtp import Receiver
from native.sink import CollectSink
from native.slab import configure, pool
from simcam.stamps import split_sample

SPS, PPS = b"\x67\x42\x00\x1e\xab\x40\x50\x1e\xd0\x80", b"\x68\xce\x38\x80"
OTHER_SPS = b"\x67\x42\x00\x1f\xab\x40\x50\x1e\xd0\x80"
FRAME = 3600


def sample(*nals: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(nal)) + nal for nal in nals)


def idr(size: int = 50) -> bytes:
    return b"\x65" + bytes(size)


def slice_(size: int = 20) -> bytes:
    return b"\x41" + b"\x11" * size


def prepare(fragment: Fragment, **fields: int) -> int:
    values = {"number": 1, "stream_id": 7, "sequence": 3, "audio_base": 0, "wall_us": 5_000_000, "end_us": 6_000_000}
    values["video_base_90k"] = fragment.first_dts_90k
    return fragment.prepare(**{**values, **fields})


class Feed:
    """A builder, what it handed on, and 25 pictures a second."""

    def __init__(self, codec: str = "h264", **options: int) -> None:
        self.fragments: list[Fragment] = []
        self.builder = FragmentBuilder(codec, self.fragments.append, **options)  # type: ignore[arg-type]

    def push(self, frame: int, *nals: bytes, complete: bool = True, lost: int = 0, arrival: int | None = None) -> None:
        at = frame if arrival is None else arrival
        self.builder.push_video(1_000_000 + frame * FRAME, at * 40_000, sample(*nals), complete, lost)

    def finish(self) -> list[Fragment]:
        self.builder.finish()
        return self.fragments


def media_of(fragment: Fragment) -> bytes:
    length = prepare(fragment)
    data = fragment.to_bytes()
    assert len(data) == length
    return data[len(data) - 124 - fragment.media_bytes : len(data) - 124]


def test_a_key_frame_only_ever_stands_first() -> None:
    feed = Feed()
    for i in range(100):
        feed.push(i, *((SPS, PPS, idr()) if i % 40 == 10 else (slice_(),)))
    fragments = feed.finish()
    assert [f.video_samples for f in fragments] == [10, 25, 15, 25, 15, 10]
    assert [f.key for f in fragments] == [False, True, False, True, False, True]
    assert [f.key_frames for f in fragments] == [0, 1, 0, 1, 0, 1]
    for before, after in itertools.pairwise(fragments):
        assert before.end_dts_90k == after.first_dts_90k
    for fragment in fragments:
        assert [key for *_, key in fragment.video_table()] == [fragment.key] + [False] * (fragment.video_samples - 1)


def test_a_key_frame_is_cut_off_when_its_first_slice_begins() -> None:
    feed = Feed()
    feed.push(0, SPS, PPS, idr())
    feed.push(1, slice_())
    feed.push(2, SPS, PPS, idr(), idr())
    assert [f.video_samples for f in feed.fragments] == [2]


def test_a_damaged_key_frame_is_none() -> None:
    feed = Feed()
    feed.push(0, SPS, PPS, idr())
    feed.push(1, SPS, PPS, idr(), complete=False, lost=2)
    feed.push(2, slice_())
    first, second = feed.finish()
    assert (first.key, second.key, second.incomplete_units, second.lost_packets) == (True, False, 1, 2)
    assert second.video_samples == 2


@given(st.lists(st.lists(st.binary(min_size=1, max_size=9000), min_size=1, max_size=4), min_size=1, max_size=30))
def test_bytes_are_kept_in_order(units: list[list[bytes]]) -> None:
    feed = Feed(fragment_90k=5 * FRAME)
    want = b""
    for i, nals in enumerate(units):
        typed = [slice_(0) + nal for nal in nals] if i % 7 else [SPS, PPS, idr(0) + nals[0], *nals]
        feed.push(i, *typed)
        want += sample(*typed)
    assert b"".join(media_of(f) for f in feed.finish()) == want


def test_media_longer_than_many_slabs() -> None:
    feed = Feed()
    big = [bytes([0x41]) + os.urandom(300_000 + i) for i in range(6)]
    for i, nal in enumerate(big):
        feed.push(i, nal)
    [fragment] = feed.finish()
    assert media_of(fragment) == b"".join(sample(nal) for nal in big)


def reorder(depth_pattern: list[int]) -> list[int]:
    """Presentation order of pictures in decode order: each anchor after its B-frames."""
    order, at = [0], 0
    for between in depth_pattern:
        order += [at + between + 1, *range(at + 1, at + between + 1)]
        at += between + 1
    return order


def dts_twin(pts: list[int], depth: int, frame: int) -> list[int]:
    """dts is the sorted pts, late by the depth."""
    early = [pts[0] - (depth - i) * frame for i in range(depth)]
    return (early + sorted(pts))[: len(pts)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 20))
def test_times_of_reordered_pictures(pattern: list[int], per_fragment: int) -> None:
    order = reorder(pattern)
    feed = Feed(fragment_90k=per_fragment * FRAME)
    for i, frame in enumerate(order):
        feed.push(frame, *((SPS, PPS, idr()) if i == 0 else (slice_(),)), arrival=i)
    fragments = feed.finish()
    rows = [row for f in fragments for row in f.video_table()]
    pts = [1_000_000 + frame * FRAME for frame in order]
    assert [row[1] for row in rows] == pts
    dts = [row[0] for row in rows]
    assert all(a < b for a, b in itertools.pairwise(dts))
    assert not any(f.discontinuity for f in fragments)
    for before, after in itertools.pairwise(fragments):
        assert before.end_dts_90k == after.first_dts_90k
    if len(fragments) == 1:
        assert dts == dts_twin(pts, 1 if any(pattern) else 0, FRAME)


@given(st.lists(st.integers(-40_000, 60_000), min_size=2, max_size=200))
def test_dts_ascends_whatever_the_camera_says(steps: list[int]) -> None:
    fragments: list[Fragment] = []
    builder = FragmentBuilder("h265", fragments.append)
    time = 1 << 33
    for i, step in enumerate(steps):
        builder.push_video(time, i * 40_000, sample(b"\x26\x01aa" if i % 5 == 0 else b"\x02\x01bb"))
        time += step
    builder.finish()
    run: list[int] = []
    for fragment in fragments:
        dts = [row[0] for row in fragment.video_table()]
        run += dts
        assert all(a < b for a, b in itertools.pairwise(run))
        assert fragment.end_dts_90k > dts[-1]
    assert sum(f.video_samples for f in fragments) == len(steps)


def test_a_jump_of_the_media_clock_is_bridged_by_arrival() -> None:
    """Ahead and back, by seconds and by hours: the pictures after it come as long after the last as they arrived."""
    for jump_s in (2, 20, 3600 * 13, -3, -20, -3600 * 13):
        feed = Feed()
        feed.push(0, SPS, PPS, idr())
        feed.push(1, slice_())
        for i in range(2, 5):
            feed.builder.push_video(1_000_000 + i * FRAME + jump_s * 90_000, i * 40_000, sample(slice_()))
        first, second = feed.finish()
        assert (first.discontinuity, second.discontinuity) == (False, True), jump_s
        rows = first.video_table() + second.video_table()
        assert [row[1] for row in rows] == [1_000_000 + i * FRAME for i in range(5)]
        assert feed.builder.video_shift_90k == -jump_s * 90_000


def test_a_late_picture_is_no_jump() -> None:
    """After a stall of 20 s the pictures of that time come at once, then those of now."""
    feed = Feed()
    feed.push(0, SPS, PPS, idr())
    for i in range(1, 40):
        feed.push(i, slice_(), arrival=500)
    feed.push(500, slice_())
    assert not any(f.discontinuity for f in feed.finish())
    assert feed.builder.video_shift_90k == 0


def test_a_slow_cameras_jump_is_seen_after_a_week() -> None:
    fragments: list[Fragment] = []
    builder = FragmentBuilder("h265", fragments.append)
    slow_us = 1_000_500  # of ours in a second of the camera's
    last = 7 * 86_400
    for second in range(last):
        builder.push_video(second * 90_000, second * slow_us, sample(b"\x02\x01bb"))
        fragments.clear()
    assert builder.video_shift_90k == 0
    builder.push_video((last + 2) * 90_000, last * slow_us, sample(b"\x02\x01bb"))
    assert builder.video_shift_90k == pytest.approx(-2 * 90_000, abs=200)


def test_a_key_frame_back_in_time_is_bridged() -> None:
    feed = Feed()
    for i in range(20):
        feed.push(i, slice_())
    feed.push(5, SPS, PPS, idr(), arrival=20)
    first, second = feed.finish()
    assert (first.discontinuity, second.discontinuity) == (False, True)
    assert second.first_pts_90k == 1_000_000 + 20 * FRAME


def test_a_pause_that_arrival_confirms_is_no_jump() -> None:
    feed = Feed()
    feed.push(0, SPS, PPS, idr())
    feed.builder.push_video(1_000_000 + 60 * 90_000, 60_000_000, sample(slice_()))
    assert [f.discontinuity for f in feed.finish()] == [False, False]


def test_sets_without_a_picture_join_the_next_one() -> None:
    feed = Feed()
    feed.push(0, SPS)
    feed.push(0, PPS)
    feed.push(0, idr())
    feed.push(1, slice_())
    feed.push(2, b"\x0b")
    [fragment] = feed.finish()
    assert fragment.video_samples == 2
    assert media_of(fragment) == sample(SPS, PPS, idr(), slice_(), b"\x0b")
    assert fragment.parameter_sets() == ((), (SPS,), (PPS,))


def test_generation_changes_exactly_with_the_sets_at_a_key_frame() -> None:
    feed = Feed()
    feed.push(0, SPS, PPS, idr())
    feed.push(1, SPS, PPS, idr())
    feed.push(2, slice_())
    feed.push(3, OTHER_SPS, PPS, slice_())
    feed.push(4, idr())
    feed.push(5, OTHER_SPS, idr())
    fragments = feed.finish()
    assert [f.parameter_generation for f in fragments] == [1, 1, 2, 2]
    assert fragments[1].parameter_sets()[1] == (SPS,)
    assert fragments[2].parameter_sets()[1] == (OTHER_SPS,)


def test_sets_from_outside_are_in_force() -> None:
    fragments: list[Fragment] = []
    builder = FragmentBuilder("h264", fragments.append, parameter_sets=[SPS, PPS])
    builder.push_video(0, 0, sample(idr()))
    builder.finish()
    assert fragments[0].parameter_sets() == ((), (SPS,), (PPS,))


def test_loss_runs_from_whole_picture_to_whole_picture() -> None:
    feed = Feed()
    for i in range(5):
        feed.push(i, *((SPS, PPS, idr()) if i == 0 else (slice_(),)))
    feed.push(8, slice_(), complete=False, lost=4)
    feed.push(9, slice_())
    [fragment] = feed.finish()
    assert fragment.loss == (1_000_000 + 5 * FRAME, 1_000_000 + 9 * FRAME)
    assert (fragment.lost_packets, fragment.incomplete_units) == (4, 1)


def test_what_is_left_of_a_lost_picture_leads_no_other() -> None:
    """An SEI whose slices are lost would else stand in front of the next picture, which would pass for whole."""
    feed = Feed()
    feed.push(0, SPS, PPS, idr())
    feed.push(1, b"\x06\x05\x01\x80", complete=False, lost=1)
    feed.push(2, slice_())
    (fragment,) = feed.finish()
    assert fragment.video_samples == 2
    assert media_of(fragment) == sample(SPS, PPS, idr()) + sample(slice_())
    assert fragment.loss == (1_000_000 + FRAME, 1_000_000 + 2 * FRAME)


def test_loss_over_a_cut_is_told_by_both_fragments() -> None:
    feed = Feed(fragment_90k=5 * FRAME)
    for i in range(4):
        feed.push(i, slice_())
    feed.push(4, slice_(), complete=False, lost=1)
    feed.push(5, slice_(), complete=False, lost=1)
    feed.push(6, slice_())
    first, second = feed.finish()
    assert first.loss == (1_000_000 + 4 * FRAME, 1_000_000 + 5 * FRAME)
    assert second.loss == (1_000_000 + 5 * FRAME, 1_000_000 + 6 * FRAME)


def test_a_whole_fragment_tells_of_no_loss() -> None:
    feed = Feed()
    for i in range(60):
        feed.push(i, slice_())
    assert all(f.loss is None and f.lost_packets == 0 for f in feed.finish())


def test_units_above_the_bound_are_dropped_and_counted() -> None:
    feed = Feed(unit_bytes_max=1000, fragment_bytes_max=5000)
    feed.push(0, slice_(100))
    feed.push(1, slice_(5000))
    feed.push(2, slice_(100))
    [fragment] = feed.finish()
    assert (fragment.video_samples, feed.builder.dropped_units) == (2, 1)
    assert fragment.loss == (1_000_000 + FRAME, 1_000_000 + 2 * FRAME)


def test_a_fragment_stays_within_its_bytes() -> None:
    feed = Feed(unit_bytes_max=1000, fragment_bytes_max=5000, fragment_90k=1 << 40)
    for i in range(50):
        feed.push(i, slice_(900))
    fragments = feed.finish()
    assert all(f.media_bytes <= 5000 for f in fragments)
    assert sum(f.video_samples for f in fragments) == 50


def test_the_pool_has_a_bound() -> None:
    used = pool()[0]
    configure(used + 5 * 65536)
    try:
        feed = Feed()
        feed.push(0, slice_(200_000))
        feed.push(1, slice_(1_000_000))
        feed.push(2, slice_(10))
        [fragment] = feed.finish()
        assert (fragment.video_samples, feed.builder.dropped_units) == (2, 1)
        assert media_of(fragment) == sample(slice_(200_000)) + sample(slice_(10))
    finally:
        configure(1 << 30)
    del fragment
    feed.fragments.clear()
    assert pool()[0] <= used + 65536


def test_flush_by_age_of_the_oldest_picture() -> None:
    feed = Feed()
    feed.push(0, slice_())
    feed.push(1, slice_())
    assert not feed.builder.flush(900_000, 1_000_000)
    assert feed.builder.pending_bytes > 0
    assert feed.builder.flush(1_000_000, 1_000_000)
    assert (len(feed.fragments), feed.builder.pending_bytes) == (1, 0)
    assert not feed.builder.flush(9_000_000, 0)
    assert feed.fragments[0].end_dts_90k == 1_000_000 + 2 * FRAME


def test_least_delay_is_the_anchors() -> None:
    feed = Feed()
    for i, late_us in enumerate((9_000, 2_000, 5_000)):
        pts = 90_000 + i * FRAME
        feed.builder.push_video(pts, pts * 100 // 9 + late_us, sample(slice_()))
    [fragment] = feed.finish()
    assert fragment.min_delay_us == 2_000
    assert fragment.first_arrival_us == 1_009_000


def test_audio_travels_with_the_video_and_loses_nothing() -> None:
    feed = Feed(audio_rate_hz=8000, fragment_90k=10 * FRAME)
    for i in range(50):
        feed.push(i, slice_())
        for half in range(2):
            feed.builder.push_audio(500 + (2 * i + half) * 160, i * 40_000, bytes([2 * i + half]) * 160)
    fragments = feed.finish()
    assert sum(f.audio_samples for f in fragments) == 100
    for before, after in itertools.pairwise(fragments):
        assert before.audio_end_ts == after.audio_first_ts
    assert fragments[-1].audio_end_ts == 500 + 100 * 160
    sound = b"".join(media_of(f)[-160 * f.audio_samples :] for f in fragments)
    assert sound == b"".join(bytes([i]) * 160 for i in range(100))


def test_an_audio_clock_that_jumps_goes_on_by_arrival() -> None:
    feed = Feed(audio_rate_hz=8000, fragment_90k=1000 * FRAME)
    feed.push(0, slice_())
    times = [0, 160, 320, 1 << 40, (1 << 40) + 160, 5]
    for i, time in enumerate(times):
        feed.builder.push_audio(time, i * 20_000, b"a")
    [fragment] = feed.finish()
    assert (fragment.audio_first_ts, fragment.audio_end_ts, fragment.audio_samples) == (0, 6 * 160, 6)


def test_audio_before_the_base_is_left_out() -> None:
    feed = Feed(audio_rate_hz=8000)
    feed.push(0, slice_())
    for i in range(4):
        feed.builder.push_audio(i * 160, i * 20_000, bytes([i]) * 10)
    [fragment] = feed.finish()
    prepare(fragment, audio_base=161)
    assert fragment.audio_samples == 2
    assert fragment.to_bytes()[-124 - 20 : -124] == b"\2" * 10 + b"\3" * 10
    prepare(fragment, audio_base=0)
    assert fragment.audio_samples == 4


def test_write_lays_down_what_to_bytes_says(tmp_path: Path) -> None:
    feed = Feed()
    for i in range(30):
        feed.push(i, slice_(30_000))
    with (tmp_path / "file").open("wb") as file:
        at = 1000
        for number, fragment in enumerate(feed.finish(), 1):
            length = prepare(fragment, number=number, seed=99)
            assert fragment.write(file.fileno(), at) == length
            at += length
    data = (tmp_path / "file").read_bytes()
    assert data[1000:] == b"".join(
        f.to_bytes(at) for f, at in zip(feed.fragments, offsets(feed.fragments, 1000), strict=True)
    )
    first = feed.fragments[0].to_bytes(1000)
    assert crc32c(first[:-4], 99) == int.from_bytes(first[-4:], "big")


def offsets(fragments: list[Fragment], start: int) -> list[int]:
    found = []
    for fragment in fragments:
        found.append(start)
        start += len(fragment.to_bytes(start))
    return found


def test_a_file_that_takes_nothing_is_an_error(tmp_path: Path) -> None:
    feed = Feed()
    feed.push(0, slice_())
    [fragment] = feed.finish()
    prepare(fragment)
    handle = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError):
            fragment.write(handle, 0)
    finally:
        os.close(handle)


def test_a_base_after_the_first_picture_is_refused() -> None:
    feed = Feed()
    feed.push(0, slice_())
    [fragment] = feed.finish()
    with pytest.raises(ValueError, match="lower the base"):
        prepare(fragment, video_base_90k=fragment.first_dts_90k + 1)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="h264 or h265"):
        FragmentBuilder("mpeg4", print)
    with pytest.raises(ValueError, match="bounds"):
        FragmentBuilder("h264", print, unit_bytes_max=10, fragment_bytes_max=5)
    feed = Feed()
    with pytest.raises(ValueError, match="does not fit"):
        feed.builder.push_video(0, 0, b"\0\0\0\x09ab")


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=60)), max_size=60))
def test_no_order_of_calls_harms(calls: list[tuple[int, bytes]]) -> None:
    feed = Feed(audio_rate_hz=8000, unit_bytes_max=50, fragment_bytes_max=200)
    for i, (kind, data) in enumerate(calls):
        if kind == 0:
            feed.push(i, b"\x65" + data, complete=len(data) % 2 == 0, lost=len(data) % 3)
        elif kind == 1:
            feed.push(i, data or b"\x41")
        elif kind == 2:
            feed.builder.push_audio(i * 160, i * 40_000, data)
        else:
            feed.builder.flush(i * 40_000, len(data) * 1000)
    for fragment in feed.finish():
        length = prepare(fragment)
        assert len(fragment.to_bytes()) == length
        assert fragment.video_samples > 0


def packets_of(units: list[list[bytes]], part: int) -> list[bytes]:
    """RTP packets of H.264 units, FU-A above `part` bytes (RFC 6184)."""
    packets: list[bytes] = []
    for i, nals in enumerate(units):
        payloads: list[bytes] = []
        for nal in nals:
            if len(nal) <= part:
                payloads.append(nal)
                continue
            pieces = [nal[at : at + part] for at in range(1, len(nal), part)]
            for k, piece in enumerate(pieces):
                edge = (0x80 if k == 0 else 0) | (0x40 if k == len(pieces) - 1 else 0)
                payloads.append(bytes([nal[0] & 0xE0 | 28, edge | nal[0] & 31]) + piece)
        for k, payload in enumerate(payloads):
            last = 0x80 if k == len(payloads) - 1 else 0
            packets.append(struct.pack(">BBHII", 0x80, 96 | last, len(packets) & 0xFFFF, i * FRAME, 9) + payload)
    return packets


def has_slice(data: bytes) -> bool:
    return any(nal[0] & 31 in (1, 5) for nal in split_sample(data))


@given(st.integers(0, 2**32), st.integers(20, 400), st.sampled_from([0.0, 0.02, 0.3]))
def test_what_the_network_leaves_is_stored_as_it_came(seed: int, part: int, loss: float) -> None:
    """The same packets into the builder and into a sink that keeps everything."""
    chance = random.Random(seed)
    units = []
    for i in range(40):
        front = [SPS, PPS] if i % 10 == 0 else [b"\x06" + bytes([i]) * chance.randrange(1, 60)][: chance.randrange(2)]
        kind = 0x65 if i % 10 == 0 else 0x41
        slices = [
            bytes([kind, 0x80 if k == 0 else 0x40]) + chance.randbytes(chance.randrange(1, 900)) for k in range(2)
        ]
        units.append(front + slices)
    kept = CollectSink()
    feed = Feed(fragment_90k=7 * FRAME)
    receivers = [Receiver("h264", kept), Receiver("h264", feed.builder.video)]
    for i, packet in enumerate(packets_of(units, part)):
        if i == 0 or chance.random() >= loss:
            for receiver in receivers:
                receiver.push(packet, i * 1000)
    for receiver in receivers:
        receiver.finish()
    fragments = feed.finish()
    pictures = sum(f.video_samples for f in fragments)
    stored = b"".join(media_of(f) for f in fragments)
    came = b"".join(data for _, _, data, flags, _ in kept.units if flags & 1 or has_slice(data))
    assert came.startswith(stored), "what is left of a picture whose slices are lost leads no other picture"
    assert sum(f.incomplete_units for f in fragments) <= sum(not flags & 1 for *_, flags, _ in kept.units)
    assert all(not f.key or f.video_table()[0][3] for f in fragments)
    if loss == 0:
        assert stored == came == b"".join(sample(*nals) for nals in units)
        assert pictures == len(units)
        assert all(f.loss is None for f in fragments)
    elif fragments and any(not flags & 1 for *_, flags, _ in kept.units):
        assert any(f.loss is not None for f in fragments)


def test_an_ended_session_gives_its_slabs_back_at_once() -> None:
    before = pool()[0]
    fragments: list[Fragment] = []
    builder = FragmentBuilder("h264", fragments.append, audio_rate_hz=8000)
    builder.push_audio(0, 0, bytes(160))
    builder.finish()
    builder.push_video(0, 0, sample(SPS, PPS, idr()))
    builder.push_audio(160, 0, bytes(160))
    builder.finish()
    assert [fragment.audio_samples for fragment in fragments] == [1]
    assert builder.dropped_audio == 1
    assert builder.pending_bytes == 0
    fragments.clear()
    assert pool()[0] == before
