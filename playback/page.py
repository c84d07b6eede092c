"""The web page: files of `playback/static`, built from `playback/web`, read once, sent with a tight content policy.

Kept true: the page loads nothing from anywhere else and may not be framed; a file's ETag is its content's hash, so a
new version is seen at the next load.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from aiohttp import web

from base.errors import NotFound
from playback.calls import Ask, NoQuery
from playback.ranges import matches

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page."""

    body: bytes
    content_type: str
    etag: str


def load_assets() -> dict[str, Asset]:
    """Every file of the page by name."""
    found = {}
    for file in resources.files("playback").joinpath("static").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None and file.is_file():
            body = file.read_bytes()
            found[file.name] = Asset(body, kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found


ASSETS: Final = web.AppKey("assets", dict[str, Asset])


async def page(ask: Ask[NoQuery, None]) -> web.Response:
    """GET / and GET /web/{name}."""
    name = ask.request.match_info.get("name", "index.html")
    asset = ask.request.app[ASSETS].get(name)
    if asset is None:
        raise NotFound(f"the page has no file {name[:80]!r}", reason="no-such-file")
    headers = {
        "ETag": asset.etag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    if matches(ask.request.headers.get("If-None-Match", ""), asset.etag, weak=True):
        return web.Response(status=304, headers=headers)
    return web.Response(body=asset.body, headers={**headers, "Content-Type": asset.content_type})
