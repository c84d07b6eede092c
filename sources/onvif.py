"""What an ONVIF device says of itself: make, clock, media profiles, stream addresses (ONVIF Core, Media 1, Media 2).

Kept true: a call ends within `timeout_s`, however slowly the device answers; answers are bounded and parsed without
entities; a password is sent as a digest, never in clear; addresses point to the host that was asked. Every failure is
a `CameraError` with one of the reasons unreachable, timeout, not-onvif, unauthorized, no-profile, protocol.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from base.errors import CameraError, ConfigError

ANSWER_BYTES_MAX: Final = 2 << 20
PROFILES_MAX: Final = 64
TEXT_MAX: Final = 128
_CODECS: Final = {"H264": "h264", "H265": "h265", "JPEG": "mjpeg", "MPEG4": "mpeg4"}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Profile:
    """One media profile; `codec` is h264, h265 or the device's own word in lower case. `url` has no password."""

    token: str
    name: str
    codec: str
    width: int
    height: int
    frame_rate: float
    bitrate_bps: int
    audio: str
    url: str

    @property
    def recordable(self) -> bool:
        """Whether its stream can be recorded."""
        return self.codec in ("h264", "h265") and self.url.lower().startswith(("rtsp://", "rtsps://"))


@dataclass(frozen=True, slots=True)
class Device:
    """What a device told; `clock_offset_us` is its clock less ours, to the second, None when it told no time."""

    address: str
    manufacturer: str = ""
    model: str = ""
    firmware: str = ""
    serial: str = ""
    clock_offset_us: int | None = None
    profiles: list[Profile] = field(default_factory=list)


def library(module: str = "") -> Any:
    """The ONVIF client library, which is an extra; `ConfigError` says how to get it."""
    try:
        return importlib.import_module(f"onveef.{module}" if module else "onveef")
    except ImportError:
        raise ConfigError("ONVIF needs a part that is not installed: pip install 'keyreel[onvif]'") from None


def read_device(
    host: str, user: str = "", password: str = "", *, timeout_s: float = 10.0, tls_verify: bool = True
) -> Device:
    """Ask the device at `HOST`, `HOST:PORT` or the URL of its device service."""
    library()
    deadline_s = time.monotonic() + timeout_s
    where = _service_url(host)
    try:
        with _client(where, user, password, timeout_s, tls_verify) as client:
            return _bounded(lambda: _ask(client, host), deadline_s - time.monotonic(), where)
    except CameraError:
        raise
    except Exception as error:
        raise _explained(error, urlsplit(where).netloc, user) from None


def with_password(url: str, user: str, password: str) -> str:
    """The address as a camera's, with user and password percent-encoded."""
    if not user:
        return url
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{place}"))


def choose(device: Device, token: str = "") -> Profile:
    """The profile named, or the largest picture of those that can be recorded; `CameraError` no-profile when none."""
    if token:
        named = next((one for one in device.profiles if token in (one.token, one.name)), None)
        if named is None:
            known = ", ".join(one.token for one in device.profiles) or "none"
            raise CameraError(f"{device.address} has no profile {token[:64]!r}; it has: {known}", reason="no-profile")
        usable = [named] if named.recordable else []
    else:
        usable = [one for one in device.profiles if one.recordable]
    if not usable:
        offered = ", ".join(f"{one.token} ({one.codec or 'no video'})" for one in device.profiles) or "no media profile"
        raise CameraError(
            f"{device.address} offers {offered}; set one of its profiles to H.264 or H.265", reason="no-profile"
        )
    return max(usable, key=lambda one: one.width * one.height)


def _service_url(host: str) -> str:
    url = host if "://" in host else f"http://{host}/onvif/device_service"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        good = False
    if not good or "@" in url or " " in url:
        raise CameraError("an ONVIF device is named as HOST, HOST:PORT or http://HOST/path", reason="unreachable")
    return url


def _client(where: str, user: str, password: str, timeout_s: float, tls_verify: bool) -> Any:
    import httpx

    onveef = library()
    http = httpx.Client(timeout=timeout_s, verify=tls_verify, follow_redirects=False, trust_env=False)
    return onveef.OnvifClient(
        where, username=user, password=password, http_client=http, http_auth="digest" if user else "none",
        password_text_fallback=False, auto_discover=False, retries=0, max_response_bytes=ANSWER_BYTES_MAX,
    )  # fmt: skip


def _bounded(call: Callable[[], T], timeout_s: float, where: str) -> T:
    """Run `call` in a thread that is left behind when its time is up: a device may send a byte a second for ever."""
    result: list[T] = []
    failure: list[Exception] = []

    def run() -> None:
        try:
            result.append(call())
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="onvif", daemon=True)
    thread.start()
    thread.join(max(timeout_s, 0.0))
    if thread.is_alive():
        raise CameraError(
            f"{urlsplit(where).netloc} did not answer within {timeout_s:.0f} s; is it up, and is this its ONVIF port?",
            reason="timeout",
        )
    if failure:
        raise failure[0]
    return result[0]


