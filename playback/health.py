"""Whether this process lives, whether it is ready, and the session that a browser needs when there is a token.

Kept true: /healthz depends on nothing but the event loop; /readyz says what is missing.
"""

from __future__ import annotations

from aiohttp import web

from base.clock import wall_us
from base.errors import KeyreelError
from playback.access import COOKIE, SESSION_S, Access
from playback.calls import Ask, NoQuery, as_json
from playback.problems import Problem
from playback.schema import HealthView, SessionBody, SessionView
from playback.streams import recorder_view

ACCESS = web.AppKey("access", Access)


async def healthz(ask: Ask[NoQuery, None]) -> HealthView:
    """GET /healthz."""
    return HealthView("ok", ask.context.version)


async def readyz(ask: Ask[NoQuery, None]) -> web.Response:
    """GET /readyz: 200 when the index can be read and the whole recorder reports, else 503."""
    problems = []
    recorder = recorder_view(ask.context.recorder_status(), wall_us())
    if not recorder.running:
        problems.append("the recorder does not report; live and new video are missing")
    elif recorder.silent:
        silent = ", ".join(map(str, recorder.silent))
        problems.append(f"recorder worker {silent} does not report; new video of its streams is missing")
    try:
        await ask.context.read(lambda snapshot: snapshot.register_version())
    except (KeyreelError, Problem) as error:
        problems.append(f"the index cannot be read: {error}")
    view = HealthView("not-ready" if problems else "ok", ask.context.version, problems)
    return as_json(view, 503 if problems else 200)


async def open_session(ask: Ask[NoQuery, SessionBody]) -> web.Response:
    """POST /session: the token against a cookie."""
    access = ask.request.app[ACCESS]
    if not access.token_valid(ask.body.token):
        raise Problem(401, "unauthorized", "this is not the node's API token; look it up in its api.token_file")
    answer = as_json(SessionView(SESSION_S))
    if access.needs_token:
        answer.set_cookie(
            COOKIE,
            access.new_session(),
            max_age=SESSION_S,
            httponly=True,
            samesite="Strict",
            secure=ask.request.secure,
            path="/",
        )
    return answer


async def close_session(ask: Ask[NoQuery, None]) -> web.Response:
    """DELETE /session: forget the cookie."""
    answer = web.Response(status=204)
    answer.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
    return answer
