"""Who may come in over HTTP: who brings the operator's access token, a token of OAuth, or a PiAPI key of their own."""

import hmac

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from pydantic import AnyHttpUrl
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from piapi_mcp.errors import SettingsError
from piapi_mcp.settings import Settings


def check_access(settings: Settings) -> None:
    """Return if the settings say clearly who may come in.

    Raises:
        SettingsError: If they do not.
    """
    if (settings.oauth_issuer is None) != (settings.oauth_audience is None):
        raise SettingsError(
            "OAuth needs both PIAPI_MCP_OAUTH_ISSUER, who signs the tokens, and PIAPI_MCP_OAUTH_AUDIENCE, the URL that "
            "clients know this server by. Set both or neither."
        )
    if settings.oauth_issuer and settings.access_token:
        raise SettingsError("A bearer token is either PIAPI_MCP_ACCESS_TOKEN or one of OAuth: set one of them.")


def guard(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Return *app* behind the door that *settings* ask for."""
    if settings.oauth_issuer and settings.oauth_audience:
        from piapi_mcp.hosting.oauth import IssuerTokens

        backend = BearerAuthBackend(IssuerTokens(settings.oauth_issuer, settings.oauth_audience))
        metadata_url = build_resource_metadata_url(AnyHttpUrl(settings.oauth_audience))
        required = AuthContextMiddleware(RequireAuthMiddleware(app, [], metadata_url))
        return AuthenticationMiddleware(required, backend=backend, on_error=_cannot_tell)
    if settings.access_token:
        return _AccessToken(app, token=settings.access_token.get_secret_value())
    return app


def metadata_routes(settings: Settings) -> list[BaseRoute]:
    """Return the routes by which clients find the authorization server (RFC 9728)."""
    if not (settings.oauth_issuer and settings.oauth_audience):
        return []
    return [
        *create_protected_resource_routes(
            resource_url=AnyHttpUrl(settings.oauth_audience), authorization_servers=[AnyHttpUrl(settings.oauth_issuer)]
        )
    ]


def _cannot_tell(_connection: HTTPConnection, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 503, {"retry-after": "60"})


class _AccessToken:
    """Lets in who brings the access token, or a PiAPI key of their own."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._may_enter(Request(scope)):
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
