"""Orders: what is asked for, checked against what PiAPI accepts, and priced, before anything is bought."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from decimal import Decimal

from piapi_mcp.api import catalog
from piapi_mcp.api.catalog import MidjourneyIndex, Product
from piapi_mcp.api.client import TaskConfig
from piapi_mcp.errors import InputRejectedError
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.options import Options


@dataclass(frozen=True)
class Order:
    """One paid task, ready to be submitted. Closing it closes the file that it sends."""

    product: Product
    task_input: Mapping[str, object]
    """PiAPI's `input`; a file in it is streamed."""
    config: TaskConfig
    quoted_usd: Decimal | None = None
    """List price; None where PiAPI publishes none."""
    notes: tuple[str, ...] = ()
    """What the caller should know about it, such as what could not be checked."""
    media: AbstractContextManager[object] = field(default_factory=nullcontext)
    """What to close once it has been sent."""


def order_midjourney_upscale(
    settings: Settings, origin_task_id: str, index: MidjourneyIndex, options: Options
) -> Order:
    """Return the order for upscaling an image of the Midjourney task *origin_task_id*.

    Raises:
        InputRejectedError: The options cannot be used.
    """
    return Order(
        product=catalog.MIDJOURNEY_UPSCALE,
        task_input={"origin_task_id": origin_task_id, "index": index},
        config=_config(settings, options, service_mode=options.service_mode or settings.service_mode),
    )


def _config(settings: Settings, options: Options, *, service_mode: catalog.ServiceMode | None = None) -> TaskConfig:
    if options.webhook_endpoint is None and settings.webhook_endpoint is None and options.webhook_secret is not None:
        raise InputRejectedError(
            "webhook_secret is given, but no webhook_endpoint to send it to. Nothing was submitted; "
            "call again with both or with neither."
        )
    if options.webhook_endpoint is not None:
        # The operator's secret is for the operator's endpoint alone.
        return TaskConfig(service_mode, options.webhook_endpoint, options.webhook_secret)
    return TaskConfig(service_mode, settings.webhook_endpoint, options.webhook_secret or settings.webhook_secret)
