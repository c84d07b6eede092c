"""The node's configuration: one TOML file, every limit named with its unit, default and bounds.

Kept true: a `Config` that exists has passed every check; an unknown key or a value out of bounds is refused with the
file's line; without a file every default holds. The camera register is not here: it lives in the index.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from base.errors import ConfigError

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
TOKEN_CHARACTERS_MIN: Final = 16


class _Section(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Base of all sections: unknown keys are errors, values never change after loading."""


class RecorderConfig(_Section, frozen=True):
    """Bounds of the recorder. `fragment_ms` and `sync_interval_ms` together are the loss window of a power cut."""

    fragment_ms: Annotated[int, Meta(ge=100, le=1000, description="longest fragment, ms")] = 500
    chunk_s: Annotated[int, Meta(ge=10, le=3600, description="a chunk is sealed after this time, s")] = 600
    chunk_bytes_max: Annotated[
        int, Meta(ge=64 * MIB, le=1024 * GIB, description="a chunk is sealed at this size, bytes")
    ] = 2 * GIB
    sync_interval_ms: Annotated[int, Meta(ge=100, le=2000, description="group commit of a volume, ms")] = 1000
    queue_bytes_max: Annotated[
        int, Meta(ge=16 * MIB, le=64 * GIB, description="media waiting for one volume's writer, bytes")
    ] = 256 * MIB
    receive_bytes_max: Annotated[
        int, Meta(ge=16 * MIB, le=64 * GIB, description="media being received, of all cameras, bytes")
    ] = 512 * MIB
    unit_bytes_max: Annotated[int, Meta(ge=64 * KIB, le=64 * MIB, description="largest access unit, bytes")] = 8 * MIB
    backoff_min_s: Annotated[float, Meta(ge=0.1, le=60, description="first wait after a camera failed, s")] = 1.0
    backoff_max_s: Annotated[float, Meta(ge=0.1, le=3600, description="longest wait between attempts, s")] = 30.0
    pre_record_bytes_max: Annotated[
        int, Meta(ge=1 * MIB, le=64 * GIB, description="pictures kept for cameras that stand by, bytes")
    ] = 256 * MIB
    loop_lag_ms_max: Annotated[
        int,
        Meta(ge=20, le=10_000, description="cameras are paused when the recorder lags more for some seconds, ms"),
    ] = 200
    handshakes_max: Annotated[int, Meta(ge=1, le=4096, description="cameras being set up at the same time")] = 64
    clock_step_max_s: Annotated[
        int, Meta(ge=1, le=1 << 32, description="a larger step of a clock that is not synchronised is not followed, s")
    ] = 86_400
    clock_vouched: Annotated[
        bool, Meta(description="the clock counts as right although the kernel does not call it synchronised")
    ] = False
    workers: Annotated[int, Meta(ge=1, le=16, description="recorder processes that share the streams")] = 1
    scrub_days: Annotated[int, Meta(ge=0, le=365, description="chunks are read again within it, days; 0 never")] = 30
    scrub_bytes_s_max: Annotated[
        int, Meta(ge=0, le=64 * GIB, description="so fast at most, of each volume, bytes per second; 0 no bound")
    ] = 16 * MIB


class RtspConfig(_Section, frozen=True):
    """How long cameras are waited for. Transport and TLS are a camera's own, in the register."""

    connect_timeout_s: Annotated[float, Meta(ge=0.1, le=120, description="TCP and TLS connect, s")] = 10.0
    response_timeout_s: Annotated[float, Meta(ge=0.1, le=120, description="one RTSP answer, s")] = 10.0
    media_timeout_s: Annotated[float, Meta(ge=1, le=3600, description="silence that ends a session, s")] = 8.0


class ApiConfig(_Section, frozen=True):
    """Address, token and bounds of the playback API."""

    listen: Annotated[str, Meta(max_length=256, description="HOST:PORT; port 0 lets the system choose")] = (
        "127.0.0.1:8787"
    )
    token_file: Annotated[str, Meta(min_length=1, description="file that holds the API token")] | None = None
    token: (
        Annotated[str, Meta(min_length=TOKEN_CHARACTERS_MIN, max_length=4096, description="the API token itself")]
        | None
    ) = None
    requests_max: Annotated[int, Meta(ge=1, le=65536, description="requests served at the same time")] = 512
    clips_max: Annotated[int, Meta(ge=1, le=4096, description="clips being sent at the same time")] = 64
    clip_bytes_s_min: Annotated[
        int, Meta(ge=1, le=1 << 30, description="a reader slower than this for a minute is cut off, bytes per second")
    ] = 65_536
    live_max: Annotated[int, Meta(ge=1, le=65536, description="live views at the same time")] = 256
    pictures_max: Annotated[int, Meta(ge=1, le=64, description="pictures decoded at the same time")] = 2
    previews_max: Annotated[int, Meta(ge=1, le=16, description="previews transcoded at the same time")] = 1
    camera_tests_max: Annotated[
        int, Meta(ge=0, le=64, description="cameras being tested at the same time; 0 allows no tests")
    ] = 4
    read_threads: Annotated[int, Meta(ge=1, le=64, description="reader threads per volume")] = 4
    store_bytes_max: Annotated[int, Meta(ge=1 * MIB, le=64 * GIB, description="frame tables kept in memory, bytes")] = (
        256 * MIB
    )

    @property
    def address(self) -> tuple[str, int]:
        """`listen` as (host, port)."""
        return parse_listen(self.listen)

    @property
    def loopback(self) -> bool:
        """True when only this machine can reach the address."""
        host = self.address[0]
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


