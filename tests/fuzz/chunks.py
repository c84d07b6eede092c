"""What is read from disk: table records, whole chunk files, and the parameter sets kept in them."""

from __future__ import annotations

import os
from pathlib import Path

from base.errors import CameraError, DamageError
from base.media import StreamConfig, VideoConfig
from chunks import boxes, codecs
from chunks import parameters as sets
from chunks.format import HEADER_BYTES_MAX, header_size, pack_header, unpack_header, unpack_seal
from chunks.frametable import FrameTable
from chunks.reader import ChunkFile
from chunks.records import ChunkHead, ClockState
from chunks.recover import scan
from native.sets import ParameterSets
from native.table import decode
from tests.fuzz.feed import Feed

SPS = bytes.fromhex("6742c00bd90a0d9bc0440000030004000003 00c83c50a920")
CONFIG = StreamConfig(VideoConfig("h264", (), (SPS,), (b"\x68\xcb\x83\xcb\x20",)))
HEAD = ChunkHead(
    node=bytes(16), volume=bytes(16), opening=bytes(range(16)), stream_id=1, stream_name="gate.main", sequence=2,
    epoch=1, run=1, start_us=1_700_000_000_000_000, monotonic_us=1, clock_state=ClockState.SYNCED, clock_error_us=1,
    origin_90k=0,
)  # fmt: skip
HEADER = pack_header(HEAD, CONFIG)


def _check_table(table: FrameTable) -> None:
    """A sample's place lies inside its fragment."""
    video, audio = table.video_size.astype("int64"), table.audio_size.astype("int64")
    assert int(table.video_count.sum()) == len(video)
    assert int(table.audio_count.sum()) == len(audio)
    for i in range(len(table)):
        pictures = int(video[int(table.video_first[i]) :][: int(table.video_count[i])].sum())
        frames = int(audio[int(table.audio_first[i]) :][: int(table.audio_count[i])].sum())
        assert table.head_length[i] + pictures + frames + 124 == table.length[i]
        assert pictures + frames == table.media_bytes[i]
        assert table.video_at[i] - table.offset[i] == table.head_length[i]


def table(data: bytes) -> None:
    """Records that contradict themselves are refused, others hold together; two halves give what the whole gives."""
    try:
        decode(data)
    except ValueError:
        return
    whole = FrameTable.from_records(data)
    _check_table(whole)
    if len(whole) > 1 and len({*whole.video_first.tolist()}) == len(whole):
        cut = 32 + int.from_bytes(data[32:36], "big") + 8 + 124
        joined = FrameTable.from_records(data[:cut]).joined(FrameTable.from_records(data[cut:]))
        assert joined.video_size.tolist() == whole.video_size.tolist()
        assert joined.video_first.tolist() == whole.video_first.tolist()


def chunk(data: bytes) -> None:
    """A chunk file with a sound head and anything behind it: read, scanned, or refused as damaged."""
    _boxes(data)
    handle = os.memfd_create("fuzz")
    try:
        os.write(handle, HEADER + data)
        path = Path(f"/proc/self/fd/{handle}")
        scan(path)
        file = ChunkFile(path)
        upto = len(HEADER) + len(data) * 3 // 4
        _check_table(file.table(upto=upto))
        found = file.table()
        _check_table(found)
        for i in range(min(len(found), 8)):
            try:
                file.read_fragment(i, found)
            except DamageError:
                continue
        file.close()
    except DamageError:
        pass
    finally:
        os.close(handle)


def _boxes(data: bytes) -> None:
    end = 0
    for _, payload, stop in boxes.walk(data):
        assert end + 8 <= payload <= stop <= len(data)
        end = stop
    unpack_seal(data)
    try:
        size = header_size(data)
        assert size <= HEADER_BYTES_MAX
        if 0 < size <= len(data):
            unpack_header(data[:size])
    except DamageError:
        pass


def parameters(data: bytes) -> None:
    """SPS, PPS and VPS of either codec: read or refused, held by id, and stored as codec configurations."""
    feed = Feed(data)
    codec = feed.one_of("h264", "h265")
    held = ParameterSets(codec)
    given = []
    while feed.more and len(given) < 16:
        nal = feed.blob()[:5000]
        given.append(nal)
        held.add(nal)
        assert not held.add(nal), "the same set changed something twice"
    vps, sps, pps = held.snapshot()
    assert len(vps) <= 16
    assert len(sps) <= 32
    assert len(pps) <= 256
    assert {*vps, *sps, *pps} <= {*given}
    for nal in given:
        for parse in (sets.parse_h264_sps, sets.parse_h265_sps):
            try:
                shown = parse(nal)
                assert 0 < shown.width <= 16384
                assert 0 < shown.height <= 16384
            except DamageError:
                continue
        assert sets.h265_vps_rate(nal) >= 0
    config = VideoConfig(codec, vps, sps, pps)  # type: ignore[arg-type]
    try:
        codecs.frame_rate(config)
        codecs.codec_string(config)
        for in_band in (False, True):
            entry = codecs.sample_entry(config, in_band=in_band)
            assert all(nal in entry for nal in (*sps[:31], *pps[:255]))
    except CameraError:
        pass
