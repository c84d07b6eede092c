"""Every error as problem+json (RFC 9457).

Kept true: an error's `detail` says what to change; nothing of the inside (paths, traces, secrets) leaves; `type` is a
stable name built from the error's reason; a failure after the first byte of an answer aborts the connection, so that a
truncated body never looks whole.
"""

from __future__ import annotations

import http
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from aiohttp import web

from base.errors import (
    ConfigError,
    DamageError,
    FormatError,
    IndexDamage,
    KeyreelError,
    NotFound,
    UserError,
    VolumeError,
)
from base.log import get_logger, redact

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MEDIA_TYPE: Final = "application/problem+json"
_DETAIL_CHARACTERS_MAX: Final = 1000
_LOG: Final = get_logger()


class Problem(Exception):
    """An error with its HTTP status, raised where no error of `base.errors` fits."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)


class ProblemBody(msgspec.Struct, omit_defaults=True):
    """The error document: `reason` is for programs, `detail` for people."""

    type: str
    title: str
    status: int
    reason: str
    detail: str
    instance: str = ""


def from_error(error: KeyreelError) -> Problem:
    """The problem for an error of the product, by who has to act."""
    detail = redact(str(error))[:_DETAIL_CHARACTERS_MAX]
    match error:
        case NotFound():
            return Problem(404, error.reason, detail)
        case UserError():
            return Problem(400, error.reason, detail)
        case VolumeError():
            return Problem(503, error.reason, detail, retry_after_s=10)
        case IndexDamage():
            return Problem(503, error.reason, f"the index is wrong and is made again: {detail}", retry_after_s=5)
        case DamageError():
            return Problem(500, error.reason, f"stored video is damaged and is not served: {detail}")
        case FormatError() | ConfigError():
            return Problem(500, error.reason, detail)
        case _:
            return Problem(500, error.reason, "the request failed; the server's log says why")


def from_http(error: web.HTTPException) -> Problem:
    """The problem for an error that aiohttp raised by itself."""
    headers: dict[str, str] = {}
    match error:
        case web.HTTPNotFound():
            reason, detail = "no-such-call", "there is nothing at this path; /openapi.json lists every call"
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            headers["Allow"] = allowed
            reason, detail = "method", f"{error.method} is not possible here; use {allowed}"
        case web.HTTPRequestEntityTooLarge():
            reason, detail = "too-large", "the request's body is too large; send at most 1 MiB"
        case _:
            reason, detail = "http", error.text or error.reason
    return Problem(error.status, reason, detail[:_DETAIL_CHARACTERS_MAX], headers=headers)


def response(problem: Problem, instance: str = "") -> web.Response:
    """The answer that tells a problem."""
    body = ProblemBody(
        type=f"urn:keyreel:problem:{problem.reason}",
        title=http.HTTPStatus(problem.status).phrase,
        status=problem.status,
        reason=problem.reason,
        detail=problem.detail,
        instance=instance,
    )
    headers = {"Cache-Control": "no-store", **problem.headers}
    return web.Response(status=problem.status, body=msgspec.json.encode(body), content_type=MEDIA_TYPE, headers=headers)


def to_problem(error: Exception, path: str) -> Problem:
    """The problem for anything that a handler raised; what is unexpected is logged, once, here."""
    match error:
        case Problem():
            return error
        case KeyreelError():
            problem = from_error(error)
            if problem.status >= 500:
                _LOG.warning("request failed", path=path, reason=error.reason, error=str(error))
            return problem
        case web.HTTPException():
            return from_http(error)
        case _:
            _LOG.error("request failed unexpectedly", path=path, exc_info=error)
            return Problem(500, "internal", "the server failed on this request; its log says why")


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Outermost middleware: turns what a handler raises into its problem."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return response(from_http(error), request.path)
    except ConnectionError:
        raise  # the client went away; there is nobody to tell
    except Exception as error:
        return response(to_problem(error, request.path), request.path)
