"""The eight tools: each a plain function that passes its arguments on, and the table that offers them."""

from typing import Annotated

from mcp.types import CallToolResult, ToolAnnotations

from piapi_mcp.piapi.catalog import (
    IMAGE_LIMITS,
    IMAGE_USD_PER_MEGAPIXEL,
    VIDEO_LIMITS,
    VIDEO_SCALE,
    VIDEO_USD_PER_FRAME,
)
from piapi_mcp.server import arguments as args
from piapi_mcp.server.call_context import ToolContext, report_progress, service_for, wait_s_for
from piapi_mcp.server.content import model_result, task_result
from piapi_mcp.server.paid import PaidArguments, TaskAnswer, submit, with_paid_arguments
from piapi_mcp.server.strict_tool import StrictTool
from piapi_mcp.tasks.models import AccountInfo, SavedResult, TaskList

SavedAnswer = Annotated[CallToolResult, SavedResult]
ListAnswer = Annotated[CallToolResult, TaskList]
AccountAnswer = Annotated[CallToolResult, AccountInfo]


@with_paid_arguments
async def midjourney_upscale(
    ctx: ToolContext,
    origin_task_id: args.OriginTaskId,
    index: args.Index,
    service_mode: args.Mode = None,
    *,
    paid: PaidArguments,
) -> TaskAnswer:
    """Submit a Midjourney upscale and return the task."""
    from piapi_mcp.tasks.midjourney import MidjourneyUpscale

    return await submit(ctx, MidjourneyUpscale(origin_task_id, index, service_mode), paid)


@with_paid_arguments
async def video_upscale(ctx: ToolContext, video: args.Video, *, paid: PaidArguments) -> TaskAnswer:
    """Submit a video upscale and return the task."""
    from piapi_mcp.tasks.video import VideoUpscale

    return await submit(ctx, VideoUpscale(video), paid)


@with_paid_arguments
async def image_upscale(
    ctx: ToolContext,
    image: args.Image,
    scale: args.Scale = 2,
    face_enhance: args.FaceEnhance = False,
    *,
    paid: PaidArguments,
) -> TaskAnswer:
    """Submit an image upscale and return the task."""
    from piapi_mcp.tasks.image import ImageUpscale

    return await submit(ctx, ImageUpscale(image, scale, face_enhance), paid)


async def get_task(
    ctx: ToolContext, task_id: args.TaskId, wait_seconds: args.DefaultWait = None, preview: args.Preview = True
) -> TaskAnswer:
    """Return the state of a task, after waiting for its end."""
    service = service_for(ctx)
    wait_s = wait_s_for(ctx, wait_seconds)
    task = await service.get(task_id, wait_s=wait_s, on_poll=report_progress(ctx, wait_s))
    return task_result(task, await service.preview(task) if preview else None)


async def save_result(ctx: ToolContext, task_id: args.TaskId, directory: args.Directory = None) -> SavedAnswer:
    """Save the results of a task."""
    return model_result(await service_for(ctx).save(task_id, directory))


async def cancel_task(ctx: ToolContext, task_id: args.TaskId) -> TaskAnswer:
    """Cancel a task that is still pending."""
    return task_result(await service_for(ctx).cancel(task_id))


async def list_tasks(ctx: ToolContext, limit: args.Limit = 20, status: args.Status = None) -> ListAnswer:
    """List the account's tasks."""
    return model_result(await service_for(ctx).list_tasks(limit=limit, status=status))


async def get_account(ctx: ToolContext) -> AccountAnswer:
    """Return what the account can spend."""
    return model_result(await service_for(ctx).account())


PAID_TOOLS = frozenset({midjourney_upscale.__name__, video_upscale.__name__, image_upscale.__name__})

_PAID = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True)
_READING = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
_WRITING = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
_CANCELLING = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True)


def build_tools(*, local_files: bool = True) -> list[StrictTool]:
    """Return the tools in the order in which clients list them; *local_files*: whether the user's disk is here."""
    limits = VIDEO_LIMITS
    tools = [
        StrictTool.make(
            midjourney_upscale,
            title="Upscale a Midjourney image",
            description=(
                "Upscale one image of a finished Midjourney task. Paid; PiAPI publishes no price. Returns a task_id: "
                "then call get_task."
            ),
            annotations=_PAID,
        ),
        StrictTool.make(
            video_upscale,
            title="Upscale a video",
            description=(
                f"Enlarge an MP4 video to {VIDEO_SCALE}x its width and height. Paid: ${VIDEO_USD_PER_FRAME} per frame. "
                f"At most {limits.max_width_px}x{limits.max_height_px} px, {limits.min_frames} to {limits.max_frames} "
                f"frames, {limits.max_bytes >> 20} MB. Returns a task_id: then call get_task."
            ),
            annotations=_PAID,
        ),
        StrictTool.make(
            image_upscale,
            title="Upscale an image",
            description=(
                f"Enlarge a JPEG or PNG image. Paid: at most ${IMAGE_USD_PER_MEGAPIXEL} per megapixel of the result. "
                f"At most {IMAGE_LIMITS.max_side_px} px per side. Returns a task_id: then call get_task."
            ),
            annotations=_PAID,
        ),
        StrictTool.make(
            get_task,
            title="Get a task",
            description="Get the status of a task, and the links to its results once it has completed. Free.",
            annotations=_READING,
        ),
        StrictTool.make(
            save_result,
            title="Save a result",
            description="Save the files of a completed task on the user's disk; never overwrites a file. Free.",
            annotations=_WRITING,
        ),
        StrictTool.make(
            cancel_task,
            title="Cancel a task",
            description="Cancel a task that is still pending; PiAPI cancels no others. Free.",
            annotations=_CANCELLING,
        ),
        StrictTool.make(
            list_tasks,
            title="List tasks",
            description="List the account's newest tasks, including Midjourney grids made elsewhere. Free.",
            annotations=_READING,
        ),
        StrictTool.make(
            get_account,
            title="Get the account",
            description="Get the balance, the plan, how many tasks may run at once, and what was spent today. Free.",
            annotations=_READING,
        ),
    ]
    return [tool for tool in tools if local_files or tool.name != save_result.__name__]
