"""The HTTP application: `/mcp` (Streamable HTTP) and `/sse` for clients, `/healthz` and `/readyz` for monitoring."""

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
from piapi_mcp.hosting.auth import check_auth_settings, oauth_metadata_routes, require_authentication
from piapi_mcp.hosting.graceful_server import CallsInFlight
from piapi_mcp.hosting.rate_limit import MAX_BODY_BYTES, RequestLimits
from piapi_mcp.server.build import build_server
from piapi_mcp.server.service_pool import ServicePool
from piapi_mcp.settings import LogLevel, Settings

_LOOPBACK_HOSTS = ("127.0.0.1:*", "localhost:*", "[::1]:*")
_READINESS_CACHE_S = 3.0
"""Monitoring may poll `/readyz` often, so the result of the check on PiAPI and the ledger is cached."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to *host*."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_listen_address(settings: Settings, host: str) -> None:
    """Check that the server can safely listen on *host*.

    Raises:
        SettingsError: If anyone who can connect could spend the server's own key, or if the server does not know its
            host names, which protect it from DNS rebinding.
    """
    if is_loopback(host):
        return
    _check_key_is_protected(settings, f"On {host}", "; or listen on 127.0.0.1")
    if not settings.allowed_hosts:
        raise SettingsError(
            f"On {host}, the server must know the host names that clients use; without them, any web page could reach "
            "it. Pass each name with --allowed-host, such as --allowed-host mcp.example.com:*"
        )


def _check_key_is_protected(settings: Settings, where: str, alternative: str = "") -> None:
    if settings.api_key is not None and settings.access_token is None and settings.oauth_issuer is None:
        raise SettingsError(
            f"{where}, anyone who can connect could spend money with PIAPI_API_KEY. Set PIAPI_MCP_ACCESS_TOKEN, which "
            "clients then send as a bearer token; or set PIAPI_MCP_OAUTH_ISSUER and PIAPI_MCP_OAUTH_AUDIENCE; or unset "
            f"PIAPI_API_KEY, so that each client sends its own key{alternative}."
        )


def create_app() -> Starlette:
    """Build the application with settings from the environment, to run under an ASGI server or mount in another app.

    Raises:
        SettingsError: If a setting is not valid, or if the settings do not protect the server's own key: the
            application cannot know which address it is served on.
    """
    settings = Settings.from_env(os.environ)
    _check_key_is_protected(settings, "Under an ASGI server")
    return build_app(settings)


def build_app(settings: Settings, *, log_level: LogLevel = "WARNING") -> Starlette:
    """Build the application that serves this project's tools over both HTTP transports.

    Raises:
        SettingsError: If the settings for authentication contradict each other.
    """
    pool = ServicePool(settings, over_http=True)
    return build_app_for_server(build_server(settings, log_level=log_level, pool=pool), pool, settings)


def build_app_for_server(server: MCPServer[ServicePool], pool: ServicePool, settings: Settings) -> Starlette:
    """Build the application that serves *server* over both HTTP transports and closes *pool* when it shuts down.

    `graceful_server` needs the application's `state.pool` and `state.calls` to shut down without losing a call.

    Raises:
        SettingsError: If the settings for authentication contradict each other.
    """
    check_auth_settings(settings)
    calls = CallsInFlight()
    server.middleware.append(calls)
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[*_LOOPBACK_HOSTS, *settings.allowed_hosts],
        allowed_origins=[*(f"http://{name}" for name in _LOOPBACK_HOSTS), *settings.allowed_origins],
    )
    # Stateless, so that any replica can answer; responses are event streams, so that progress reaches the client.
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
            Route("/healthz", _healthz),
            Route("/readyz", _ReadinessCheck(settings)),
            *oauth_metadata_routes(settings),
            Mount("/", app=require_authentication(Router([*streamable.routes, *sse.routes]), settings)),
        ],
        middleware=[*_cors_middleware(settings), Middleware(RequestLimits, per_second=settings.requests_per_second)],
    )
    app.state.pool = pool
    app.state.calls = calls
    return app


def _cors_middleware(settings: Settings) -> list[Middleware]:
    """Return the middleware that lets web pages of the allowed origins read the responses, errors included."""
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


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


class _ReadinessCheck:
    """Reports whether PiAPI and the ledger can be reached, at most a few seconds late."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reason: str | None = None
        self._checked_at_s = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if time.monotonic() - self._checked_at_s > _READINESS_CACHE_S:
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
