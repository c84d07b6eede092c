from __future__ import annotations

import base64
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import CameraError
from base.media import AudioConfig
from native.sink import Sink
from rtsp.headers import parse_public, parse_rtp_info, parse_session, parse_transport
from rtsp.message import MessageParser, Response
from rtsp.sdp import Presentation, join_control, parse
from rtsp.track import PlayingTrack

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus" / "rtsp"
corpus = [
    pytest.mark.needs_corpus,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="recorded camera answers are kept beside the project; not here"),
]


def answer(name: str) -> Response:
    (message,) = MessageParser().feed((CORPUS / name).read_bytes())
    assert isinstance(message, Response)
    assert message.status == 200
    return message


def described(name: str) -> Presentation:
    if name.endswith("_sdp.txt"):
        return parse((CORPUS / name).read_bytes(), "rtsp://cam/live")
    response = answer(name)
    return parse(response.body, response.headers.get("Content-Base", "rtsp://cam/live"))


def gist(presentation: Presentation) -> list[tuple[str, str, int, int, int, str]]:
    return [
        (t.kind, t.codec, t.payload_type, t.clock_hz, t.channels, t.control_url.rpartition("/")[2])
        for t in presentation.tracks
    ]


class TestCameras:
    pytestmark = corpus

    @pytest.mark.parametrize(
        ("name", "wanted"),
        [
            ("anpviz_sdp.txt", [
                ("video", "h264", 96, 90000, 1, "trackID=1"), ("audio", "aac", 0, 16000, 1, "trackID=2")]),
            ("bunny_describe.txt", [
                ("audio", "aac", 96, 12000, 2, "trackID=1"), ("video", "h264", 97, 90000, 1, "trackID=2")]),
            ("dahua_describe_h264_aac_onvif.txt", [
                ("video", "h264", 96, 90000, 1, "trackID=0"), ("audio", "aac", 97, 48000, 1, "trackID=1"),
                ("metadata", "metadata", 107, 90000, 1, "trackID=4")]),
            ("dahua_describe_h265_pcma.txt", [
                ("video", "h265", 98, 90000, 1, "trackID=0"), ("audio", "pcma", 8, 8000, 1, "trackID=1")]),
            ("foscam_describe.txt", [
                ("video", "h264", 96, 90000, 1, "track1"), ("audio", "pcmu", 0, 8000, 1, "track2")]),
            ("hikvision_describe.txt", [
                ("video", "h264", 96, 90000, 1, "trackID=1?transportmode=unicast&profile=Profile_1"),
                ("metadata", "metadata", 107, 90000, 1, "trackID=3?transportmode=unicast&profile=Profile_1")]),
            ("ipcam_describe.txt", [("video", "h264", 96, 90000, 1, "trackID=1")]),
            ("missing_content_type_describe.txt", [
                ("video", "h264", 96, 90000, 1, "streamid=0"), ("audio", "aac", 97, 48000, 2, "streamid=1")]),
            ("reolink_describe.txt", [
                ("video", "h264", 96, 90000, 1, "trackID=1"), ("audio", "aac", 97, 16000, 1, "trackID=2")]),
            ("ubiquiti_sdp.txt", [
                ("audio", "aac", 96, 48000, 1, "trackID=0"), ("audio", "opus", 96, 48000, 2, "trackID=1"),
                ("video", "h264", 97, 90000, 1, "trackID=2")]),
        ],
    )  # fmt: skip
    def test_describe(self, name: str, wanted: list[tuple[str, str, int, int, int, str]]) -> None:
        presentation = described(name)
        assert gist(presentation) == wanted
        video = presentation.first("video")
        assert video is not None
        assert video.video is not None
        assert len(video.video.sps) == len(video.video.pps) == 1
        assert len(video.video.vps) == (video.codec == "h265")
        audio = presentation.first("audio")
        if audio is not None and audio.codec == "aac":
            assert audio.aac_lengths == (13, 3, 3)
            assert audio.aac_frame_ticks == 1024

    def test_every_description_is_covered(self) -> None:
        names = {path.name for path in CORPUS.iterdir() if "describe" in path.name or "sdp" in path.name}
        assert len(names) == 10

    def test_control_urls(self) -> None:
        dahua = described("dahua_describe_h264_aac_onvif.txt")
        base = "rtsp://192.168.5.111:554/cam/realmonitor?channel=1&subtype=1&unicast=true&proto=Onvif/"
        assert (dahua.control_url, dahua.tracks[0].control_url) == (base, base + "trackID=0")
        hikvision = described("hikvision_describe.txt")
        assert hikvision.control_url == (
            "rtsp://192.168.5.106:554/Streaming/Channels/101/?transportmode=unicast&profile=Profile_1"
        )

    def test_parameter_set_without_bytes_behind_its_stop_bit(self) -> None:
        video = described("dahua_describe_h264_aac_onvif.txt").tracks[0].video
        assert video is not None
        assert video.pps == (bytes.fromhex("68ee31b21b"),)

    def test_aac_configurations(self) -> None:
        audio = described("missing_content_type_describe.txt").tracks[1].audio
        assert audio == AudioConfig("aac", 48000, 2, bytes.fromhex("119056E500"))

    @pytest.mark.parametrize(
        ("name", "session", "timeout_s", "channels", "ssrc"),
        [
            ("bunny_setup.txt", "1642021126", 60, (0, 1), None),
            ("dahua_setup.txt", "634214675641", 60, (0, 1), 0x30A98EE7),
            ("hikvision_setup.txt", "708345999", 60, (0, 1), 0x4CACC3D1),
            ("hikvision_setup_ssrc_space.txt", "708886412", 60, (0, 1), 0xD6D6627),
            ("reolink_setup.txt", "F8F8E425", 60, (0, 1), None),
        ],
    )
    def test_setup(self, name: str, session: str, timeout_s: int, channels: tuple[int, int], ssrc: int | None) -> None:
        headers = answer(name).headers
        got = parse_session(headers.get("Session"))
        assert got is not None
        assert (got.id, got.timeout_s) == (session, timeout_s)
        transport = parse_transport(headers.get("Transport"))
        assert (transport.interleaved, transport.ssrc) == (channels, ssrc)

    @pytest.mark.parametrize(
        ("name", "wanted"),
        [
            ("bad_rtptime.txt", [("trackID=1", 1, None), ("trackID=2", 1, None)]),
            ("bunny_play.txt", [("trackID=1", 1, 0), ("trackID=2", 1, 0)]),
            ("dahua_play.txt", [
                ("trackID=0", 47121, 3475222385), ("trackID=1", 45186, 2234446919), ("trackID=4", 36583, 816418535)]),
            ("hikvision_play.txt", [
                ("trackID=1?transportmode=unicast&profile=Profile_1", 24104, 1270711678)]),
            ("laureii_play.txt", [("trackID=0", 0, 0)]),
            ("reolink_play.txt", [("trackID=1", 16852, 1070938629), ("trackID=2", 39409, 3075976528)]),
        ],
    )  # fmt: skip
    def test_play(self, name: str, wanted: list[tuple[str, int | None, int | None]]) -> None:
        got = parse_rtp_info(answer(name).headers.get("RTP-Info"))
        assert [(i.url.rpartition("/")[2], i.sequence, i.rtp_time) for i in got] == wanted
        if name == "reolink_play.txt":
            assert [i.ssrc for i in got] == [0xDCC4A0D8, 0x9FC9FFF8]

    def test_options_and_teardown(self) -> None:
        assert "GET_PARAMETER" in parse_public(answer("dahua_options.txt").headers.get("Public"))
        assert "Session" not in answer("reolink_teardown.txt").headers


