"""PiAPI's tasks as MCP tasks. Their ids are the same, so any process can answer for any task."""

import contextlib
import re
from collections.abc import Generator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, CallToolRequestParams, CallToolResult
from typing_extensions import override

from piapi_mcp.errors import InputRejectedError, PiAPIError, UnknownTaskError
from piapi_mcp.formatting import dollars, quote
from piapi_mcp.piapi.catalog import RESULTS_KEPT_DAYS, TASK_ID_PATTERN
from piapi_mcp.piapi.models import CANCELLED, COMPLETED, FAILED
from piapi_mcp.server.content import task_result
from piapi_mcp.server.service_pool import ServicePool
from piapi_mcp.server.tasks_extension import RequestContext, TaskBackend, TaskState, UnknownTaskIdError
from piapi_mcp.tasks.models import Task
from piapi_mcp.tasks.polling import pause_s

# Heavy to import (HTTP client, media): only the annotations need it.
if TYPE_CHECKING:
    from piapi_mcp.tasks.service import TaskService

_TTL_MS = int(timedelta(days=RESULTS_KEPT_DAYS).total_seconds() * 1000)
_SHORTEST_POLL_S = 1.0


class PiAPITaskBackend(TaskBackend):
    """Serves the tasks that the paid tools submitted."""

    def __init__(self, paid_tools: frozenset[str]) -> None:
        self._paid_tools = paid_tools

    @override
    async def started_by(
        self, params: CallToolRequestParams, result: CallToolResult, ctx: RequestContext
    ) -> TaskState | None:
        if params.name not in self._paid_tools or result.is_error:
            return None
        task = Task.model_validate(result.structured_content)
        # Only a running task becomes an MCP task; a dry run and a task that has ended are final answers.
        return _state(task, task.task_id) if task.task_id and _status(task) == "working" else None

    @override
    async def get(self, task_id: str, ctx: RequestContext) -> TaskState:
        with _as_mcp_errors():
            service = _service(ctx, task_id)
            task = await service.get(task_id)
        if task.status not in (COMPLETED, FAILED):
            return _state(task, task_id)
        answer = task_result(task, await service.preview(task))
        result = answer.model_dump(by_alias=True, mode="json", exclude_none=True)
        return _state(task, task_id).model_copy(update={"result": result})

    @override
    async def update(self, task_id: str, input_responses: Mapping[str, Any], ctx: RequestContext) -> None:
        with _as_mcp_errors():  # the task must exist; PiAPI's tasks never ask for input
            await _service(ctx, task_id).get(task_id)

    @override
    async def cancel(self, task_id: str, ctx: RequestContext) -> None:
        # PiAPI does not cancel a task that is processed or has ended: `tasks/get` returns how it ends.
        with _as_mcp_errors(), contextlib.suppress(InputRejectedError):
            await _service(ctx, task_id).cancel(task_id)


def _service(ctx: RequestContext, task_id: str) -> "TaskService":
    if not re.fullmatch(TASK_ID_PATTERN, task_id):
        raise UnknownTaskIdError(f"{quote(task_id)} is not a task id.")
    pool: ServicePool = ctx.lifespan_context
    return pool.service(getattr(ctx.request, "headers", None))


@contextlib.contextmanager
def _as_mcp_errors() -> Generator[None]:
    try:
        yield
    except UnknownTaskError as error:
        raise UnknownTaskIdError(str(error)) from error
    except PiAPIError as error:
        raise MCPError(INTERNAL_ERROR, str(error)) from error


def _status(task: Task) -> Literal["working", "completed", "cancelled"]:
    if task.status in CANCELLED:
        return "cancelled"
    # The extension reserves `failed` for protocol errors: an upscale that failed is a completed call.
    return "completed" if task.status in (COMPLETED, FAILED) else "working"


def _state(task: Task, task_id: str) -> TaskState:
    now = datetime.now(UTC)
    created_at = task.created_at or now
    poll_s = max(_SHORTEST_POLL_S, pause_s((now - created_at).total_seconds()))
    return TaskState(
        task_id=task_id,
        status=_status(task),
        status_message=_message(task),
        created_at=created_at,
        last_updated_at=task.ended_at or task.started_at or created_at,
        ttl_ms=_TTL_MS,
        poll_interval_ms=int(poll_s * 1000),
    )


def _message(task: Task) -> str:
    progress = "" if task.progress_percent is None else f", {task.progress_percent} %"
    usd = task.quoted_usd or task.at_most_usd or task.frozen_usd
    price = "" if usd is None else f", {dollars(usd)}"
    return " ".join([f"{task.status}{progress}{price}.", *(task.notes or ())])
