"""A request: what a caller wants bought, before it is recorded in the ledger and submitted."""

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Protocol, Self

from pydantic import SecretStr

from piapi_mcp.errors import InputRejectedError
from piapi_mcp.ledger.ledger import NewSubmission
from piapi_mcp.media.sources import MediaAccess
from piapi_mcp.piapi.catalog import Product
from piapi_mcp.piapi.client import PiAPIClient, TaskConfig
from piapi_mcp.piapi.models import digest_field, file_digest
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.pricing import Quote


@dataclass(frozen=True)
class SubmitOptions:
    """The options that all paid calls share. What a call leaves out comes from the settings."""

    webhook_endpoint: str | None = None
    webhook_secret: SecretStr | None = None
    max_cost_usd: Decimal | None = None
    """The most that the task may cost, in US dollars."""
    allow_unknown_price: bool = False
    """Submit the task although a limit is set and its price is not known."""
    allow_repeat: bool = False
    """Submit the task although the same request was submitted before."""
    dry_run: bool = False
    """Check and quote the request, and submit nothing."""
    wait_s: float = 0.0
    """How long the call may wait for the task to end, in seconds."""


CheckWithPiAPI = Callable[[PiAPIClient], Awaitable[str | None]]


@dataclass(frozen=True)
class TaskRequest:
    """One paid task, ready to be submitted."""

    product: Product
    task_input: Mapping[str, object]
    """PiAPI's `input`. A file in it is streamed."""
    config: TaskConfig
    summary: str
    """The request in a few words, for a person."""
    quote: Quote
    media_sha256: str | None = None
    """Digest of the file that is sent; None where none is."""
    identity_input: Mapping[str, str] = field(default_factory=dict[str, str])
    """What stands for fields of the input where requests are compared: for a signed URL, what it leads to."""
    open_files: ExitStack = field(default_factory=ExitStack)
    """Closes the file that is sent. Whoever submits the request takes this over with `pop_all`."""
    check_with_piapi: CheckWithPiAPI | None = None
    """A free check that needs PiAPI, made for new submissions only; returns a note for the caller.

    Raises:
        InputRejectedError: PiAPI would refuse the request.
    """

    @property
    def fingerprint(self) -> str:
        """Digest of everything that makes two requests the same: what is bought, not who is told of it."""
        return _digest(self._identity({**self._short_fields, **self.identity_input}))

    def _identity(self, task_input: Mapping[str, object]) -> dict[str, object]:
        return {
            "model": self.product.model,
            "task_type": self.product.task_type,
            "input": task_input,
            "media": self.media_sha256,
            "service_mode": self.config.service_mode,
        }

    async def checked_with_piapi(self, client: PiAPIClient) -> Self:
        """Return this request after `check_with_piapi`, with the note that it gave.

        Raises:
            InputRejectedError: PiAPI would refuse the request.
        """
        note = await self.check_with_piapi(client) if self.check_with_piapi else None
        return replace(self, quote=replace(self.quote, notes=(*self.quote.notes, note))) if note else self

    def new_submission(self) -> NewSubmission:
        """Return what the ledger records of this request."""
        short = self._short_fields
        return NewSubmission(
            fingerprint=self.fingerprint,
            model=self.product.model,
            task_type=self.product.task_type,
            summary=self.summary,
            input_digests={
                name: digest_field(value) if name in short else file_digest(self.media_sha256 or "")
                for name, value in self.task_input.items()
            },
            quoted_usd=self.quote.usd,
            is_upper_bound=self.quote.is_upper_bound,
            expected_px=self.quote.expected_px,
            mark=self.config.mark,
            # Version 0.1 took the webhook for a part of the request.
            earlier_fingerprint=_digest(self._identity(short) | {"webhook_endpoint": self.config.webhook_endpoint}),
        )

    @property
    def _short_fields(self) -> dict[str, object]:
        """The input without its file."""
        return {name: value for name, value in self.task_input.items() if isinstance(value, str | int | bool)}


@dataclass(frozen=True)
class RequestContext:
    """What a request is built with."""

    config: TaskConfig
    access: MediaAccess
    midjourney_price_usd: Decimal | None = None
    """The operator's assumed price of a Midjourney upscale, in US dollars."""


class Upscale(Protocol):
    """What one of the paid tools was asked to upscale."""

    async def build_request(self, context: RequestContext) -> TaskRequest:
        """Open and probe the source, check it against PiAPI's limits, and quote it.

        Raises:
            InputRejectedError: The source cannot be opened, or PiAPI would refuse it.
        """
        ...


def build_config(options: SubmitOptions, settings: Settings) -> TaskConfig:
    """Return PiAPI's `config` for a call: the operator's, unless the call names a webhook of its own.

    Raises:
        InputRejectedError: There is a secret but no endpoint to send it to.
    """
    if options.webhook_endpoint is None and settings.webhook_endpoint is None and options.webhook_secret is not None:
        raise InputRejectedError(
            "webhook_secret is given, but no webhook_endpoint to send it to. Nothing was submitted; "
            "call again with both or with neither."
        )
    if options.webhook_endpoint is not None:
        # The operator's secret is sent to the operator's endpoint only.
        endpoint, secret = options.webhook_endpoint, options.webhook_secret
    else:
        endpoint, secret = settings.webhook_endpoint, options.webhook_secret or settings.webhook_secret
    # The mark takes no secret's place: a webhook that expects one must get it.
    mark = None if secret else f"piapi-mcp-{secrets.token_hex(16)}"
    return TaskConfig(settings.service_mode, endpoint, secret, mark)


def _digest(identity: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
