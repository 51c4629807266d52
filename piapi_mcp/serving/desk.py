"""What the tools work with, made when the first call needs it: clients drop servers that start slowly."""

from piapi_mcp.errors import UnauthorizedError
from piapi_mcp.settings import Settings

# The one type the tools need is heavy to import (HTTP client, media): named here for the annotations only.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from piapi_mcp.tasks.service import TaskService


class Desk:
    """Hands out the service that a call is entitled to."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._service: TaskService | None = None

    def service(self) -> "TaskService":
        """Return the service for this call.

        Raises:
            UnauthorizedError: If no PiAPI key is set.
        """
        if self._settings.api_key is None:
            raise UnauthorizedError(
                "No PiAPI key is set. Get one at https://piapi.ai/workspace/key, set PIAPI_API_KEY in the env block "
                "of this server's entry in the client's configuration (clients pass on no other variables), and "
                "restart the client. Nothing was submitted."
            )
        if self._service is None:
            from piapi_mcp.tasks.service import open_service

            self._service = open_service(self._settings, self._settings.api_key)
        return self._service

    async def close(self) -> None:
        """Let submissions that are under way finish, then close the connections."""
        if self._service is not None:
            await self._service.close()