class LogConfig(_Section, frozen=True):
    """Form and level of the log on standard error; `auto` is text on a terminal and JSON elsewhere."""

    form: Annotated[Literal["auto", "text", "json"], Meta(description="text for people, JSON for machines")] = "auto"
    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="what is left out below")] = "info"


class _Limits(_Section, frozen=True):
    """How long, and how much, of a stream is kept."""

    days_min: Annotated[float, Meta(ge=0, le=36500, description="guaranteed days of a stream; 0 guarantees none")] = 0.0
    days_max: Annotated[float, Meta(ge=0, le=36500, description="older footage is deleted, days; 0 is no limit")] = 0.0
    bytes_max: Annotated[
        int, Meta(ge=0, le=1 << 60, description="of one stream; what is above it goes, beyond its days; 0 is no limit")
    ] = 0


class RetentionRule(_Limits, frozen=True, kw_only=True):
    """Limits of a group of streams; the first rule that fits a stream is its own."""

    streams: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=128)]],
        Meta(min_length=1, max_length=1000, description="names of streams, with * and ? as in file names"),
    ]
    group_bytes_max: Annotated[
        int, Meta(ge=0, le=1 << 60, description="of all its streams together; 0 is no limit")
    ] = 0


class RetentionConfig(_Limits, frozen=True):
    """What is deleted, and when; limits here are of streams that no rule fits."""

    free_percent_min: Annotated[
        float, Meta(ge=0, le=50, description="stays free on each volume, percent of its size")
    ] = 5.0
    free_bytes_min: Annotated[int, Meta(ge=0, le=1 << 60, description="stays free on each volume, bytes")] = 0
    below_min: Annotated[bool, Meta(description="guaranteed days give way when a volume would be full otherwise")] = (
        False
    )
    grace_s: Annotated[
        float, Meta(ge=0.2, le=3600, description="from a chunk's last being found to its file's end, s")
    ] = 10.0
    rules: Annotated[list[RetentionRule], Meta(max_length=1000, description="limits of groups of streams")] = []


class EvidenceConfig(_Section, frozen=True):
    """What proves a recording."""

    ledger: Annotated[bool, Meta(description="keep a signed ledger of what is recorded")] = True
    head_s: Annotated[int, Meta(ge=1, le=3600, description="a ledger that grows is signed so often, s")] = 60
    ledger_days: Annotated[
        float, Meta(ge=0, le=36500, description="a ledger stays so long after the footage it speaks of, days")
    ] = 90.0
    case_pattern: Annotated[
        str, Meta(min_length=1, max_length=200, description="regular expression that case numbers of exports match")
    ] = r"\w[\w./ -]{0,63}"
    key_password_file: (
        Annotated[str, Meta(min_length=1, description="file with the password of the private keys")] | None
    ) = None
    camera_signature_s: Annotated[
        int, Meta(ge=0, le=86_400, description="a camera's own signatures are looked at so often, s; 0 never")
    ] = 600
    camera_trust: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=4096)]],
        Meta(max_length=256, description="PEM files with certificates that vouch for the cameras' keys"),
    ] = []


class VolumeConfig(_Section, frozen=True):
    """One directory that takes media; a relative path is taken from the configuration file's folder."""

    path: Annotated[str, Meta(min_length=1, max_length=4096, description="a directory on a disk of its own")]
    free_percent_min: (
        Annotated[float, Meta(ge=0, le=50, description="in place of the one in `[retention]`, percent")] | None
    ) = None
    free_bytes_min: (
        Annotated[int, Meta(ge=0, le=1 << 60, description="in place of the one in `[retention]`, bytes")] | None
    ) = None


class Config(_Section, frozen=True):
    """The whole node. Without `volumes` the data folder's own `media/` is the one volume."""

    recorder: RecorderConfig = RecorderConfig()
    rtsp: RtspConfig = RtspConfig()
    api: ApiConfig = ApiConfig()
    retention: RetentionConfig = RetentionConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    log: LogConfig = LogConfig()
    volumes: Annotated[list[VolumeConfig], Meta(max_length=256)] = []


def load(path: Path | None = None, *, listen: str | None = None) -> Config:
    """Read, check and complete a configuration; None gives the defaults. `listen` overrides the file's address."""
    text = "" if path is None else _read(path)
    where = "configuration" if path is None else str(path)
    config = _decode(text, where)
    folder = Path.cwd() if path is None else path.resolve().parent
    api = config.api if listen is None else msgspec.structs.replace(config.api, listen=listen)
    volumes = [msgspec.structs.replace(volume, path=str(folder / volume.path)) for volume in config.volumes]
    evidence = config.evidence
    if evidence.key_password_file is not None:
        evidence = msgspec.structs.replace(evidence, key_password_file=str(folder / evidence.key_password_file))
    trusted = [str(folder / path) for path in evidence.camera_trust]
    evidence = msgspec.structs.replace(evidence, camera_trust=trusted)
    config = msgspec.structs.replace(config, api=_with_token(api, folder, where), evidence=evidence, volumes=volumes)
    _check(config, where)
    return config


