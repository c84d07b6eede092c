"""Basic and Digest authentication, the answering and the checking side (RFC 7616, RFC 2617, RFC 7617).

Kept true: a password never goes out in clear unless the caller allowed Basic; the strongest scheme offered is
answered; a challenge's text is bounded and can only fail with `CameraError`; checks compare in constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from base.errors import CameraError

Algorithm = Literal["MD5", "SHA-256"]
_HASHES: Final = {"MD5": "md5", "SHA-256": "sha256"}
_CHALLENGE_BYTES_MAX: Final = 4096
_SCHEME: Final = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?=\s+[A-Za-z-]+\s*=|\s*$|\s+[A-Za-z0-9+/=]+\s*$)")
_PARAM: Final = re.compile(r'\s*,?\s*([A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme of a WWW-Authenticate header, or one Authorization header; parameter names in lower case."""

    scheme: str
    params: dict[str, str]
    token: str = ""


def parse_challenges(text: str) -> list[Challenge]:
    """Schemes and parameters of a WWW-Authenticate or Authorization value, several schemes in one value too."""
    challenges: list[Challenge] = []
    text = text[:_CHALLENGE_BYTES_MAX]
    at = 0
    while scheme := _SCHEME.match(text, at):
        at = scheme.end()
        params: dict[str, str] = {}
        while param := _PARAM.match(text, at):
            quoted = param[2]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else param[3]
            params.setdefault(param[1].lower(), value)
            at = param.end()
        token = "" if params else text[at:].strip()
        challenges.append(Challenge(scheme[1].lower(), params, token))
        if token:
            break
    return challenges


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def digest_response(
    params: dict[str, str], username: str, password: str, method: str, *, nc: str = "", cnonce: str = ""
) -> str:
    """The `response` value for a challenge's or an answer's parameters (RFC 7616 §3.4.1; without qop, RFC 2069)."""
    algorithm = params.get("algorithm", "MD5").upper()
    name = _HASHES[algorithm.removesuffix("-SESS")]

    def digest(text: str) -> str:
        return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()

    secret = digest(f"{username}:{params.get('realm', '')}:{password}")
    if algorithm.endswith("-SESS"):
        secret = digest(f"{secret}:{params.get('nonce', '')}:{cnonce}")
    action = digest(f"{method}:{params.get('uri', '')}")
    if params.get("qop"):
        return digest(f"{secret}:{params.get('nonce', '')}:{nc}:{cnonce}:auth:{action}")
    return digest(f"{secret}:{params.get('nonce', '')}:{action}")


