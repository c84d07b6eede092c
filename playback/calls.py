"""A call of the API as a value: path, query, body and answers, from which both the router and OpenAPI are made.

Kept true: what is documented is what is checked, as both come from the same structs; a query parameter or body field
that a call does not know is refused, so a typing error never passes for a default.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from urllib.parse import unquote

import msgspec
from aiohttp import web

from base.errors import UserError
from base.units import parse_time
from playback.context import CONTEXT, Context
from playback.problems import Handler, Problem

BODY_BYTES_MAX: Final = 1 << 20
JSON: Final = "application/json"


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A call without query parameters."""


Q = TypeVar("Q", bound=msgspec.Struct)
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Ask(Generic[Q, B]):
    """One request, taken apart and checked."""

    context: Context
    request: web.Request
    query: Q
    body: B

    @property
    def id(self) -> str:
        """The path's variable: what names a stream or camera."""
        return self.request.match_info["id"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One possible answer: a struct told as JSON, or bytes of some media types."""

    description: str
    body: type | None = None
    media_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One row of the route table. A handler returns a struct (told as JSON with 200) or a whole response."""

    method: str
    path: str
    run: Callable[[Ask[Any, Any]], Awaitable[Any]]
    summary: str
    answers: Mapping[int, Answer]
    query: type[msgspec.Struct] = NoQuery
    body: type | None = None
    problems: tuple[int, ...] = ()
    tag: str = field(default="streams")

    def handler(self) -> Handler:
        """The function that aiohttp calls."""

        async def handle(request: web.Request) -> web.StreamResponse:
            query = decode_query(request, self.query)
            body: object = None
            if self.body is not None:
                body = await decode_body(request, self.body)
            answer = await self.run(Ask(request.app[CONTEXT], request, query, body))
            return answer if isinstance(answer, web.StreamResponse) else as_json(answer)

        return handle


def as_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A struct as a JSON answer that nobody keeps."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(value),
        content_type=JSON,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def decode_query(request: web.Request, kind: type[Q]) -> Q:
    """The query string as a struct. A plus sign stays one, so that an offset need not be escaped."""
    values: dict[str, str] = {}
    for pair in filter(None, request.rel_url.raw_query_string.split("&")):
        key, _, value = pair.partition("=")
        key = unquote(key)
        if key in values:
            raise UserError(f"query parameter {key[:40]!r} is given twice; give it once", reason="bad-query")
        values[key] = unquote(value)
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(spec.encode_name for spec in msgspec.structs.fields(kind)) or "none"
        raise UserError(f"query: {_plain(error)}; this call's parameters are: {known}", reason="bad-query") from None


async def decode_body(request: web.Request, kind: type[B]) -> B:
    """The JSON body as a struct."""
    if request.content_type != JSON:
        raise Problem(415, "media-type", "send the body as JSON with Content-Type: application/json")
    data = await request.read()
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise UserError(f"body: {_plain(error)}", reason="bad-body") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise UserError(f"body: not valid JSON: {error}", reason="bad-body") from None


def _plain(error: msgspec.ValidationError) -> str:
    """msgspec's message in the API's words."""
    return (
        str(error)
        .replace("Object missing required field", "required parameter or field is missing:")
        .replace("Object contains unknown field", "there is no parameter or field")
        .replace("`", "'")
    )


def time_asked(text: str, what: str) -> int:
    """An RFC 3339 time of a request → UTC microseconds."""
    if text[10:11] == "+":  # a space, as HTML forms escape it
        text = f"{text[:10]}T{text[11:]}"
    try:
        return parse_time(text)
    except UserError as error:
        raise UserError(f"{what}: {error}", reason=error.reason) from None


def range_asked(start: str, end: str) -> tuple[int, int]:
    """`start` and `end` of a request → [start_us, end_us)."""
    start_us, end_us = time_asked(start, "start"), time_asked(end, "end")
    if end_us <= start_us:
        raise UserError(f"end {end} is not after start {start}; swap them or ask for a later end", reason="bad-range")
    return start_us, end_us