def parse_listen(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPv6]:PORT` → (host, port)."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:\s]+)):(\d{1,5})", text)
    if match is None or int(match.group(3)) > 65535:
        raise ConfigError(f"listen address {text[:80]!r} is not HOST:PORT; write it like 127.0.0.1:8787 or [::1]:8787")
    return match.group(1) or match.group(2), int(match.group(3))


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}; correct --config or the file") from None


def _decode(text: str, where: str) -> Config:
    try:
        return msgspec.convert(tomllib.loads(text), Config)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from None
    except msgspec.ValidationError as error:
        message = str(error)
        line = _line_of(text, _error_path(message))
        raise ConfigError(f"{where}{f', line {line}' if line else ''}: {message}") from None


def _error_path(message: str) -> str:
    """The TOML path that a validation message speaks of, like `volumes[0].path`."""
    at = re.search(r"at `\$\.?([^`]*)`", message)
    parent = at.group(1) if at else ""
    unknown = re.search(r"unknown field `([^`]+)`", message)
    return ".".join(part for part in (parent, unknown.group(1) if unknown else "") if part)


def _line_of(text: str, path: str) -> int:
    """Line where `path`, or its nearest parent, is written; 0 when it is nowhere."""
    lines: dict[str, int] = {}
    arrays: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if array := re.match(r"\s*\[\[\s*([\w.\-\s]+?)\s*\]\]", line):
            arrays[array.group(1)] = arrays.get(array.group(1), -1) + 1
            table = f"{array.group(1)}[{arrays[array.group(1)]}]"
            lines.setdefault(table, number)
        elif head := re.match(r"\s*\[\s*([\w.\-\s]+?)\s*\]", line):
            table = head.group(1)
            lines.setdefault(table, number)
        elif key := re.match(r"\s*\"?([\w.\-]+)\"?\s*=", line):
            lines.setdefault(f"{table}.{key.group(1)}" if table else key.group(1), number)
    while path and path not in lines:
        path = re.sub(r"(\.[^.\[]*|\[\d*\.*\]|^[^.\[]*)$", "", path)
    return lines.get(path, 0)


def _with_token(api: ApiConfig, folder: Path, where: str) -> ApiConfig:
    """The token read from `token_file`, checked for length."""
    if api.token_file is None:
        return api
    if api.token is not None:
        raise ConfigError(f"{where}: api.token and api.token_file are both set; keep one of them")
    path = folder / api.token_file
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: api.token_file {path} cannot be read: {error}") from None
    if len(token) < TOKEN_CHARACTERS_MIN:
        raise ConfigError(f"{path}: a token needs at least {TOKEN_CHARACTERS_MIN} characters; make a longer one")
    return msgspec.structs.replace(api, token=token)


def key_password(config: Config) -> bytes | None:
    """The password of the private keys: KEYREEL_KEY_PASSWORD, else `evidence.key_password_file`; None without one."""
    if given := os.environ.get("KEYREEL_KEY_PASSWORD"):
        return given.encode()
    name = config.evidence.key_password_file
    return read_password(Path(name)) if name is not None else None


def read_password(path: Path) -> bytes:
    """The first line of a file."""
    try:
        password = path.read_bytes().split(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise ConfigError(f"the password file {path} cannot be read: {error.strerror}", reason="key-password") from None
    if not password:
        raise ConfigError(f"the password file {path} is empty; put the password into its first line")
    return password


def _check(config: Config, where: str) -> None:
    """The rules that span several values."""
    recorder, api = config.recorder, config.api
    if recorder.backoff_min_s > recorder.backoff_max_s:
        raise ConfigError(f"{where}: recorder.backoff_min_s is above recorder.backoff_max_s; swap or lower it")
    for key in ("queue_bytes_max", "receive_bytes_max"):
        if recorder.unit_bytes_max * 2 * recorder.workers > getattr(recorder, key):
            raise ConfigError(
                f"{where}: recorder.{key} must hold two units of unit_bytes_max for each of recorder.workers; raise it"
            )
    if not api.loopback and api.token is None:
        raise ConfigError(
            f"{where}: api.listen {api.listen} can be reached from other machines, so an API token is needed: "
            "set api.token_file, or listen on 127.0.0.1"
        )
    for limits in (config.retention, *config.retention.rules):
        if limits.days_max and limits.days_max < limits.days_min:
            raise ConfigError(f"{where}: retention: days_max is below days_min; footage cannot be kept and deleted")
    paths = [volume.path for volume in config.volumes]
    if len({str(Path(path).resolve()) for path in paths}) != len(paths):
        raise ConfigError(f"{where}: two volumes have the same path; each volume needs its own directory")