class Authenticator:
    """The client's side: takes the challenges of a 401 and writes the Authorization value of each request."""

    def __init__(self, username: str, password: str, *, allow_basic: bool = False) -> None:
        self._username = username
        self._password = password
        self._allow_basic = allow_basic
        self._chosen: Challenge | None = None
        self._count = 0

    @property
    def realm(self) -> str:
        """Of the challenge that is answered; many makes put a serial number into it."""
        return self._chosen.params.get("realm", "") if self._chosen is not None else ""

    def accept(self, values: Iterable[str]) -> bool:
        """Choose from the WWW-Authenticate values of a 401; False when the answer just given was refused.

        A nonce that served before may have run out, said so or not; a fresh one that is refused means the password.
        """
        offered = [challenge for value in values for challenge in parse_challenges(value)]
        ranked = sorted((c for c in offered if _rank(c) > 0), key=_rank, reverse=True)
        if not ranked:
            names = ", ".join(sorted({c.scheme for c in offered})) or "nothing"
            raise CameraError(f"the camera asks for {names}; Digest or Basic is needed", reason="unauthorized")
        chosen = ranked[0]
        if chosen.scheme == "basic" and not self._allow_basic:
            raise CameraError(
                "the camera offers only Basic, which sends the password in clear; use rtsps:// or allow Basic for it",
                reason="basic-refused",
            )
        stale = chosen.scheme == "digest" and (self._count > 1 or chosen.params.get("stale", "").lower() == "true")
        refused = self._count > 0 and not stale
        self._chosen = chosen
        self._count = 0
        return not refused

    def authorize(self, method: str, url: str) -> str | None:
        """The Authorization value for one request, None before any challenge."""
        chosen = self._chosen
        if chosen is None:
            return None
        self._count += 1
        if chosen.scheme == "basic":
            token = base64.b64encode(f"{self._username}:{self._password}".encode()).decode()
            return f"Basic {token}"
        return self._digest(chosen.params, method, url)

    def _digest(self, challenge: dict[str, str], method: str, url: str) -> str:
        nc, cnonce = f"{self._count:08x}", secrets.token_hex(8)
        params = {**challenge, "uri": url, "qop": "auth" if challenge.get("qop") else ""}
        response = digest_response(params, self._username, self._password, method, nc=nc, cnonce=cnonce)
        fields = [
            f"username={_quoted(self._username)}", f"realm={_quoted(challenge.get('realm', ''))}",
            f"nonce={_quoted(challenge.get('nonce', ''))}", f"uri={_quoted(url)}", f'response="{response}"',
        ]  # fmt: skip
        if "algorithm" in challenge:
            fields.append(f"algorithm={challenge['algorithm']}")
        if "opaque" in challenge:
            fields.append(f"opaque={_quoted(challenge['opaque'])}")
        if params["qop"]:
            fields += ["qop=auth", f"nc={nc}"]
        if params["qop"] or challenge.get("algorithm", "").upper().endswith("-SESS"):
            fields.append(f'cnonce="{cnonce}"')
        return "Digest " + ", ".join(fields)


def _rank(challenge: Challenge) -> int:
    """0 = cannot be answered; higher is stronger."""
    if challenge.scheme == "basic":
        return 1
    if challenge.scheme != "digest" or "nonce" not in challenge.params:
        return 0
    qops = challenge.params.get("qop", "")
    if qops and "auth" not in [qop.strip().lower() for qop in qops.split(",")]:
        return 0
    algorithm = challenge.params.get("algorithm", "MD5").upper().removesuffix("-SESS")
    return {"MD5": 2, "SHA-256": 3}.get(algorithm, 0)


@dataclass(slots=True)
class DigestChallenge:
    """The server's side of Digest: `header()` goes into WWW-Authenticate, `check()` judges an Authorization value."""

    realm: str
    algorithm: Algorithm = "MD5"
    qop: bool = True
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))

    def header(self, *, stale: bool = False) -> str:
        parts = [f"realm={_quoted(self.realm)}", f'nonce="{self.nonce}"', f"algorithm={self.algorithm}"]
        parts += ['qop="auth"'] if self.qop else []
        parts += ["stale=true"] if stale else []
        return "Digest " + ", ".join(parts)

    def check(self, authorization: str, method: str, username: str, password: str) -> bool:
        """True when the value proves the password for this nonce and method; never raises."""
        given = next((c for c in parse_challenges(authorization) if c.scheme == "digest"), None)
        if given is None:
            return False
        params = given.params
        if params.get("nonce") != self.nonce or params.get("realm") != self.realm:
            return False
        if params.get("username") != username or bool(params.get("qop")) != self.qop:
            return False
        wanted = digest_response(
            {**params, "algorithm": self.algorithm}, username, password, method,
            nc=params.get("nc", ""), cnonce=params.get("cnonce", ""),
        )  # fmt: skip
        return hmac.compare_digest(wanted.encode(), params.get("response", "").encode())


def check_basic(authorization: str, username: str, password: str) -> bool:
    """True when the value is Basic with exactly this name and password; never raises."""
    scheme, _, token = authorization.partition(" ")
    try:
        given = base64.b64decode(token.strip(), validate=True)
    except ValueError:
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(given, f"{username}:{password}".encode())
