"""What the paid tools share: their common arguments, declared once, and the path from a call to its answer."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from decimal import Decimal
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from mcp.types import CallToolResult
from pydantic import SecretStr

from piapi_mcp.server import arguments as args
from piapi_mcp.server.call_context import ToolContext, report_progress, service_for, wait_s_for
from piapi_mcp.server.content import task_result
from piapi_mcp.tasks.models import Task

if TYPE_CHECKING:
    from piapi_mcp.tasks.request import Upscale

TaskAnswer = Annotated[CallToolResult, Task]


@dataclass(frozen=True)
class PaidArguments:
    """The arguments that every paid tool takes besides its own."""

    webhook_endpoint: args.WebhookEndpoint = None
    webhook_secret: args.WebhookSecret = None
    wait_seconds: args.WaitSeconds = 0
    max_cost_usd: args.MaxCost = None
    allow_unknown_price: args.AllowUnknownPrice = False
    dry_run: args.DryRun = False
    allow_repeat: args.AllowRepeat = False


def with_paid_arguments(tool: Callable[..., Awaitable[CallToolResult]]) -> Callable[..., Awaitable[CallToolResult]]:
    """Return *tool* with each field of `PaidArguments` as an argument of its own, in place of its argument `paid`.

    Schemas stay flat that way: some clients refuse nested ones.
    """
    shared = fields(PaidArguments)

    @functools.wraps(tool)
    async def flat(ctx: ToolContext, **arguments: Any) -> CallToolResult:
        paid = PaidArguments(**{field.name: arguments.pop(field.name) for field in shared})
        return await tool(ctx, **arguments, paid=paid)

    hints = get_type_hints(PaidArguments, include_extras=True)
    signature = inspect.signature(tool)
    own = [parameter for name, parameter in signature.parameters.items() if name != "paid"]
    common = [
        Parameter(field.name, Parameter.POSITIONAL_OR_KEYWORD, default=field.default, annotation=hints[field.name])
        for field in shared
    ]
    # The SDK reads both: the signature for the schema, the annotations to find the context.
    flat.__dict__["__signature__"] = signature.replace(parameters=[*own, *common])
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *common)}
    return flat


async def submit(ctx: ToolContext, upscale: "Upscale", paid: PaidArguments) -> CallToolResult:
    """Submit *upscale* and return the task."""
    from piapi_mcp.tasks.request import SubmitOptions

    wait_s = wait_s_for(ctx, paid.wait_seconds)
    options = SubmitOptions(
        webhook_endpoint=paid.webhook_endpoint,
        webhook_secret=SecretStr(paid.webhook_secret) if paid.webhook_secret else None,
        max_cost_usd=None if paid.max_cost_usd is None else Decimal(str(paid.max_cost_usd)),
        allow_unknown_price=paid.allow_unknown_price,
        allow_repeat=paid.allow_repeat,
        dry_run=paid.dry_run,
        wait_s=wait_s,
    )
    task = await service_for(ctx).submit(upscale, options, on_poll=report_progress(ctx, wait_s))
    return task_result(task)
