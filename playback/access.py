"""Who may call: the API token, its session cookie, and the checks that keep other web sites out.

Kept true: with a token configured nothing under /api and no metrics are answered without it; the token is compared in
constant time and never stored in a browser; without a token only requests addressed to this machine itself are
answered, so a web page elsewhere cannot reach the API through a name that resolves to loopback.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from playback.problems import Handler, Problem

COOKIE: Final = "keyreel_session"
SESSION_S: Final = 12 * 3600
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_OPEN_PATHS: Final = frozenset({"/api/v1/session"})  # where the token is handed in


class Access:
    """The node's token, or none; makes and checks session values."""

    def __init__(self, token: str | None) -> None:
        self._token = token.encode() if token else None

    @property
    def needs_token(self) -> bool:
        return self._token is not None

    def token_valid(self, offered: str) -> bool:
        """Whether `offered` is the token; takes the same time whatever it is."""
        if self._token is None:
            return True
        return hmac.compare_digest(_digest(offered.encode("utf-8", "surrogateescape")), _digest(self._token))

    def new_session(self, now_s: float | None = None) -> str:
        """A cookie value that proves the token was known, until it expires or the token changes."""
        expires = str(int((time.time() if now_s is None else now_s) + SESSION_S))
        return f"{expires}.{self._sign(expires)}"

    def session_valid(self, value: str, now_s: float | None = None) -> bool:
        """Whether a cookie value is one of ours and has not expired."""
        expires, _, signature = value.partition(".")
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
            return False
        if not hmac.compare_digest(self._sign(expires).encode(), signature.encode("utf-8", "surrogateescape")):
            return False
        return int(expires) > (time.time() if now_s is None else now_s)

    def allowed(self, request: web.Request) -> bool:
        """Whether the request carries the token or a valid session."""
        scheme, _, offered = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.token_valid(offered.strip())
        return self.session_valid(request.cookies.get(COOKIE, ""))

    def _sign(self, text: str) -> str:
        return hmac.new(self._token or b"", b"keyreel session " + text.encode(), hashlib.sha256).hexdigest()


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def is_local_host(host: str) -> bool:
    """Whether a Host header names this machine by loopback."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_origin(request: web.Request) -> None:
    """A browser's request that changes something, or opens a socket, must come from our own page."""
    origin = request.headers.get("Origin")
    if origin is None:
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Problem(403, "cross-site", "a page of another site may not do this; use the page this server gives")
        return
    if origin.lower() not in (f"http://{request.host}".lower(), f"https://{request.host}".lower()):
        raise Problem(403, "cross-site", "a page of another site may not do this; use the page this server gives")


def middleware(access: Access) -> Middleware:
    """The checks of this module before every handler."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not access.needs_token and not is_local_host(request.host):
            raise Problem(
                421,
                "host",
                "without an API token this server answers only to its own loopback address; "
                "set api.token_file to reach it under another name",
            )
        if request.method not in _SAFE_METHODS or request.headers.get("Upgrade", "").lower() == "websocket":
            check_origin(request)
        if access.needs_token and _guarded(request.path) and not access.allowed(request):
            raise Problem(
                401,
                "unauthorized",
                "this call needs the API token: send it as `Authorization: Bearer TOKEN`, "
                "or hand it in once with POST /api/v1/session",
                headers={"WWW-Authenticate": 'Bearer realm="keyreel"'},
            )
        return await handler(request)

    return check


def _guarded(path: str) -> bool:
    return (path.startswith("/api/") and path not in _OPEN_PATHS) or path == "/metrics"
