"""Times of packets: counters that wrap, and audio in coarse units."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from base.errors import CameraError
from base.media import AudioConfig, VideoConfig
from native.sink import CollectSink
from sources.feed import Feed, Wrap
from sources.formats import Layout, adts_config, split_annexb, strip_adts, video_config
from sources.live import _Item, backdated

SPS, PPS = b"\x67\x64\x00\x0c\x01", b"\x68\xee\x3c"


def packet(stream: int, pts: int | None, unit: Fraction, data: bytes = b"\0\0\1\x65abc") -> av.Packet:
    made = av.Packet(data)
    made.pts = made.dts = pts
    made.time_base = unit
    return made


@pytest.mark.parametrize("period", [1 << 33, (1 << 32) * 90])
def test_a_counter_that_wraps_goes_on(period: int) -> None:
    wrap = Wrap(period)
    times = [Fraction(period - 7200 + i * 3600) for i in range(6)]
    assert [wrap.unwrap(time % period) for time in times] == times
    assert wrap.unwrap((times[-1] - 3600) % period) == times[-1] - 3600, "a step back over the border too"
    assert Wrap(0).unwrap(Fraction(5)) == 5


def test_many_turns() -> None:
    wrap, period = Wrap(1 << 33), 1 << 33
    times = [Fraction(i * (period // 3)) for i in range(20)]
    assert [wrap.unwrap(time % period) for time in times] == times


def test_audio_in_milliseconds_is_laid_end_to_end() -> None:
    layout = Layout(0, VideoConfig("h264"), 0, 0, AudioConfig("aac", 44_100, 2, b"\x12\x10"))
    feed, unit = Feed(layout, CollectSink(), CollectSink()), Fraction(1, 1000)
    told = [round(i * 1024 * 1000 / 44_100) for i in range(40)]
    assert [feed.audio_time(packet(0, ms, unit)) for ms in told] == [1024 * i for i in range(40)]
    assert feed.audio_time(packet(0, told[-1] + 5000, unit)) == round((told[-1] + 5000) * 44.1), "a real pause stays"


def test_configuration_records() -> None:
    avcc = b"\1\x64\0\x0c\xfd\xe1" + len(SPS).to_bytes(2, "big") + SPS + b"\1" + len(PPS).to_bytes(2, "big") + PPS
    assert video_config("h264", avcc) == (VideoConfig("h264", (), (SPS,), (PPS,)), 2)
    assert video_config("h264", b"\0\0\0\1" + SPS + b"\0\0\1" + PPS) == (VideoConfig("h264", (), (SPS,), (PPS,)), 0)
    assert video_config("h264", b"") == (VideoConfig("h264"), 0)
    for cut in range(1, len(avcc)):
        config, width = video_config("h264", avcc[:cut])
        assert config.codec == "h264"
        assert 1 <= width <= 4
    assert split_annexb(b"") == []
    for size in range(60):
        assert video_config("h265", bytes([1]) + bytes(range(size)))[0].codec == "h265"


def test_adts() -> None:
    assert adts_config(48_000, 2) == b"\x11\x90"
    assert adts_config(1, 2) == b""
    assert strip_adts(b"\xff\xf1" + bytes(5) + b"abc") == b"abc"
    assert strip_adts(b"\xff\xf0" + bytes(7) + b"abc") == b"abc"
    assert strip_adts(b"abc") == b""


def test_a_burst_is_dated_by_its_newest_packet() -> None:
    unit = Fraction(1, 1000)
    burst = [_Item(packet(0, ms, unit), 5_000_000 + ms) for ms in range(0, 1000, 100)]  # a second in a millisecond
    burst.append(_Item(packet(0, 1000, unit), 5_050_000))
    assert [item.arrival_us for item in backdated(burst)] == [4_050_000 + ms * 1000 for ms in range(0, 1001, 100)]


def test_nothing_that_can_be_stored() -> None:
    from sources.formats import _no_video

    class Stream:
        type = "video"

        class codec_context:
            name = "mjpeg"

            class codec:
                canonical_name = "mjpeg"

    error: CameraError = _no_video([Stream()], "http://camera/")
    assert error.reason == "codec"
    assert "MJPEG" in str(error)
