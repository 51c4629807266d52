"""What a caller may add to any paid task."""

from dataclasses import dataclass
from decimal import Decimal

from pydantic import SecretStr

from piapi_mcp.piapi.catalog import ServiceMode


@dataclass(frozen=True)
class Options:
    """What the call itself says; what it leaves out comes from the settings."""

    webhook_endpoint: str | None = None
    webhook_secret: SecretStr | None = None
    service_mode: ServiceMode | None = None
    max_cost_usd: Decimal | None = None
    """Refuse the task where it costs more, in US dollars."""
    allow_unknown_price: bool = False
    """Buy it even where a limit is set and PiAPI publishes no price."""
    allow_repeat: bool = False
    """Buy it even where the same request was bought already."""
    dry_run: bool = False
    """Check and price it, and buy nothing."""
