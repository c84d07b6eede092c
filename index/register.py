"""The camera register: which cameras this node records, and the copy of it and of the holds beside the index.

Kept true: a `Camera` that exists is valid; a password never stands in a message; `register.json` is replaced
atomically, readable by its owner alone, and holds all that the chunk files cannot tell, so an index can be made again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

import msgspec

from base.errors import ConfigError, FormatError, UserError
from base.schedule import parse_schedule
from base.schemes import ALL
from index.holds import Hold

Transport = Literal["tcp", "udp"]
RecordMode = Literal["continuous", "schedule", "demand"]
Priority = Literal["low", "normal", "high"]
PRE_RECORD_S_MAX: Final = 60
FORMAT_VERSION: Final = 2
FORMAT_WITHOUT_HOLDS: Final = 1  # read too
_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
URL_BYTES_MAX: Final = 2048
NOTE_BYTES_MAX: Final = 1024


def _check_url(camera: str, name: str, url: str) -> None:
    wrong = ""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ALL:
            wrong = f"does not begin with one of {', '.join(f'{scheme}://' for scheme in ALL)}"
        elif not parts.hostname:
            wrong = "names no host"
        elif parts.port == 0:
            wrong = "has port 0"
        elif parts.scheme in ("udp", "srt") and parts.port is None:
            wrong = f"names no port, which {parts.scheme}:// needs"
    except ValueError:
        wrong = "has a host or port that cannot be read"
    if len(url.encode("utf-8", "replace")) > URL_BYTES_MAX:
        wrong = f"is longer than {URL_BYTES_MAX} bytes"
    elif not url.isprintable() or " " in url:
        wrong = "contains a space or a control character; write them as %20 and the like"
    if wrong:
        raise UserError(
            f"camera {camera}: the {name} address {wrong}; write it like rtsp://user:password@host:554/path",
            reason="bad-camera",
        )


class Camera(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One camera as the operator registered it; `UserError` (reason bad-camera) says what is wrong with a field."""

    id: str
    main: str
    sub: str | None = None
    transport: Transport = "tcp"
    allow_basic: bool = False
    tls_verify: bool = True
    enabled: bool = True
    note: str = ""
    record: RecordMode = "continuous"
    schedule: str = ""  # of base.schedule; for record="schedule"
    pre_record_s: int = 0  # how much before a recording's cause is kept
    demanded_until_us: int = 0  # somebody asked for a recording until then, UTC µs
    priority: Priority = "normal"  # who gives way when disk or CPU cannot keep up

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise UserError(
                f"camera id {self.id[:64]!r} is not allowed; use 1 to 63 of a-z, 0-9, '_' and '-', "
                "beginning with a letter or digit",
                reason="bad-camera",
            )
        _check_url(self.id, "main", self.main)
        if self.sub is not None:
            _check_url(self.id, "sub", self.sub)
        if self.transport not in get_args(Transport):
            raise UserError(f"camera {self.id}: transport is tcp or udp", reason="bad-camera")
        if len(self.note.encode("utf-8", "replace")) > NOTE_BYTES_MAX:
            raise UserError(f"camera {self.id}: the note is longer than {NOTE_BYTES_MAX} bytes", reason="bad-camera")
        if self.priority not in get_args(Priority):
            raise UserError(f"camera {self.id}: priority is low, normal or high", reason="bad-camera")
        self._check_recording()

    def _check_recording(self) -> None:
        if self.record not in get_args(RecordMode):
            raise UserError(f"camera {self.id}: record is continuous, schedule or demand", reason="bad-camera")
        if (self.record == "schedule") != bool(self.schedule):
            raise UserError(
                f'camera {self.id}: a schedule goes with record "schedule", and the other way round',
                reason="bad-camera",
            )
        if self.schedule:
            parse_schedule(self.schedule)
        if not 0 <= self.pre_record_s <= PRE_RECORD_S_MAX:
            raise UserError(f"camera {self.id}: pre_record_s is 0 to {PRE_RECORD_S_MAX}", reason="bad-camera")
        if not 0 <= self.demanded_until_us < 1 << 63:
            raise UserError(f"camera {self.id}: a recording cannot be asked for until then", reason="bad-camera")

    def asked(self, until_us: int) -> Camera:
        """This camera with a request to record it until then; 0 ends one. `UserError` when it records anyway."""
        if self.record == "continuous":
            raise UserError(
                f'camera {self.id} is recorded all the time; set record to "demand" or "schedule" to ask for it',
                reason="continuous",
            )
        return msgspec.structs.replace(self, demanded_until_us=until_us)

    def stream_names(self) -> list[str]:
        """Names of the streams this camera is recorded as."""
        return [f"{self.id}.main"] + ([f"{self.id}.sub"] if self.sub else [])


class RegisterCopy(msgspec.Struct, kw_only=True):
    """`register.json`: the register at one version, and which id each stream name has."""

    format: int
    version: int
    next_stream: int
    streams: dict[str, int]
    cameras: list[Camera]
    holds: list[Hold] = []
    next_hold: int = 1


def register_path(index_path: Path) -> Path:
    """Where the copy of the register of this index lies."""
    return index_path.parent / "register.json"


def write_copy(path: Path, copy: RegisterCopy) -> None:
    """Replace the copy; on return it is on stable storage."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(file, "wb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(copy)))
        out.flush()
        os.fsync(out.fileno())
    os.replace(fresh, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_copy(path: Path) -> RegisterCopy | None:
    """The copy, or None when there is none; `ConfigError` when it cannot be used."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    try:
        copy = msgspec.json.decode(raw, type=RegisterCopy)
    except (msgspec.DecodeError, msgspec.ValidationError, UserError) as error:
        raise ConfigError(f"{path} is not a camera register: {error}; repair it or move it away") from None
    if copy.format not in (FORMAT_WITHOUT_HOLDS, FORMAT_VERSION):
        raise FormatError(f"{path} has format {copy.format}, this version reads {FORMAT_VERSION}; use a newer version")
    return copy
