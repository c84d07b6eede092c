from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from rtsp.rtcp import Bye, ReportBlock, SenderReport, parse, receiver_report


def sender_report(seconds: int, fraction: int, rtp_time: int) -> bytes:
    return struct.pack(">BBHIIIIII", 0x80, 200, 6, 7, seconds, fraction, rtp_time, 10, 1000)


def test_a_compound_packet() -> None:
    sdes = b"\x81\xca\0\2\0\0\0\7\1\2ab"
    bye = b"\x82\xcb\0\2\0\0\0\7\0\0\0\x09"
    report = sender_report(2_208_988_800 + 1_700_000_000, 1 << 31, 0xFFFFFFFF)
    assert parse(report + sdes + bye) == [
        SenderReport(7, 1_700_000_000_500_000, (2_208_988_800 + 1_700_000_000 & 0xFFFF) << 16 | 0x8000, 0xFFFFFFFF),
        Bye((7, 9)),
    ]


def test_clocks_of_cameras() -> None:
    def unix_us(seconds: int, fraction: int = 0) -> int | None:
        (report,) = parse(sender_report(seconds, fraction, 0))
        assert isinstance(report, SenderReport)
        return report.ntp_unix_us

    assert unix_us(0) is None  # it does not know
    assert unix_us(2_208_988_800) == 0
    assert unix_us(100) == ((1 << 32) + 100 - 2_208_988_800) * 1_000_000  # after February 2036


@given(st.binary(max_size=100))
def test_no_bytes_crash(data: bytes) -> None:
    parse(data)
    parse(b"\x80\xc8" + data)
    parse(b"\x9f\xcb" + data)


@given(st.integers(-(1 << 30), 1 << 30), st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(0, 10))
def test_receiver_reports_keep_their_layout(lost: int, jitter: int, delay_us: int, count: int) -> None:
    block = ReportBlock(1, 255, lost, 2, jitter, 3, delay_us)
    data = receiver_report(9, [block] * count, "host")
    sizes = []
    at = 0
    while at < len(data):
        sizes.append(4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big"))
        at += sizes[-1]
    assert at == len(data)
    assert sizes == [8 + 24 * count, 16]
    if count:
        assert int.from_bytes(data[13:16], "big", signed=True) == min(max(lost, -(1 << 23)), (1 << 23) - 1)
