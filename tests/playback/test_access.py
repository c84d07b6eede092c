from __future__ import annotations

import pytest

from playback.access import SESSION_S, Access, is_local_host

TOKEN = "a-token-of-enough-length"


def test_the_token_is_compared_whole() -> None:
    access = Access(TOKEN)
    assert access.token_valid(TOKEN)
    for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\udcff"):
        assert not access.token_valid(wrong)


def test_a_session_holds_until_it_expires_and_cannot_be_made_up() -> None:
    access = Access(TOKEN)
    value = access.new_session(now_s=1000)
    assert access.session_valid(value, now_s=1000 + SESSION_S - 1)
    assert not access.session_valid(value, now_s=1000 + SESSION_S)
    expires, _, signature = value.partition(".")
    for wrong in ("", ".", signature, f"{int(expires) + 1}.{signature}", f"{expires}.", f"{expires}.é", f"²{value}"):
        assert not access.session_valid(wrong, now_s=1000)
    assert not Access(TOKEN + "2").session_valid(value, now_s=1000)
    assert TOKEN not in value


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1:8787", True),
        ("localhost", True),
        ("[::1]:8787", True),
        ("127.9.9.9", True),
        ("evil.example:8787", False),
        ("127.0.0.1.evil.example", False),
        ("192.168.1.4:8787", False),
        ("", False),
        ("[", False),
    ],
)
def test_only_loopback_names_are_local(host: str, local: bool) -> None:
    assert is_local_host(host) is local
