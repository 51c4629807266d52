"""The tools, each a plain function that hands its arguments on, and the table that offers them."""

import asyncio
from decimal import Decimal
from typing import Annotated

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, ToolAnnotations
from pydantic import SecretStr

from piapi_mcp.piapi.catalog import (
    IMAGE_LIMITS,
    IMAGE_USD_PER_MEGAPIXEL,
    VIDEO_LIMITS,
    VIDEO_SCALE,
    VIDEO_USD_PER_FRAME,
)
from piapi_mcp.piapi.models import RemoteTask
from piapi_mcp.server import arguments as args
from piapi_mcp.server.client_timeouts import waits_for
from piapi_mcp.server.content import model_result, task_result
from piapi_mcp.server.service_pool import Desk
from piapi_mcp.server.strict_tool import StrictTool
from piapi_mcp.tasks.models import AccountInfo, SavedResult, Task, TaskList
from piapi_mcp.tasks.options import Options
from piapi_mcp.tasks.polling import OnTick

# Heavy to import (HTTP client, media): named here for the annotations only.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from piapi_mcp.tasks.service import TaskService

TaskAnswer = Annotated[CallToolResult, Task]
SavedAnswer = Annotated[CallToolResult, SavedResult]
ListAnswer = Annotated[CallToolResult, TaskList]
AccountAnswer = Annotated[CallToolResult, AccountInfo]
ToolContext = Context[Desk, object]


async def midjourney_upscale(
    ctx: ToolContext,
    origin_task_id: args.OriginTaskId,
    index: args.Index,
    service_mode: args.Mode = None,
    webhook_endpoint: args.WebhookEndpoint = None,
    webhook_secret: args.WebhookSecret = None,
    wait_seconds: args.WaitSeconds = 0,
    max_cost_usd: args.MaxCost = None,
    allow_unknown_price: args.AllowUnknownPrice = False,
    dry_run: args.DryRun = False,
    allow_repeat: args.AllowRepeat = False,
) -> TaskAnswer:
    """Submit a Midjourney upscale and answer with the task."""
    service = _service(ctx)
    options = Options(
        webhook_endpoint=webhook_endpoint,
        webhook_secret=_secret(webhook_secret),
        service_mode=service_mode,
        max_cost_usd=_usd(max_cost_usd),
        allow_unknown_price=allow_unknown_price,
        allow_repeat=allow_repeat,
        dry_run=dry_run,
    )
    wait_s = _wait_s(ctx, wait_seconds)
    task = await service.upscale_midjourney(
        origin_task_id, index, options, wait_s=wait_s, on_tick=_progress(ctx, wait_s)
    )
    return task_result(task)


async def video_upscale(
    ctx: ToolContext,
    video: args.Video,
    webhook_endpoint: args.WebhookEndpoint = None,
    webhook_secret: args.WebhookSecret = None,
    wait_seconds: args.WaitSeconds = 0,
    max_cost_usd: args.MaxCost = None,
    allow_unknown_price: args.AllowUnknownPrice = False,
    dry_run: args.DryRun = False,
    allow_repeat: args.AllowRepeat = False,
) -> TaskAnswer:
    """Submit a video upscale and answer with the task."""
    service = _service(ctx)
    options = Options(
        webhook_endpoint=webhook_endpoint,
        webhook_secret=_secret(webhook_secret),
        max_cost_usd=_usd(max_cost_usd),
        allow_unknown_price=allow_unknown_price,
        allow_repeat=allow_repeat,
        dry_run=dry_run,
    )
    wait_s = _wait_s(ctx, wait_seconds)
    task = await service.upscale_video(video, options, wait_s=wait_s, on_tick=_progress(ctx, wait_s))
    return task_result(task)


async def image_upscale(
    ctx: ToolContext,
    image: args.Image,
    scale: args.Scale = 2,
    face_enhance: args.FaceEnhance = False,
    webhook_endpoint: args.WebhookEndpoint = None,
    webhook_secret: args.WebhookSecret = None,
    wait_seconds: args.WaitSeconds = 0,
    max_cost_usd: args.MaxCost = None,
    allow_unknown_price: args.AllowUnknownPrice = False,
    dry_run: args.DryRun = False,
    allow_repeat: args.AllowRepeat = False,
) -> TaskAnswer:
    """Submit an upscale of an image and answer with the task."""
    service = _service(ctx)
    options = Options(
        webhook_endpoint=webhook_endpoint,
        webhook_secret=_secret(webhook_secret),
        max_cost_usd=_usd(max_cost_usd),
        allow_unknown_price=allow_unknown_price,
        allow_repeat=allow_repeat,
        dry_run=dry_run,
    )
    wait_s = _wait_s(ctx, wait_seconds)
    task = await service.upscale_image(
        image,
        options,
        scale=scale,
        face_enhance=face_enhance,
        wait_s=wait_s,
        on_tick=_progress(ctx, wait_s),
    )
    return task_result(task)


