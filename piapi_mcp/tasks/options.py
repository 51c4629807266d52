"""What a caller may add to any paid task."""

from dataclasses import dataclass
from typing import Self

from pydantic import SecretStr

from piapi_mcp.api.catalog import ServiceMode


@dataclass(frozen=True)
class Options:
    """What the call itself says; what it leaves out comes from the settings."""

    webhook_endpoint: str | None = None
    webhook_secret: SecretStr | None = None
    service_mode: ServiceMode | None = None

    @classmethod
    def of(
        cls, webhook_endpoint: str | None, webhook_secret: str | None, *, service_mode: ServiceMode | None = None
    ) -> Self:
        """Return the options of a call from its plain arguments."""
        secret = SecretStr(webhook_secret) if webhook_secret else None
        return cls(webhook_endpoint, secret, service_mode)
