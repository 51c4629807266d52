"""Hands each tenant its service. A service is made at its first call, because clients drop servers that start slowly.

Over HTTP each PiAPI key has a service of its own: tenants share neither ledger rows, waits nor budgets.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import SecretStr

from piapi_mcp.errors import UnauthorizedError
from piapi_mcp.settings import Settings

# Heavy to import (HTTP client, media): only the annotations need it.
if TYPE_CHECKING:
    from piapi_mcp.tasks.service import TaskService

_NO_KEY = (
    "No PiAPI key is set. Get one at https://piapi.ai/workspace/key, set PIAPI_API_KEY in the env block of this "
    "server's entry in the client's configuration (clients pass on no other variables), and restart the client. "
    "Nothing was submitted."
)
_NO_KEY_OVER_HTTP = (
    "No PiAPI key came with the request, and this server has none of its own. Get one at "
    "https://piapi.ai/workspace/key and send it in the header x-api-key. Nothing was submitted."
)

_MAX_SERVICES = 500
_LONGEST_CALL_S = 120.0


class ServicePool:
    """The services of all tenants of one server."""

    def __init__(self, settings: Settings, *, over_http: bool = False) -> None:
        self.settings = settings
        """The operator's settings."""
        self._over_http = over_http
        self._services: dict[str, TaskService] = {}
        self._closing = set[asyncio.Task[None]]()

    def service(self, headers: Mapping[str, str] | None) -> "TaskService":
        """Return the service for a call that came with *headers* (None over stdio).

        Raises:
            UnauthorizedError: There is no PiAPI key to work with.
        """
        key = self._api_key(headers or {}) or self.settings.api_key
        if key is None:
            raise UnauthorizedError(_NO_KEY_OVER_HTTP if self._over_http else _NO_KEY)
        service = self._services.pop(key.get_secret_value(), None)
        if service is None:
            from piapi_mcp.tasks.service import open_service

            service = open_service(self.settings, key, reads_local_files=not self._over_http)
            self._evict()
        # Inserted again at the end: the first one is always the least recently used.
        self._services[key.get_secret_value()] = service
        return service

    def end_waits(self) -> None:
        """Let every call that waits for a task return its state at once."""
        for service in self._services.values():
            service.end_waits()

    async def close(self) -> None:
        """Let submissions that are under way finish, then close the connections."""
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        for service in self._services.values():
            await service.close()
        self._services.clear()

    def _evict(self) -> None:
        """Remove the least recently used service if the pool is full; its calls have time to finish."""
        if len(self._services) >= _MAX_SERVICES:
            least_recent = self._services.pop(next(iter(self._services)))
            closing = asyncio.create_task(_close_later(least_recent))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _api_key(self, headers: Mapping[str, str]) -> SecretStr | None:
        """Return the PiAPI key of the request. A bearer token is one, unless it grants access to the server."""
        if key := headers.get("x-api-key"):
            return SecretStr(key)
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        grants_access = self.settings.access_token or self.settings.oauth_issuer
        return SecretStr(bearer.strip()) if scheme.lower() == "bearer" and bearer and not grants_access else None


async def _close_later(service: "TaskService") -> None:
    try:
        await asyncio.sleep(_LONGEST_CALL_S)
    finally:
        await service.close()
