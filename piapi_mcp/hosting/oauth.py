"""OAuth 2.1 as a resource server: lets in who brings a token that the issuer signed for this server."""

import asyncio
import logging
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
from mcp.server.auth.provider import AccessToken, TokenVerifier
from starlette.authentication import AuthenticationError
from typing_extensions import override

_logger = logging.getLogger(__name__)

# Only signatures that this server cannot make itself: a token signed with a shared secret proves nothing here.
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_KEYS_KEPT_S = 3600.0
_REFETCH_AFTER_S = 60.0
"""Tokens that name an unknown key make us ask the issuer again, but no more often than this."""
_LEEWAY_S = 30.0
_TIMEOUT_S = 10.0


class IssuerTokens(TokenVerifier):
    """Verifies the JWT access tokens of one issuer for one audience."""

    def __init__(self, issuer: str, audience: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = _IssuerKeys(issuer)

    @override
    async def verify_token(self, token: str) -> AccessToken | None:
        """Return who the token speaks for; None when it is not valid here.

        Raises:
            AuthenticationError: The issuer's keys cannot be had, so nobody can tell.
        """
        try:
            key = await self._keys.find(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            _logger.info("An access token was refused: %s", error)
            return None
        return _access(token, claims, self._audience)


class _IssuerKeys:
    """The public keys of an issuer, fetched when first needed and again when they change."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._keys: list[jwt.PyJWK] = []
        self._fetched_at_s = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str | None) -> jwt.PyJWK:
        """Return the key of that id; without an id the only key there is.

        Raises:
            jwt.InvalidKeyError: There is no such key.
            AuthenticationError: The keys cannot be had.
        """
        async with self._fetching:
            age_s = time.monotonic() - self._fetched_at_s
            if age_s > _KEYS_KEPT_S or (self._known(key_id) is None and age_s > _REFETCH_AFTER_S):
                await self._fetch()
        key = self._known(key_id)
        if key is None:
            raise jwt.InvalidKeyError("the issuer has no such key")
        return key

    def _known(self, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.key_id == key_id), None)

    async def _fetch(self) -> None:
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_S) as http:
                document = await _get_json(http, await _find_keys_url(http, self._issuer))
            keys = jwt.PyJWKSet.from_dict(document).keys
        except (httpx.HTTPError, ValueError, KeyError, jwt.PyJWTError) as error:
            _logger.warning("The keys of %s cannot be fetched: %s", self._issuer, error)
            if not self._keys:
                raise AuthenticationError("The authorization server's keys cannot be fetched; try again.") from error
        else:
            self._keys = [key for key in keys if key.public_key_use != "enc"]
        self._fetched_at_s = time.monotonic()


async def _find_keys_url(http: httpx.AsyncClient, issuer: str) -> str:
    """Return the `jwks_uri` from the issuer's metadata (RFC 8414), or from OpenID's."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    origin = f"{parts.scheme}://{parts.netloc}"
    places = (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )
    for place in places:
        reply = await http.get(place)
        if reply.is_success:
            metadata = reply.json()
            if metadata["issuer"] != issuer:
                raise ValueError(f"{place} speaks for another issuer")
            return str(metadata["jwks_uri"])
    raise ValueError("it has no metadata")


async def _get_json(http: httpx.AsyncClient, url: str) -> Any:
    return (await http.get(url)).raise_for_status().json()


def _access(token: str, claims: dict[str, Any], audience: str) -> AccessToken:
    scopes = claims.get("scope", claims.get("scp", ""))
    return AccessToken(
        token=token,
        client_id=str(claims.get("client_id") or claims.get("azp") or claims.get("sub") or ""),
        scopes=scopes.split() if isinstance(scopes, str) else [str(scope) for scope in scopes],
        expires_at=int(claims["exp"]),
        resource=audience,
        subject=claims.get("sub"),
        claims=claims,
    )
