"""OAuth 2.1 resource server: verifies access tokens that the issuer signed for this server."""

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

# Only asymmetric signatures: whoever can verify a token signed with a shared secret can also forge one.
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_KEYS_CACHE_S = 3600.0
_MIN_REFETCH_S = 60.0
"""A token that names an unknown key makes the server fetch the issuer's keys again, but not more often than this."""
_LEEWAY_S = 30.0
"""Tolerated difference between the issuer's clock and ours."""
_TIMEOUT_S = 10.0


class IssuerTokenVerifier(TokenVerifier):
    """Verifies the JWT access tokens of one issuer for one audience."""

    def __init__(self, issuer: str, audience: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = _IssuerKeys(issuer)

    @override
    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the client that *token* identifies; None when it is not valid for this server.

        Raises:
            AuthenticationError: The issuer's keys cannot be fetched, so the token cannot be verified.
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
        return _to_access_token(token, claims, self._audience)


class _IssuerKeys:
    """The public keys of an issuer, fetched when first needed and again when they change.

    PyJWT's own `PyJWKClient` is not used because it blocks the event loop while it fetches.
    """

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._keys: list[jwt.PyJWK] = []
        self._fetched_at_s = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str | None) -> jwt.PyJWK:
        """Return the key with that id; without an id, the issuer's only key.

        Raises:
            jwt.InvalidKeyError: The issuer has no such key.
            AuthenticationError: The keys cannot be fetched.
        """
        async with self._fetching:
            age_s = time.monotonic() - self._fetched_at_s
            if age_s > _KEYS_CACHE_S or (self._cached(key_id) is None and age_s > _MIN_REFETCH_S):
                await self._fetch()
        key = self._cached(key_id)
        if key is None:
            raise jwt.InvalidKeyError("the issuer has no such key")
        return key

    def _cached(self, key_id: str | None) -> jwt.PyJWK | None:
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
                raise AuthenticationError(
                    "The authorization server's keys cannot be fetched, so the access token cannot be verified. "
                    "Nothing was submitted. Try again in a minute."
                ) from error
        else:
            self._keys = [key for key in keys if key.public_key_use != "enc"]
        self._fetched_at_s = time.monotonic()


async def _find_keys_url(http: httpx.AsyncClient, issuer: str) -> str:
    """Return the `jwks_uri` from the issuer's OAuth metadata (RFC 8414) or OpenID Connect metadata."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    origin = f"{parts.scheme}://{parts.netloc}"
    metadata_urls = (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )
    for metadata_url in metadata_urls:
        response = await http.get(metadata_url)
        if response.is_success:
            metadata = response.json()
            if metadata["issuer"] != issuer:
                raise ValueError(f"{metadata_url} names another issuer")
            return str(metadata["jwks_uri"])
    raise ValueError("the issuer publishes no metadata")


async def _get_json(http: httpx.AsyncClient, url: str) -> Any:
    return (await http.get(url)).raise_for_status().json()


def _to_access_token(token: str, claims: dict[str, Any], audience: str) -> AccessToken:
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