async def save_result(ctx: ToolContext, task_id: args.TaskId, directory: args.Directory = None) -> SavedAnswer:
    """Save a task's results."""
    return model_result(await _service(ctx).save(task_id, directory))


async def get_task(
    ctx: ToolContext, task_id: args.TaskId, wait_seconds: args.UsualWait = None, preview: args.Preview = True
) -> TaskAnswer:
    """Look at a task, and wait for its end if asked to."""
    service = _service(ctx)
    wait_s = _wait_s(ctx, wait_seconds)
    task = await service.get(task_id, wait_s=wait_s, on_tick=_progress(ctx, wait_s))
    return task_result(task, await service.preview(task) if preview else None)


async def cancel_task(ctx: ToolContext, task_id: args.TaskId) -> TaskAnswer:
    """Cancel a task that is still pending."""
    return task_result(await _service(ctx).cancel(task_id))


async def list_tasks(ctx: ToolContext, limit: args.Limit = 20, status: args.Status = None) -> ListAnswer:
    """List the account's tasks."""
    return model_result(await _service(ctx).list_tasks(limit=limit, status=status))


async def get_account(ctx: ToolContext) -> AccountAnswer:
    """Tell what the account can spend."""
    return model_result(await _service(ctx).account())


PAID_TOOLS = frozenset({midjourney_upscale.__name__, video_upscale.__name__, image_upscale.__name__})

_PAID = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True)
_READING = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
_WRITING = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
_CANCELLING = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True)


def build_tools(*, local_files: bool = True) -> list[StrictTool]:
    """Return the tools in the order in which clients list them; *local_files* tells whether the user's disk is here."""
    limits = VIDEO_LIMITS
    tools = [
        StrictTool.make(
            midjourney_upscale,
            title="Upscale a Midjourney image",
            description=(
                "Upscale an image of a finished Midjourney task. Paid, price not published. Then call get_task."
            ),
            annotations=_PAID,
        ),
        StrictTool.make(
            video_upscale,
            title="Upscale a video",
            description=(
                f"Enlarge an MP4 video {VIDEO_SCALE}x each way. Paid: ${VIDEO_USD_PER_FRAME} a frame. "
                f"At most {limits.max_width_px}x{limits.max_height_px} px, {limits.min_frames}-{limits.max_frames} "
                f"frames, {limits.max_bytes >> 20} MB. Then call get_task."
            ),
            annotations=_PAID,
        ),
        StrictTool.make(
            image_upscale,
            title="Upscale an image",
            description=(
                f"Enlarge a JPEG or PNG image. Paid: at most ${IMAGE_USD_PER_MEGAPIXEL} a megapixel of the result. "
                f"At most {IMAGE_LIMITS.max_side_px} px a side. Then call get_task."
            ),
            annotations=_PAID,
        ),
        StrictTool.make(
            get_task,
            title="Look at a task",
            description="Tell how a task stands, with links to its results at the end. Free.",
            annotations=_READING,
        ),
        StrictTool.make(
            save_result,
            title="Save a result",
            description="Write a completed task's files to the user's disk, never over another file. Free.",
            annotations=_WRITING,
        ),
        StrictTool.make(
            cancel_task,
            title="Cancel a task",
            description="Cancel a task that is still pending; PiAPI cancels no other. Free.",
            annotations=_CANCELLING,
        ),
        StrictTool.make(
            list_tasks,
            title="List tasks",
            description="List the newest tasks, also those not submitted here, such as Midjourney grids. Free.",
            annotations=_READING,
        ),
        StrictTool.make(
            get_account,
            title="Look at the account",
            description="Tell balance, plan, how many tasks may run at once, and what was spent today. Free.",
            annotations=_READING,
        ),
    ]
    return [tool for tool in tools if local_files or tool.name != save_result.__name__]


def _secret(text: str | None) -> SecretStr | None:
    return SecretStr(text) if text else None


def _usd(amount: float | None) -> Decimal | None:
    return None if amount is None else Decimal(str(amount))


def _service(ctx: ToolContext) -> "TaskService":
    return ctx.request_context.lifespan_context.service(ctx.headers)


def _wait_s(ctx: ToolContext, asked_s: float | None) -> float:
    client = ctx.session.client_params
    setting_s = ctx.request_context.lifespan_context.settings.wait_seconds
    return waits_for(client.client_info.name if client else None, setting_s=setting_s).fitting(asked_s)


def _progress(ctx: ToolContext, wait_s: float) -> OnTick:
    """Return what reports a wait's progress to a client that asked for it; no-op for the others."""
    clock = asyncio.get_running_loop().time
    started_at = clock()

    async def report(task: RemoteTask) -> None:
        done = "" if task.progress_percent is None else f", {task.progress_percent} %"
        # The time waited, because progress must rise with every report and a task's own percentage need not.
        await ctx.report_progress(clock() - started_at, wait_s, f"{task.status}{done}")

    return report
