"""The server over HTTP, for teams: `/mcp` (Streamable HTTP) and `/sse`; `/healthz` and `/readyz` for who watches it."""

import hmac
import ipaddress
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from piapi_mcp.errors import PiAPIError, SettingsError
from piapi_mcp.serving.desk import Desk
from piapi_mcp.serving.server import build_server
from piapi_mcp.settings import LogLevel, Settings

_LOOPBACK_NAMES = ("127.0.0.1:*", "localhost:*", "[::1]:*")
_OPEN_PATHS = ("/healthz", "/readyz")


@dataclass(frozen=True)
class Listen:
    """Where the server listens, and whom it lets in."""

    host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = ()
    """Values of the Host header, besides those of this machine; `name:*` for any port."""
    allowed_origins: tuple[str, ...] = ()
    """Values of the Origin header that browsers send, besides those of this machine."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def check_exposure(settings: Settings, listen: Listen) -> None:
    """Let a server start that strangers cannot misuse.

    Raises:
        SettingsError: If it would spend its own key for anybody, or not know the names that it is called by.
    """
    if listen.is_loopback:
        return
    if settings.api_key is not None and settings.access_token is None:
        raise SettingsError(
            f"On {listen.host} anybody who can connect could spend PIAPI_API_KEY. Set PIAPI_MCP_ACCESS_TOKEN, which "
            "clients then send as a bearer token; or unset PIAPI_API_KEY, so that each client brings its own key; or "
            "listen on 127.0.0.1."
        )
    if not listen.allowed_hosts:
        raise SettingsError(
            f"On {listen.host} the server must know the names that clients call it by, or web pages could reach it. "
            "Name each with --allowed-host, such as --allowed-host mcp.example.com:*"
        )


def build_app(settings: Settings, listen: Listen, *, log_level: LogLevel = "WARNING") -> Starlette:
    """Return the ASGI application that serves both HTTP transports.

    Raises:
        SettingsError: As `check_exposure`.
    """
    check_exposure(settings, listen)
    desk = Desk(settings, over_http=True)
    server = build_server(settings, log_level=log_level, desk=desk)
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[*_LOOPBACK_NAMES, *listen.allowed_hosts],
        allowed_origins=[*(f"http://{name}" for name in _LOOPBACK_NAMES), *listen.allowed_origins],
    )
    # Stateless, so that any replica can answer; replies as event streams, so that progress reaches the client.
    streamable = server.streamable_http_app(stateless_http=True, transport_security=security)
    sse = server.sse_app(transport_security=security)

    async def alive(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_request: Request) -> Response:
        from piapi_mcp.tasks.service import check_ready

        try:
            await check_ready(settings)
        except PiAPIError as error:
            return JSONResponse({"status": "not ready", "reason": str(error)}, 503)
        return JSONResponse({"status": "ok"})

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        async with server.session_manager.run():
            yield
        await desk.close()

    app = Starlette(
        lifespan=lifespan,
        routes=[Route("/healthz", alive), Route("/readyz", ready), *streamable.routes, *sse.routes],
    )
    if settings.access_token is not None:
        app.add_middleware(_AccessToken, token=settings.access_token.get_secret_value())
    return app


class _AccessToken:
    """Lets in who brings the access token, or a PiAPI key of their own."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _OPEN_PATHS and not self._may_enter(Request(scope)):
            text = "Send the access token of this server as a bearer token, or a PiAPI key of your own as x-api-key."
            refusal = JSONResponse({"error": text}, 401, {"www-authenticate": "Bearer"})
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may_enter(self, request: Request) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(bearer.strip().encode(), self._token.encode())
        return bool(request.headers.get("x-api-key"))