def _ask(client: Any, host: str) -> Device:
    onveef = library()
    offset_us = _clock_offset_us(client)
    services = client.discover_services()
    if not services.get("media") and not services.get("media2"):
        raise CameraError(
            f"{host} answers, but not as an ONVIF device with media; is this its ONVIF port? Try HOST:PORT",
            reason="not-onvif",
        )
    try:
        about = client.get_device_information()
    except (onveef.OnvifFaultError, onveef.OnvifOperationNotSupportedError) as error:
        if _is_refusal(error):
            raise
        about = {}
    return Device(
        host,
        manufacturer=_plain(about.get("Manufacturer")),
        model=_plain(about.get("Model")),
        firmware=_plain(about.get("FirmwareVersion")),
        serial=_plain(about.get("SerialNumber")),
        clock_offset_us=offset_us,
        profiles=_profiles(client, services),
    )


def _clock_offset_us(client: Any) -> int | None:
    """The device's UTC less ours; it tells everybody (ONVIF Core §8.3.5)."""
    onveef = library()
    before = datetime.now(UTC)
    question = library("envelopes").device_get_system_date_time()
    try:
        answer = client.call(
            service="device", operation="GetSystemDateAndTime", body_inner=question, require_auth=False
        )
        told = library("parsers").parse_system_datetime(answer)["UTCDateTime"]
        day = [int(told[name]) for name in ("year", "month", "day")]
        clock = [int(told[name]) for name in ("hour", "minute", "second")]
        now = datetime(day[0], day[1], day[2], clock[0], clock[1], min(clock[2], 59), tzinfo=UTC)
    except (onveef.OnvifAuthError, onveef.OnvifFaultError, KeyError, ValueError, TypeError, OverflowError):
        return None
    return (now - before.replace(microsecond=0)) // timedelta(microseconds=1)


def _profiles(client: Any, services: dict[str, str]) -> list[Profile]:
    """By Media 2, which alone knows H.265 (ONVIF Media2 §5.2), else by Media 1."""
    onveef = library()
    failure: Exception | None = None
    for service in ("media2", "media"):
        if service not in services:
            continue
        only = {name: url for name, url in services.items() if name not in ("media", "media2") or name == service}
        client.set_endpoint(onveef.OnvifEndpoint(client.endpoint.device_xaddr, services=only))
        try:
            found = [_profile(client, told) for told in client.get_profiles()[:PROFILES_MAX]]
        except (onveef.OnvifFaultError, onveef.OnvifOperationNotSupportedError) as error:
            if _is_refusal(error):
                raise
            failure = error
            continue
        if any(one.codec for one in found):
            return found
    if failure is not None:
        raise failure
    return []


def _profile(client: Any, told: dict[str, Any]) -> Profile:
    video, audio = told.get("video_encoder") or {}, told.get("audio_encoder") or {}
    token = str(told.get("token") or "")
    encoding = str(video.get("encoding") or "")
    codec = _CODECS.get(encoding.upper(), _plain(encoding).lower())
    url = _stream_url(client, token) if codec in ("h264", "h265") else ""
    return Profile(
        token=_plain(token),
        name=_plain(told.get("name")),
        codec=codec,
        width=int(video.get("width") or 0),
        height=int(video.get("height") or 0),
        frame_rate=float(video.get("fps_limit") or 0),
        bitrate_bps=int(video.get("bitrate_kbps") or 0) * 1000,
        audio=_plain(audio.get("encoding")).lower(),
        url=url,
    )


def _stream_url(client: Any, token: str) -> str:
    """Where the profile's stream is; empty when the device does not say, or says nonsense."""
    onveef = library()
    try:
        url = str(client.get_stream_uri(profile_token=token))
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
    except (onveef.OnvifFaultError, onveef.OnvifOperationNotSupportedError, ValueError) as error:
        if _is_refusal(error):
            raise
        return ""
    return urlunsplit(parts._replace(netloc=place)) if url.isprintable() and " " not in url else ""


def _is_refusal(error: Exception) -> bool:
    return "authori" in str(error).lower()


def _explained(error: Exception, where: str, user: str) -> CameraError:
    """The library's failure in our words; its text never holds a password."""
    onveef = library()
    if isinstance(error, onveef.OnvifAuthError) or _is_refusal(error):
        what = "refused the user name or password" if user else "wants a user name and password: --user, --password"
        return CameraError(f"{where} {what}; ONVIF users are often kept apart from web users", reason="unauthorized")
    if isinstance(error, onveef.OnvifTimeoutError):
        return CameraError(f"{where} did not answer in time; is it up, and is this its ONVIF port?", reason="timeout")
    text = _plain(str(error))
    if isinstance(error, onveef.OnvifTransportError):
        is_answer = "HTTP" in text or "cap" in text
        reason, hint = ("not-onvif", "is this its ONVIF port?") if is_answer else ("unreachable", "is it up?")
        return CameraError(f"{where}: {text}; {hint}", reason=reason)
    return CameraError(f"{where} did not answer as ONVIF asks: {text or type(error).__name__}", reason="protocol")


def _plain(text: object) -> str:
    """For a terminal and a table."""
    return "".join(letter for letter in str(text or "") if letter.isprintable())[:TEXT_MAX]
