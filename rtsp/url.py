"""Addresses of cameras: rtsp:// and rtsps:// URLs, with the secret kept apart from what is sent and shown.

Kept true: `request_url` and `str()` never hold the user name or password.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from base.errors import ConfigError

_PORTS: Final = {"rtsp": 554, "rtsps": 322}
_SAFE: Final = "%/:?#[]@!$&'()*+,;=~"


@dataclass(frozen=True, slots=True)
class CameraUrl:
    """One parsed URL."""

    tls: bool
    host: str
    port: int
    request_url: str
    username: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """For messages: some cameras take the password in the query."""
        path, mark, _ = self.request_url.partition("?")
        return path + mark + "***" * bool(mark)


def parse_url(text: str) -> CameraUrl:
    """`rtsp[s]://[user:password@]host[:port]/path`; `ConfigError` says what is wrong and shows no secret."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigError(
            "camera URL has a host or port that cannot be read; write rtsp://user:password@host:554/path, "
            "with / ? # @ in a password as %2F %3F %23 %40",
            reason="url",
        ) from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not parts.hostname or port == 0:
        raise ConfigError("camera URL must look like rtsp://host/path or rtsps://host/path", reason="url")
    place = parts.netloc.rpartition("@")[2]
    request_url = f"{scheme}://{place}{quote(parts.path, safe=_SAFE)}"
    if parts.query:
        request_url += "?" + quote(parts.query, safe=_SAFE)
    return CameraUrl(
        tls=scheme == "rtsps",
        host=parts.hostname,
        port=port or _PORTS[scheme],
        request_url=request_url,
        username=None if parts.username is None else unquote(parts.username),
        password=unquote(parts.password or ""),
    )
