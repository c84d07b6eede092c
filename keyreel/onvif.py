"""`keyreel camera discover`, and the stream address of a camera that is named by its ONVIF service.

Kept true: nothing is registered here; a password is in no line that is printed.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from base.errors import CameraError, KeyreelError, NotFound, UserError
from base.log import redact
from keyreel.output import print_json, table
from sources.discovery import Found, discover
from sources.onvif import Device, choose, read_device, with_password

READERS: Final = 16
_ABSENT: Final = frozenset({"unreachable", "timeout", "not-onvif"})


def stream_url(host: str, user: str, password: str, profile: str, tls_verify: bool) -> str:
    """The RTSP address of a profile, with the password in it; the errors of a command."""
    try:
        device = read_device(host, user, password, tls_verify=tls_verify)
        return with_password(choose(device, profile).url, user, password)
    except CameraError as error:
        kind = NotFound if error.reason in _ABSENT else UserError
        raise kind(str(error), reason=error.reason) from None


def show_discovered(
    timeout_s: float, interfaces: list[str], hosts: list[str], user: str, password: str, tls_verify: bool, as_json: bool
) -> None:
    """Print what answered; with hosts or a user also what each device says of itself."""
    found = [Found(host, host) for host in hosts] or asyncio.run(discover(timeout_s, interfaces or None))
    told: list[Device | KeyreelError | None] = [None] * len(found)
    if hosts or user:
        with ThreadPoolExecutor(READERS, thread_name_prefix="onvif") as pool:
            told = list(pool.map(lambda one: _read(one, user, password, tls_verify), found))
    if hosts and len(hosts) == 1 and isinstance(told[0], CameraError):
        raise _for_command(told[0])
    if as_json:
        print_json({"devices": [_row(one, device) for one, device in zip(found, told, strict=True)]})
        return
    _print(found, told)


def _for_command(error: CameraError) -> KeyreelError:
    return (NotFound if error.reason in _ABSENT else UserError)(str(error), reason=error.reason)


def _read(found: Found, user: str, password: str, tls_verify: bool) -> Device | KeyreelError:
    """At the address that answered, whatever address it claims to have."""
    where = found.service
    if "://" in where:
        parts = urlsplit(where)
        port = f":{parts.port}" if parts.port else ""
        where = urlunsplit(parts._replace(netloc=f"{found.address}{port}"))
    try:
        return read_device(where, user, password, tls_verify=tls_verify)
    except KeyreelError as error:
        return error


def _row(found: Found, told: Device | KeyreelError | None) -> dict[str, Any]:
    row: dict[str, Any] = asdict(found)
    if isinstance(told, Device):
        row |= {name: value for name, value in asdict(told).items() if name != "address"}
        for profile, plain in zip(told.profiles, row["profiles"], strict=True):
            plain["url"] = redact(profile.url)
    elif told is not None:
        row |= {"reason": told.reason, "detail": str(told)}
    return row


def _print(found: list[Found], told: list[Device | KeyreelError | None]) -> None:
    rows = []
    for one, device in zip(found, told, strict=True):
        if isinstance(device, Device):
            make = " ".join(part for part in (device.manufacturer, device.model) if part) or one.name
            rows.append([one.address, make, _clock(device.clock_offset_us), "", ""])
            rows += [["", "", "", p.token, f"{p.codec} {p.width}x{p.height} {redact(p.url)}"] for p in device.profiles]
        else:
            make = " ".join(part for part in (one.name, one.hardware) if part)
            rows.append([one.address, make, "", "", one.service if device is None else str(device)])
    table(["address", "device", "clock", "profile", "stream or service"], rows, "no ONVIF device answered")


def _clock(offset_us: int | None) -> str:
    return "-" if offset_us is None else f"{offset_us / 1e6:+.0f} s"
