"""What the tools work with, made when the first call needs it: clients drop servers that start slowly.

Over HTTP each key has a service of its own: ledger, waits and budgets of one key are nothing to another.
"""

import asyncio
from collections.abc import Mapping

from pydantic import SecretStr

from piapi_mcp.errors import UnauthorizedError
from piapi_mcp.settings import Settings

# The one type the tools need is heavy to import (HTTP client, media): named here for the annotations only.
TYPE_CHECKING = False
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


async def _close_later(service: "TaskService") -> None:
    try:
        await asyncio.sleep(_LONGEST_CALL_S)
    finally:
        await service.close()


class Desk:
    """Hands out the service that a call is entitled to."""

    def __init__(self, settings: Settings, *, over_http: bool = False) -> None:
        self.settings = settings
        """What the operator set."""
        self._over_http = over_http
        self._services: dict[str, TaskService] = {}
        self._closing = set[asyncio.Task[None]]()

    def service(self, headers: Mapping[str, str] | None) -> "TaskService":
        """Return the service for a call that came with *headers* (None over stdio).

        Raises:
            UnauthorizedError: If there is no PiAPI key to work with.
        """
        key = self._key_of(headers or {}) or self.settings.api_key
        if key is None:
            raise UnauthorizedError(_NO_KEY_OVER_HTTP if self._over_http else _NO_KEY)
        service = self._services.pop(key.get_secret_value(), None)
        if service is None:
            from piapi_mcp.tasks.service import open_service

            service = open_service(self.settings, key, reads_local_files=not self._over_http)
            self._make_room()
        # Put last again: the first in line is the one not used for longest.
        self._services[key.get_secret_value()] = service
        return service

    def _make_room(self) -> None:
        """Let go of the service not used for longest; a call that still works with it has time to finish."""
        if len(self._services) >= _MAX_SERVICES:
            longest_unused = self._services.pop(next(iter(self._services)))
            closing = asyncio.create_task(_close_later(longest_unused))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def end_waits(self) -> None:
        """Let every call that waits for a task answer at once, with how the task stands."""
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

    def _key_of(self, headers: Mapping[str, str]) -> SecretStr | None:
        """Return the PiAPI key that the request brought along; a bearer is one unless it is what lets clients in."""
        if key := headers.get("x-api-key"):
            return SecretStr(key)
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        lets_in = self.settings.access_token or self.settings.oauth_issuer
        return SecretStr(bearer.strip()) if scheme.lower() == "bearer" and bearer and not lets_in else None
