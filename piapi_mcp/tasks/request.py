"""Orders: what is asked for, checked against what PiAPI accepts, and priced, before anything is bought."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.ledger.sqlite import Draft
from piapi_mcp.media.fetch import Fetcher
from piapi_mcp.media.local_files import LocalFiles
from piapi_mcp.media.sources import MediaFile, MediaUrl, open_source
from piapi_mcp.piapi.catalog import MIDJOURNEY_UPSCALE, MidjourneyIndex, Product, ServiceMode
from piapi_mcp.piapi.client import TaskConfig
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.options import Options
from piapi_mcp.tasks.recovery import FILE, digest


@dataclass(frozen=True)
class Reach:
    """What may be opened here to see what is asked for."""

    local: LocalFiles | None
    """Local files; None for none at all."""
    fetcher: Fetcher
    """Files behind URLs."""


async def open_media(text: str, *, argument: str, reach: Reach, max_bytes: int) -> MediaFile | MediaUrl:
    """Open what the caller named in *argument*, away from the event loop; a caller that goes away leaves nothing open.

    Raises:
        InputRejectedError: As `open_source`.
    """
    opening = asyncio.ensure_future(
        asyncio.to_thread(open_source, text, argument=argument, local=reach.local, max_bytes=max_bytes)
    )
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opening: asyncio.Future[MediaFile | MediaUrl]) -> None:
    if not opening.cancelled() and opening.exception() is None and isinstance(media := opening.result(), MediaFile):
        with media:
            pass


@dataclass(frozen=True)
class Order:
    """One paid task, ready to be submitted."""

    product: Product
    task_input: Mapping[str, object]
    """PiAPI's `input`; a file in it is streamed."""
    config: TaskConfig
    summary: str
    """What is asked for, in a few words."""
    quoted_usd: Decimal | None = None
    """List price; None where it is not known."""
    unpriced: str = "PiAPI publishes no price for it"
    """Why the price is not known, where it is not."""
    expected_px: tuple[int, int] | None = None
    """Width and height that the result will have, where that is known."""
    notes: tuple[str, ...] = ()
    """What the caller should know about it, such as what could not be checked."""
    media: ExitStack = field(default_factory=ExitStack)
    """Closes the file that is sent; whoever submits it takes that over with `pop_all`."""
    media_sha256: str | None = None
    """Digest of the file that is sent; None where none is."""

    def draft(self) -> Draft:
        """Return what the ledger keeps of this order."""
        short = {name: value for name, value in self.task_input.items() if isinstance(value, str | int | bool)}
        same = {
            "model": self.product.model,
            "task_type": self.product.task_type,
            "input": short,
            "media": self.media_sha256,
            "service_mode": self.config.service_mode,
            "webhook_endpoint": self.config.webhook_endpoint,
        }
        return Draft(
            fingerprint=hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest(),
            model=self.product.model,
            task_type=self.product.task_type,
            summary=self.summary,
            asked={name: digest(value) if name in short else FILE for name, value in self.task_input.items()},
            quoted_usd=self.quoted_usd,
            expected_px=self.expected_px,
        )


def order_midjourney_upscale(
    settings: Settings, options: Options, *, origin_task_id: str, index: MidjourneyIndex
) -> Order:
    """Return the order for upscaling an image of the Midjourney task *origin_task_id*, which is not looked at here.

    Raises:
        InputRejectedError: The options cannot be used.
    """
    return Order(
        product=MIDJOURNEY_UPSCALE,
        task_input={"origin_task_id": origin_task_id, "index": index},
        config=config_of(options, settings, service_mode=options.service_mode or settings.service_mode),
        summary=f"index {index} of task {origin_task_id}",
    )


def config_of(options: Options, settings: Settings, *, service_mode: ServiceMode | None = None) -> TaskConfig:
    """Return PiAPI's `config` for a call; its own webhook goes before the operator's.

    Raises:
        InputRejectedError: A secret without an endpoint to send it to.
    """
    if options.webhook_endpoint is None and settings.webhook_endpoint is None and options.webhook_secret is not None:
        raise InputRejectedError(
            "webhook_secret is given, but no webhook_endpoint to send it to. Nothing was submitted; "
            "call again with both or with neither."
        )
    if options.webhook_endpoint is not None:
        # The operator's secret is for the operator's endpoint alone.
        return TaskConfig(service_mode, options.webhook_endpoint, options.webhook_secret)
    return TaskConfig(service_mode, settings.webhook_endpoint, options.webhook_secret or settings.webhook_secret)
