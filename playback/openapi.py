"""The OpenAPI 3.1 document, made from the route table and the structs of `playback.schema`.

Kept true: nothing is described by hand that the code checks by itself; the document names every call of the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from playback.calls import JSON, Answer, Call
from playback.problems import MEDIA_TYPE, ProblemBody

_TEMPLATE: Final = "#/components/schemas/{name}"
_EVERYWHERE: Final = (400, 401, 421, 500, 503)
_TITLES: Final = {
    400: "the request is wrong; the detail says what to change",
    401: "the API token is missing or wrong",
    403: "not allowed from here",
    404: "no such stream, camera or footage",
    409: "it was changed meanwhile",
    412: "If-Match does not hold",
    413: "the body is too large",
    415: "the body is not JSON",
    416: "the Range cannot be met",
    426: "this is a WebSocket",
    421: "not addressed to this server",
    500: "the server failed",
    503: "busy or not ready; Retry-After says when to ask again",
}


def document(calls: Sequence[Call], version: str, *, secured: bool) -> dict[str, Any]:
    """The whole document."""
    kinds = {kind for call in calls for kind in _kinds(call)} | {ProblemBody}
    _, components = msgspec.json.schema_components(
        sorted(kinds, key=lambda kind: kind.__name__), ref_template=_TEMPLATE
    )
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(_path(call), {})[call.method.lower()] = _operation(call)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Keyreel playback",
            "version": version,
            "description": "Recorded and live video of this node. Times are RFC 3339 with an offset.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    if secured:
        found["security"] = [{"token": []}]
    return found


def _kinds(call: Call) -> Iterable[type]:
    if call.body is not None:
        yield call.body
    yield from (answer.body for answer in call.answers.values() if answer.body is not None)


def _path(call: Call) -> str:
    """The path template without aiohttp's patterns."""
    return re.sub(r"\{(\w+):[^}]*\}+", r"{\1}", call.path)


def _operation(call: Call) -> dict[str, Any]:
    answers = {str(status): _answer(answer) for status, answer in call.answers.items()}
    for status in sorted({*_EVERYWHERE, *call.problems} - call.answers.keys()):
        answers[str(status)] = {
            "description": _TITLES[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": _TEMPLATE.format(name=ProblemBody.__name__)}}},
        }
    operation: dict[str, Any] = {
        "summary": call.summary,
        "operationId": _operation_id(call),
        "tags": [call.tag],
        "parameters": [*_path_parameters(call), *_query_parameters(call)],
        "responses": answers,
    }
    if call.body is not None:
        schema = {"$ref": _TEMPLATE.format(name=call.body.__name__)}
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return operation


def _operation_id(call: Call) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", _path(call).removeprefix("/api/v1").lower()).strip("_")
    return f"{call.method.lower()}_{words or 'page'}"


def _answer(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"description": answer.description}
    if answer.body is not None:
        found["content"] = {JSON: {"schema": {"$ref": _TEMPLATE.format(name=answer.body.__name__)}}}
    elif answer.media_types:
        found["content"] = {media_type: {"schema": {}} for media_type in answer.media_types}
    return found


def _path_parameters(call: Call) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", _path(call))
    ]


def _query_parameters(call: Call) -> list[dict[str, Any]]:
    schema = msgspec.json.schema(call.query)
    properties = next(iter(schema["$defs"].values()))
    required = properties.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": found}
        for name, found in properties["properties"].items()
    ]