def sdp(*lines: str) -> Presentation:
    return parse("\r\n".join(["v=0", *lines, ""]).encode(), "rtsp://cam/a")


def test_parameter_sets_are_ordered_by_their_id() -> None:
    one, zero = bytes.fromhex("684ee3c80"[:8]), bytes.fromhex("68ee3c80")
    sets = ",".join(base64.b64encode(n).decode() for n in (one, zero))
    track = sdp("m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000", f"a=fmtp:96 sprop-parameter-sets={sets},!!,A").tracks[
        0
    ]
    assert track.video is not None
    assert track.video.pps == (zero, one)


def test_codecs_we_do_not_record_stay_visible() -> None:
    got = sdp(
        "m=video 0 RTP/AVP 26", "m=audio 0 RTP/AVP 97", "a=rtpmap:97 MP4A-LATM/48000", "m=text 0 RTP/AVP 99", "m=audio",
        "m=audio 0 RTP/AVP 98", "a=rtpmap:98 mpeg4-generic/8000", "a=fmtp:98 config=zz",
    )  # fmt: skip
    assert [(t.kind, t.codec, t.recordable) for t in got.tracks] == [
        ("video", "", False), ("audio", "mp4a-latm", False), ("other", "", False), ("audio", "", False),
        ("audio", "aac", False),
    ]  # fmt: skip
    assert got.first("video") is None


