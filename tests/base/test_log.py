"""No secret reaches the log."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from base.config import LogConfig
from base.log import get_logger, redact, setup


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("rtsp://admin:pass@10.0.0.1/live", "rtsp://***@10.0.0.1/live"),
        ("rtsp://admin:p@ss:w@10.0.0.1:554/", "rtsp://***@10.0.0.1:554/"),
        ("rtsp://admin:p/a#s?s@10.0.0.1/live", "rtsp://***@10.0.0.1/live"),
        ("rtsp://10.0.0.1/cam?user=admin&password=secret&ch=1", "rtsp://10.0.0.1/cam?user=***&password=***&ch=1"),
        ("no address here", "no address here"),
        ("http://host/path?mail=a@b", "http://host/path?mail=a@b"),
        ("Authorization: Digest username=admin, response=abc", "Authorization: ***"),
        ("sent Bearer 0123456789", "sent Bearer ***"),
        ("basic authentication refused", "basic authentication refused"),
    ],
)
def test_redact(text: str, clean: str) -> None:
    assert redact(text) == clean


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/?#"), min_size=3))
def test_no_password_survives(password: str) -> None:
    marked = f"SECRET{password}SECRET"
    assert "SECRET" not in redact(f"failed: rtsp://user:{marked}@host/path")


def test_events_are_json_lines_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    setup("test", LogConfig(form="json"))
    get_logger(stream="gate.main").warning(
        "camera refused",
        url="rtsp://u:secret@h/",
        token="secret",
        headers={"Authorization": "secret"},
        more=["rtsp://u:secret@h/"],
        error=ValueError("rtsp://u:secret@h/"),
    )
    get_logger().debug("below the level")
    line = capsys.readouterr().err
    assert "secret" not in line
    event = json.loads(line)
    assert (event["program"], event["stream"], event["level"]) == ("test", "gate.main", "warning")
    assert event["url"] == "rtsp://***@h/"


def test_tracebacks_are_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    setup("test", LogConfig(form="json"))
    try:
        raise ValueError("rtsp://u:secret@h/")
    except ValueError:
        get_logger().exception("failed")
    line = capsys.readouterr().err
    assert "secret" not in line
    assert "Traceback" in line


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """No later test logs to a stream that was this one's."""
    yield
    structlog.reset_defaults()
