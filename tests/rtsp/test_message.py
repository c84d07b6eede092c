from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import CameraError
from rtsp.message import Headers, Message, MessageParser, Request, Response

_token = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=20)
_value = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)
_headers = st.lists(st.tuples(_token.filter(lambda n: n.lower() != "content-length"), _value), max_size=6)


def _reason(data: bytes, **bounds: int) -> str:
    with pytest.raises(CameraError) as caught:
        MessageParser(**bounds).feed(data)  # type: ignore[arg-type]
    return caught.value.reason


@given(_headers, st.binary(max_size=200), st.integers(100, 599), st.data())
def test_written_messages_parse_back_however_they_are_cut(
    headers: list[tuple[str, str]], body: bytes, status: int, data: st.DataObject
) -> None:
    sent: list[Message] = [
        Response(status, "Some Phrase", Headers(headers), body),
        Request("SET_PARAMETER", "rtsp://cam/a b".replace(" ", "%20"), Headers(headers), body),
    ]
    wire = b"".join(message.encode() for message in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    parser = MessageParser()
    got = [m for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True) for m in parser.feed(wire[a:b])]
    assert parser.pending_bytes == 0
    assert [m.body for m in got] == [body, body]
    for message, original in zip(got, sent, strict=True):
        assert type(message) is type(original)
        assert [h for h in message.headers if h[0].lower() != "content-length"] == headers


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_parser(data: bytes) -> None:
    for wire in (data, b"RTSP/1.0 200 OK\r\n" + data):
        with contextlib.suppress(CameraError):
            MessageParser().feed(wire)


def test_interleaved_frames_are_stepped_over() -> None:
    frames: list[tuple[int, bytes]] = []
    parser = MessageParser(on_interleaved=lambda channel, data: frames.append((channel, data)))
    got = parser.feed(b"$\x01\x00\x03abcOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x03\x00\x00$\x01\x00\x05ab")
    assert [m.method for m in got if isinstance(m, Request)] == ["OPTIONS"]
    assert frames == [(1, b"abc"), (3, b"")]
    assert parser.pending_bytes == 6


def test_consume_stops_at_the_end_of_one_message() -> None:
    parser = MessageParser()
    assert parser.consume(b"RTSP/1.0 200 OK\r\nContent-Le") == (27, None)
    taken, message = parser.consume(b"ngth: 2\r\n\r\nhi$\x00\x00\x04")
    assert taken == 13
    assert isinstance(message, Response)
    assert message.body == b"hi"


def test_blanks_and_line_ends_as_cameras_send_them() -> None:
    (message,) = MessageParser().feed(b"\r\n\r\nRTSP/1.0 200\nSession:        708345999 \nX: a\n b\n\n")
    assert isinstance(message, Response)
    assert (message.status, message.headers.get("session"), message.headers.get("X")) == (200, "708345999", "a b")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "not-rtsp"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not-rtsp"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "not-rtsp"),
        (b"220 mail ESMTP\r\n", "not-rtsp"),
        (b"RTSP/1.0 two hundred\r\n\r\n", "not-rtsp"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n", "protocol"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 10485760\r\n\r\n", "too-large"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "too-large"),
        (b"RTSP/1.0 200 OK\r\nX: " + b"a" * 70_000, "too-large"),
    ],
)
def test_what_is_refused(data: bytes, reason: str) -> None:
    assert _reason(data) == reason


def test_a_header_with_a_line_break_is_never_written() -> None:
    with pytest.raises(ValueError, match="line break"):
        Headers([("X", "a\r\nY: b")])
    with pytest.raises(ValueError, match="line break"):
        Request("OPTIONS", "rtsp://a\r\nb").encode()


def test_a_lone_carriage_return_is_a_blank() -> None:
    (message,) = MessageParser().feed(b"RTSP/1.0 200 O\rK\r\nC\rSeq: 1\r2\r\n\r\n")
    assert isinstance(message, Response)
    assert message.phrase == "O K"
    assert [*message.headers] == [("C Seq", "1 2")]
    assert MessageParser().feed(message.encode()) == [message]


def test_a_status_that_is_no_number_of_three_digits_is_refused() -> None:
    assert _reason(b"RTSP/1.0 001 OK\r\n\r\n") == "not-rtsp"


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n"])
def test_the_bound_of_a_head_is_the_same_however_it_is_cut(end: bytes) -> None:
    start = b"OPTIONS * RTSP/1.0\r\nA: "
    whole = start + b"b" * (100 - len(start)) + end
    assert len(MessageParser(head_bytes_max=100).feed(whole)) == 1
    parser = MessageParser(head_bytes_max=100)
    assert sum(len(parser.feed(whole[i : i + 1])) for i in range(len(whole))) == 1
    assert _reason(whole, head_bytes_max=99) == "too-large"
