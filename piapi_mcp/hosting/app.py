"""The server over HTTP, for teams: `/mcp` (Streamable HTTP) and `/sse`; `/healthz` and `/readyz` for who watches it."""

import ipaddress
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.types import Receive, Scope, Send

from piapi_mcp.errors import PiAPIError, SettingsError
from piapi_mcp.hosting.auth import check_access, guard, metadata_routes
from piapi_mcp.hosting.graceful_server import CallsInFlight
from piapi_mcp.hosting.rate_limit import MAX_BODY_BYTES, Bounds
from piapi_mcp.server.build import build_server
from piapi_mcp.server.service_pool import ServicePool
from piapi_mcp.settings import LogLevel, Settings

_LOOPBACK_NAMES = ("127.0.0.1:*", "localhost:*", "[::1]:*")
_READINESS_KEPT_S = 3.0
"""Whoever watches the server may ask often; PiAPI is asked seldom."""


def is_loopback(host: str) -> bool:
    """Say whether only this machine can connect to *host*."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(settings: Settings, host: str) -> None:
    """Let a server start that strangers cannot misuse.

    Raises:
        SettingsError: If it would spend its own key for anybody, or not know the names that it is called by.
    """
    if is_loopback(host):
        return
    _check_own_key(settings, f"On {host}", "; or listen on 127.0.0.1")
    if not settings.allowed_hosts:
        raise SettingsError(
            f"On {host} the server must know the names that clients call it by, or web pages could reach it. "
            "Name each with --allowed-host, such as --allowed-host mcp.example.com:*"
        )


def _check_own_key(settings: Settings, where: str, otherwise: str = "") -> None:
    if settings.api_key is not None and settings.access_token is None and settings.oauth_issuer is None:
        raise SettingsError(
            f"{where} anybody who can connect could spend PIAPI_API_KEY. Set PIAPI_MCP_ACCESS_TOKEN, which "
            "clients then send as a bearer token; or PIAPI_MCP_OAUTH_ISSUER and PIAPI_MCP_OAUTH_AUDIENCE; or unset "
            f"PIAPI_API_KEY, so that each client brings its own key{otherwise}."
        )


def create_app() -> Starlette:
    """Return the application with its settings from the environment, for ASGI servers and to be mounted in others.

    Raises:
        SettingsError: If a setting cannot be used, or a key of its own could be spent by anybody: where the
            application is served from, it cannot know.
    """
    settings = Settings.from_env(os.environ)
    _check_own_key(settings, "Served from here")
    return build_app(settings)


def build_app(settings: Settings, *, log_level: LogLevel = "WARNING") -> Starlette:
    """Return the application that serves the tools of PiAPI over both HTTP transports.

    Raises:
        SettingsError: If the settings for access contradict each other.
    """
    pool = ServicePool(settings, over_http=True)
    return wrap(build_server(settings, log_level=log_level, pool=pool), pool, settings)


def wrap(server: MCPServer[ServicePool], pool: ServicePool, settings: Settings) -> Starlette:
    """Return the application that serves *server* over both HTTP transports, and closes *pool* at its end.

    Its `state.pool` and `state.calls` are what is needed to end well, see `listening`.

    Raises:
        SettingsError: If the settings for access contradict each other.
    """
    check_access(settings)
    calls = CallsInFlight()
    server.middleware.append(calls)
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[*_LOOPBACK_NAMES, *settings.allowed_hosts],
        allowed_origins=[*(f"http://{name}" for name in _LOOPBACK_NAMES), *settings.allowed_origins],
    )
    # Stateless, so that any replica can answer; replies as event streams, so that progress reaches the client.
    streamable = server.streamable_http_app(
        stateless_http=True, transport_security=security, max_request_body_size=MAX_BODY_BYTES
    )
    sse = server.sse_app(transport_security=security, max_request_body_size=MAX_BODY_BYTES)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        async with server.session_manager.run():
            yield
        await pool.close()

    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/healthz", _alive),
            Route("/readyz", _Readiness(settings)),
            *metadata_routes(settings),
            Mount("/", app=guard(Router([*streamable.routes, *sse.routes]), settings)),
        ],
        middleware=[*_for_browsers(settings), Middleware(Bounds, per_second=settings.requests_per_second)],
    )
    app.state.pool = pool
    app.state.calls = calls
    return app


def _for_browsers(settings: Settings) -> list[Middleware]:
    """Return what tells browsers that the allowed pages may read the answers, refusals included."""
    if not settings.allowed_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["www-authenticate", "retry-after", "mcp-session-id"],
        )
    ]


async def _alive(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


class _Readiness:
    """Tells whether PiAPI and the ledger can be reached, or could some seconds ago."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reason: str | None = None
        self._checked_at_s = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if time.monotonic() - self._checked_at_s > _READINESS_KEPT_S:
            self._reason = await self._check()
            self._checked_at_s = time.monotonic()
        status = {"status": "not ready", "reason": self._reason} if self._reason else {"status": "ok"}
        await JSONResponse(status, 503 if self._reason else 200)(scope, receive, send)

    async def _check(self) -> str | None:
        from piapi_mcp.tasks.service import check_ready

        try:
            await check_ready(self._settings)
        except PiAPIError as error:
            return str(error)
        return None
