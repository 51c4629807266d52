"""Authentication over HTTP: the operator's access token, an OAuth access token, or the client's own PiAPI key."""

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


def check_auth_settings(settings: Settings) -> None:
    """Check that the settings for authentication are complete and do not contradict each other.

    Raises:
        SettingsError: If they are incomplete or contradictory.
    """
    if (settings.oauth_issuer is None) != (settings.oauth_audience is None):
        raise SettingsError(
            "OAuth needs both PIAPI_MCP_OAUTH_ISSUER, the authorization server that signs the tokens, and "
            "PIAPI_MCP_OAUTH_AUDIENCE, the URL at which clients reach this server. Set both or neither."
        )
    if settings.oauth_issuer and settings.access_token:
        raise SettingsError(
            "A bearer token can be either PIAPI_MCP_ACCESS_TOKEN or an OAuth token, not both. Unset "
            "PIAPI_MCP_ACCESS_TOKEN, or unset PIAPI_MCP_OAUTH_ISSUER and PIAPI_MCP_OAUTH_AUDIENCE."
        )


def require_authentication(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Return *app* behind the authentication that *settings* ask for; *app* itself when they ask for none."""
    if settings.oauth_issuer and settings.oauth_audience:
        from piapi_mcp.hosting.oauth import IssuerTokenVerifier

        backend = BearerAuthBackend(IssuerTokenVerifier(settings.oauth_issuer, settings.oauth_audience))
        metadata_url = build_resource_metadata_url(AnyHttpUrl(settings.oauth_audience))
        required = AuthContextMiddleware(RequireAuthMiddleware(app, [], metadata_url))
        return AuthenticationMiddleware(required, backend=backend, on_error=_answer_unverifiable)
    if settings.access_token:
        return _AccessTokenMiddleware(app, token=settings.access_token.get_secret_value())
    return app


def oauth_metadata_routes(settings: Settings) -> list[BaseRoute]:
    """Return the routes through which clients discover the authorization server (RFC 9728)."""
    if not (settings.oauth_issuer and settings.oauth_audience):
        return []
    return [
        *create_protected_resource_routes(
            resource_url=AnyHttpUrl(settings.oauth_audience), authorization_servers=[AnyHttpUrl(settings.oauth_issuer)]
        )
    ]


def _answer_unverifiable(_connection: HTTPConnection, error: Exception) -> Response:
    """Answer a request whose token cannot be verified because the issuer's keys are not available."""
    return JSONResponse({"error": str(error)}, 503, {"retry-after": "60"})


class _AccessTokenMiddleware:
    """Passes on requests that carry the access token or the client's own PiAPI key; answers all others with 401."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_authorized(Request(scope)):
            text = (
                "The request carries no valid access token. Nothing was submitted. Send this server's access token as "
                "a bearer token, or your own PiAPI key in the header x-api-key."
            )
            await JSONResponse({"error": text}, 401, {"www-authenticate": "Bearer"})(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_authorized(self, request: Request) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(bearer.strip().encode(), self._token.encode())
        return bool(request.headers.get("x-api-key"))
