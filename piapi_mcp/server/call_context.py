"""What a tool takes from the context of its call: the service of the caller, how long to wait, and where to report."""

import asyncio
from typing import TYPE_CHECKING

from mcp.server.mcpserver import Context

from piapi_mcp.server.client_timeouts import wait_limits
from piapi_mcp.server.service_pool import ServicePool

# Heavy to import (HTTP client, media): only the annotations need them.
if TYPE_CHECKING:
    from piapi_mcp.piapi.models import RemoteTask
    from piapi_mcp.tasks.polling import OnPoll
    from piapi_mcp.tasks.service import TaskService

ToolContext = Context[ServicePool, object]


def service_for(ctx: ToolContext) -> "TaskService":
    """Return the service of the tenant that makes the call.

    Raises:
        UnauthorizedError: There is no PiAPI key to work with.
    """
    return ctx.request_context.lifespan_context.service(ctx.headers)


def wait_s_for(ctx: ToolContext, requested_s: float | None) -> float:
    """Return how long the call may wait, in seconds; *requested_s* is None where it does not say."""
    client = ctx.session.client_params
    setting_s = ctx.request_context.lifespan_context.settings.wait_seconds
    return wait_limits(client.client_info.name if client else None, setting_s=setting_s).apply(requested_s)


def report_progress(ctx: ToolContext, wait_s: float) -> "OnPoll":
    """Return a callback that reports the progress of a wait, if the client asked for reports."""
    clock = asyncio.get_running_loop().time
    started_at = clock()

    async def report(task: "RemoteTask") -> None:
        percent = "" if task.progress_percent is None else f", {task.progress_percent} %"
        # The time waited: progress must rise with every report, and a task's own percentage may not.
        await ctx.report_progress(clock() - started_at, wait_s, f"{task.status}{percent}")

    return report