def test_sbr_frame_is_counted_in_the_clock_of_the_track() -> None:
    # object type 5 (SBR), core 24 kHz, stereo, extension 48 kHz, core object type 2
    config = f"{(5 << 27 | 6 << 23 | 2 << 19 | 3 << 15 | 2 << 10):08x}"
    track = sdp("m=audio 0 RTP/AVP 97", "a=rtpmap:97 mpeg4-generic/48000/2", f"a=fmtp:97 config={config}").tracks[0]
    assert (track.aac_frame_ticks, track.channels) == (2048, 2)


def test_numbers_of_tracks_and_lines_are_bounded() -> None:
    assert len(sdp(*["m=video 0 RTP/AVP 96"] * 1000).tracks) == 8
    assert sdp("m=video 0 RTP/AVP 96", *["a=control:x"] * 100_000).tracks[0].control_url == "rtsp://cam/a/x"


def test_an_answer_without_media_is_refused() -> None:
    with pytest.raises(CameraError) as caught:
        parse(b"<html>hello</html>", "rtsp://cam/a")
    assert caught.value.reason == "protocol"


_PIECES = [
    *("m=", "a=rtpmap:", "a=fmtp:96 ", "a=control:", "96", " ", "/", "=", ";", "\n", "\u00b2"),
    *("H264", "sprop-parameter-sets=", "config=", "mpeg4-generic", "9" * 30),
]


@given(st.lists(st.sampled_from(_PIECES), max_size=40).map("".join))
def test_no_description_crashes(text: str) -> None:
    parse(("m=video 0 RTP/AVP 96\n" + text).encode(), "rtsp://cam/a")
    with contextlib.suppress(CameraError):
        parse(text.encode(), "rtsp://cam/a")


@given(st.text(max_size=100))
def test_no_header_value_crashes(text: str) -> None:
    parse_transport("RTP/AVP;interleaved=" + text)
    parse_session(text)
    parse_rtp_info("url=" + text)


def test_join_control() -> None:
    assert join_control("rtsp://h/p/", "*") == "rtsp://h/p/"
    assert join_control("rtsp://h/p", "track1") == "rtsp://h/p/track1"
    assert join_control("rtsp://h/p", "rtsp://x/y") == "rtsp://x/y"


def test_parameter_sets_that_are_not_ascii_are_left_out() -> None:
    (track,) = sdp("m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000", "a=fmtp:96 sprop-parameter-sets=\u00e9").tracks
    assert track.video is not None
    assert track.video.sps == ()


@pytest.mark.parametrize("config", ["1780000088", "17fffffff88"[:10]])  # core rates of 1 Hz and 16.7 MHz
def test_an_aac_frame_of_no_time_or_of_hours_is_not_believed(config: str) -> None:
    (track,) = sdp("m=audio 0 RTP/AVP 97", "a=rtpmap:97 mpeg4-generic/8000", f"a=fmtp:97 config={config}").tracks
    assert track.aac_frame_ticks == 1024
    PlayingTrack(track, Sink(), udp=False).end()
