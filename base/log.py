"""The log: one event a line on standard error, as text for people or JSON for machines.

Kept true: no password and no token is ever written, wherever in an event it stands; nothing logs before `setup`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from base.config import LogConfig

_IN_URL: Final = re.compile(
    r"(?i)\b(rtsps?://(?=\S*@)|[a-z][a-z0-9+.-]*://(?=[^\s/?#]*@))\S*@"
)  # a camera's password may hold / ? #
_IN_QUERY: Final = re.compile(r"(?i)([?&](?:user|username|usr|pass|password|passwd|pwd|psw|token|auth|key)=)[^&\s'\"]*")
_HEADER: Final = re.compile(r"(?i)\b(authorization\s*[:=]\s*|bearer\s+)[^\r\n]+")
_SECRET_KEYS: Final = frozenset({"password", "token", "authorization", "secret", "cookie"})


def redact(text: str) -> str:
    """The text with credentials in URLs and authorization headers blotted out."""
    return _HEADER.sub(r"\1***", _IN_QUERY.sub(r"\1***", _IN_URL.sub(r"\1***@", text)))


def setup(program: str, config: LogConfig | None = None) -> None:
    """Set up logging for this process; `program` stands in every line."""
    config = config or LogConfig()
    as_json = config.form == "json" or (config.form == "auto" and not sys.stderr.isatty())
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_event,
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[config.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(program=program)


def get_logger(**fields: object) -> FilteringBoundLogger:
    """A logger that carries `fields` in every event."""
    return cast(FilteringBoundLogger, structlog.get_logger(**fields))


def _redact_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = "***" if key.lower() in _SECRET_KEYS and value else _redact_value(value)
    return event


def _redact_value(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {k: "***" if str(k).lower() in _SECRET_KEYS and v else _redact_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_value(item) for item in value]
    if isinstance(value, BaseException):
        return redact(str(value))
    return value
