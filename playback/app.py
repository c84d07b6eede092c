"""The HTTP application: routes, middlewares and the socket it listens on.

Kept true: every answer passes the same four layers (count, problems, access, bound) in this order; without a token only
a loopback address is served.
"""

from __future__ import annotations

import time
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from base.errors import ConfigError
from base.log import get_logger
from playback import access, problems
from playback.calls import BODY_BYTES_MAX
from playback.context import CONTEXT, Context
from playback.follow import Followers
from playback.health import ACCESS
from playback.live import FOLLOWERS
from playback.metrics import METRICS, Metrics
from playback.openapi import document
from playback.page import ASSETS, load_assets
from playback.problems import Handler
from playback.routes import CALLS, DOCUMENT

_LOG: Final = get_logger()
_FIELD_BYTES_MAX: Final = 64 << 10  # of one request header; what is longer never reaches a handler
_SHUTDOWN_S: Final = 3.0  # answers under way at the end of the process get so long
_UNTIMED: Final = frozenset({"/api/v1/streams/{id}/live", "/api/v1/streams/{id}/trick"})


def create_app(context: Context) -> web.Application:
    """The application for one node's playback."""
    guard = access.Access(context.api.token)
    metrics = Metrics(context)
    app = web.Application(
        middlewares=[_count(metrics), problems.middleware, access.middleware(guard), _bound(context)],
        client_max_size=BODY_BYTES_MAX,
    )
    app[CONTEXT] = context
    app[ACCESS] = guard
    app[METRICS] = metrics
    app[FOLLOWERS] = followers = Followers(context)
    app[ASSETS] = load_assets()
    app[DOCUMENT] = document(CALLS, context.version, secured=guard.needs_token)
    for call in CALLS:
        handler = call.handler()
        app.router.add_route(call.method, call.path, handler)
        if call.method == "GET" and call.path not in _UNTIMED:
            app.router.add_route("HEAD", call.path, handler)

    async def stop(_app: web.Application) -> None:
        followers.stop()

    app.on_shutdown.append(stop)
    return app


class Server:
    """The application on its socket; `address` is where it really listens."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._runner = web.AppRunner(
            create_app(context),
            access_log=None,
            shutdown_timeout=_SHUTDOWN_S,
            max_field_size=_FIELD_BYTES_MAX,
            keepalive_timeout=75.0,
        )
        self.address = ("", 0)

    async def start(self) -> None:
        """Listen; `ConfigError` when the address must not or cannot be used."""
        api = self._context.api
        if not api.loopback and not api.token:
            raise ConfigError(
                f"api.listen {api.listen} can be reached from other machines, so an API token is needed: "
                "set api.token_file, or listen on 127.0.0.1"
            )
        host, port = api.address
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, host, port)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"cannot listen on {api.listen}: {error.strerror or error}; free the port or name another one"
            ) from None
        bound = self._runner.addresses[0]
        self.address = (str(bound[0]), int(bound[1]))
        _LOG.info("listening", address=self.url)

    @property
    def url(self) -> str:
        """Address of the page."""
        host, port = self.address
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    async def stop(self) -> None:
        """End the answers under way and release the socket."""
        await self._runner.cleanup()
        self._context.workers.close()


def _count(metrics: Metrics) -> Middleware:
    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        call = resource.canonical if resource is not None else "none"
        began_s = time.perf_counter()
        status = 499  # the client went away
        try:
            answer = await handler(request)
            gone = request.transport is None or request.transport.is_closing()
            status = 499 if gone else answer.status
            return answer
        finally:
            metrics.requests.labels(call, str(status)).inc()
            if call not in _UNTIMED:
                metrics.seconds.labels(call).observe(time.perf_counter() - began_s)

    return count


def _bound(context: Context) -> Middleware:
    @web.middleware
    async def bound(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/healthz":  # answers even when everything else is taken
            return await handler(request)
        with context.requests.hold():
            return await handler(request)

    return bound
