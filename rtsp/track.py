"""One track while it plays: its receiver, its counters and what RTCP says of it.

Kept true: the counters only grow while a track plays; a camera's clock is tied to an RTP time by the newest sender
report alone, unwrapped when it came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from native.rtp import Receiver
from native.sink import Sink
from rtsp.rtcp import ReportBlock, SenderReport
from rtsp.sdp import Track
from rtsp.transport import UdpPair

REORDER_PACKETS: Final = 128
JUDGED_PACKETS: Final = 50  # a few seconds of a slow camera


@dataclass(frozen=True, slots=True)
class TrackStats:
    """Counters of one track since it was set up; `jitter` is in ticks of its clock."""

    packets: int
    bytes: int
    lost_packets: int
    reordered_packets: int
    duplicate_packets: int
    malformed_packets: int
    jitter: float
    last_arrival_us: int


class PlayingTrack:
    """A track of a presentation with its receiver, from SETUP to the end."""

    def __init__(self, track: Track, sink: Sink, *, udp: bool) -> None:
        codec = track.codec if track.recordable else "metadata"  # counted and nothing more
        self.receiver = Receiver(
            codec, sink,
            payload_type=track.payload_type, clock_hz=track.clock_hz, donl=track.donl,
            aac_lengths=track.aac_lengths, aac_frame_ticks=track.aac_frame_ticks,
            reorder_packets=REORDER_PACKETS if udp else 0,
        )  # fmt: skip
        self.track = track
        self.udp: UdpPair | None = None
        self.rtcp_channel = 0
        self.said_bye = False
        self._report: SenderReport | None = None
        self._report_time: int | None = None  # its RTP time, unwrapped
        self._reported_at_us = 0
        self._judged_packets = 0
        self._judged_foreign = 0
        self._past_expected = 0
        self._past_received = 0

    def stats(self) -> TrackStats:
        """The counters as they stand."""
        receiver = self.receiver
        return TrackStats(
            packets=receiver.packets,
            bytes=receiver.bytes,
            lost_packets=receiver.lost_packets,
            reordered_packets=receiver.reordered_packets,
            duplicate_packets=receiver.duplicate_packets,
            malformed_packets=receiver.malformed_packets,
            jitter=receiver.jitter,
            last_arrival_us=receiver.last_arrival_us,
        )

    def take_sender_report(self, report: SenderReport, now_us: int) -> None:
        """Keep the newest."""
        self._report = report
        self._report_time = self.receiver.unwrap(report.rtp_time)
        self._reported_at_us = now_us

    def sender_time(self) -> tuple[int, int] | None:
        """(camera's Unix time in µs, unwrapped RTP time); None when it did not tell or knows no time."""
        report = self._report
        if report is None or report.ntp_unix_us is None:
            return None
        if self._report_time is None:  # it came before the first packet
            self._report_time = self.receiver.unwrap(report.rtp_time)
        return None if self._report_time is None else (report.ntp_unix_us, self._report_time)

    def report_block(self, now_us: int) -> ReportBlock:
        """What we tell the camera, the fraction lost being that since the last call (RFC 3550 §A.3)."""
        receiver = self.receiver
        expected = receiver.expected_packets - self._past_expected
        received = receiver.received_packets - self._past_received
        self._past_expected, self._past_received = receiver.expected_packets, receiver.received_packets
        fraction = ((expected - received) << 8) // expected if 0 < received < expected else 0
        return ReportBlock(
            ssrc=receiver.ssrc,
            fraction_lost=min(fraction, 255),
            lost_packets=receiver.expected_packets - receiver.received_packets,
            highest_sequence=receiver.highest_sequence,
            jitter=int(receiver.jitter),
            last_report=self._report.ntp_middle if self._report is not None else 0,
            delay_us=max(now_us - self._reported_at_us, 0),
        )

    def sends_another_codec(self) -> bool:
        """Whether most of the newest packets cannot be what the camera announced; looked at once enough have come."""
        receiver = self.receiver
        packets = receiver.packets - self._judged_packets
        if packets < JUDGED_PACKETS:
            return False
        foreign = receiver.foreign_packets - self._judged_foreign
        self._judged_packets, self._judged_foreign = receiver.packets, receiver.foreign_packets
        return foreign * 2 > packets

    def end(self) -> None:
        """Release the ports and end the open unit; nothing reaches the sink after this."""
        if self.udp is not None:
            self.udp.close()
            self.udp = None
        self.receiver.finish()
