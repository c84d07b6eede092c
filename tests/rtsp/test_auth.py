from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import CameraError
from rtsp.auth import Algorithm, Authenticator, DigestChallenge, check_basic, digest_response, parse_challenges

URL = "rtsp://cam/stream?a=1&b=2"


def test_example_of_rfc_7616() -> None:
    for algorithm, wanted in [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ]:
        params = {
            "realm": "http-auth@example.org", "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "qop": "auth",
            "algorithm": algorithm, "uri": "/dir/index.html",
        }  # fmt: skip
        cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
        got = digest_response(params, "Mufasa", "Circle of Life", "GET", nc="00000001", cnonce=cnonce)
        assert got == wanted


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("qop", [True, False])
def test_client_answers_what_the_server_checks(algorithm: Algorithm, qop: bool) -> None:
    challenge = DigestChallenge('the "realm"', algorithm, qop)
    client = Authenticator('us"er', "pä:ss")
    assert client.authorize("DESCRIBE", URL) is None
    assert client.accept([challenge.header()])
    for method in ("DESCRIBE", "SETUP"):
        answer = client.authorize(method, URL)
        assert answer is not None
        assert challenge.check(answer, method, 'us"er', "pä:ss")
        assert not challenge.check(answer, "PLAY", 'us"er', "pä:ss")
        assert not challenge.check(answer, method, 'us"er', "other")
        assert not DigestChallenge('the "realm"', algorithm, qop).check(answer, method, 'us"er', "pä:ss")


def test_the_strongest_scheme_offered_is_answered() -> None:
    client = Authenticator("u", "p", allow_basic=True)
    assert client.accept(
        ['Basic realm="x"', 'Digest realm="x", nonce="n"', 'Digest realm="x", nonce="n", algorithm=SHA-256']
    )
    assert "algorithm=SHA-256" in (client.authorize("PLAY", URL) or "")


def test_several_schemes_in_one_value() -> None:
    got = parse_challenges('Basic realm="a, b", Digest realm=c,nonce="d=\\"e", stale=FALSE')
    assert [(c.scheme, c.params) for c in got] == [
        ("basic", {"realm": "a, b"}),
        ("digest", {"realm": "c", "nonce": 'd="e', "stale": "FALSE"}),
    ]


def test_a_refused_answer_is_told_from_a_stale_nonce() -> None:
    client = Authenticator("u", "p")
    assert client.accept(['Digest realm="x", nonce="1"'])
    client.authorize("DESCRIBE", URL)
    assert client.accept(['Digest realm="x", nonce="2", stale=TRUE'])
    client.authorize("DESCRIBE", URL)
    client.authorize("SETUP", URL)
    assert client.accept(['Digest realm="x", nonce="3"'])
    client.authorize("SETUP", URL)
    assert not client.accept(['Digest realm="x", nonce="4"'])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "unauthorized"),
        (["Negotiate"], "unauthorized"),
        (['Digest realm="x", nonce="n", algorithm=SHA-512-256'], "unauthorized"),
        (['Digest realm="x", nonce="n", qop="auth-int"'], "unauthorized"),
        (['Basic realm="x"'], "basic-refused"),
    ],
)
def test_what_cannot_be_answered(values: list[str], reason: str) -> None:
    with pytest.raises(CameraError) as caught:
        Authenticator("u", "p").accept(values)
    assert caught.value.reason == reason


def test_basic() -> None:
    client = Authenticator("u", "p:w", allow_basic=True)
    assert client.accept(['Basic realm="x"'])
    answer = client.authorize("PLAY", URL) or ""
    assert check_basic(answer, "u", "p:w")
    assert not check_basic(answer, "u", "p")
    assert not check_basic("Basic !!!", "u", "p")


@given(st.text(max_size=200))
def test_no_text_crashes_a_check(text: str) -> None:
    parse_challenges(text)
    assert not DigestChallenge("r").check("Digest " + text, "PLAY", "u", "p")
    assert not check_basic(text, "u", "p")
