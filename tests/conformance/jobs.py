"""Provide what the suite's tasks scenarios expect on our tasks extension: tools, and a backend of jobs in memory."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fixtures import Answer, AnyContext, ask_name, filled_in, form, tool
from mcp.server.mcpserver import require_client_extension
from mcp.types import CallToolRequestParams, CallToolResult, ElicitRequest, InputRequiredResult
from typing_extensions import override

from piapi_mcp.server.strict_tool import StrictTool
from piapi_mcp.server.tasks_extension import IDENTIFIER, RequestContext, TaskBackend, TaskState, UnknownTaskIdError

Outcome = dict[str, Any]


@dataclass
class Job:
    """Work that continues after its tool has answered."""

    job_id: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    asked: dict[str, ElicitRequest] = field(default_factory=dict[str, ElicitRequest])
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    work: "asyncio.Task[Outcome] | None" = None


def outcome(said: str, *, is_error: bool = False) -> Outcome:
    return {"result": {"content": [{"type": "text", "text": said}], "isError": is_error}}


class Jobs(TaskBackend):
    """The jobs of this process."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def start(self, work: Callable[[Job], Awaitable[Outcome]]) -> str:
        """Start *work* and return the text by which `started_by` recognizes it."""
        job = Job()

        async def run() -> Outcome:
            return await work(job)

        job.work = asyncio.create_task(run())
        self._jobs[job.job_id] = job
        return f"job {job.job_id}"

    @override
    async def started_by(
        self, params: CallToolRequestParams, result: CallToolResult, ctx: RequestContext
    ) -> TaskState | None:
        said = getattr(result.content[0], "text", "") if result.content else ""
        return self._state(self._find(said.removeprefix("job "))) if said.startswith("job ") else None

    @override
    async def get(self, task_id: str, ctx: RequestContext) -> TaskState:
        return self._state(self._find(task_id))

    @override
    async def update(self, task_id: str, input_responses: Mapping[str, Any], ctx: RequestContext) -> None:
        job = self._find(task_id)
        for key in input_responses:
            job.asked.pop(key, None)
        if not job.asked:
            job.answered.set()

    @override
    async def cancel(self, task_id: str, ctx: RequestContext) -> None:
        work = self._find(task_id).work
        if work and work.cancel():
            await asyncio.wait([work])

    def _find(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise UnknownTaskIdError("There is no such job.")
        return self._jobs[job_id]

    def _state(self, job: Job) -> TaskState:
        state = TaskState(
            task_id=job.job_id,
            status="working",
            created_at=job.created_at,
            last_updated_at=datetime.now(UTC),
            ttl_ms=600_000,
            poll_interval_ms=200,
        )
        return state.model_copy(update=_status(job))


def _status(job: Job) -> dict[str, Any]:
    work = job.work
    if work is None or not work.done():
        asked = {key: request.model_dump(by_alias=True, exclude_none=True) for key, request in job.asked.items()}
        return {"status": "input_required", "input_requests": asked} if asked else {}
    if work.cancelled():
        return {"status": "cancelled"}
    if crash := work.exception():
        return {"status": "failed", "error": {"code": -32603, "message": str(crash)}}
    return {"status": "completed", **work.result()}


def build_job_tools(jobs: Jobs) -> list[StrictTool]:  # noqa: C901 -- a list
    """Return the suite's tools that start jobs."""

    def greet(name: str) -> str:
        return f"Hello, {name}!"

    async def slow_compute(ctx: AnyContext, seconds: float = 0, label: str = "") -> str:
        async def work(_job: Job) -> Outcome:
            await asyncio.sleep(seconds)
            return outcome(f"computed {label}")

        if not is_declared(ctx):
            await asyncio.sleep(seconds)
            return f"computed {label}"
        return jobs.start(work)

    async def failing_job(ctx: AnyContext) -> str:
        async def work(_job: Job) -> Outcome:
            await asyncio.sleep(0.2)
            return outcome("It did not work.", is_error=True)

        require_client_extension(ctx.request_context, IDENTIFIER)
        return jobs.start(work)

    async def protocol_error_job() -> str:
        async def work(_job: Job) -> Outcome:
            raise RuntimeError("The job broke.")

        return jobs.start(work)

    async def confirm_delete(filename: str) -> str:
        async def work(job: Job) -> Outcome:
            job.asked["confirm"] = form(f"Delete {filename}?", confirm="boolean")
            await job.answered.wait()
            return outcome("deleted")

        return jobs.start(work)

    async def multi_input() -> str:
        async def work(job: Job) -> Outcome:
            job.asked |= {"first": ask_name(), "second": ask_name("And yours?")}
            await job.answered.wait()
            return outcome("both answered")

        return jobs.start(work)

    async def test_tool_with_task(ctx: AnyContext) -> Answer:
        name = filled_in(ctx, "user_name", "name")

        async def work(_job: Job) -> Outcome:
            return outcome(f"Hello, {name}!")

        if name is None:
            return InputRequiredResult(input_requests={"user_name": ask_name()})
        require_client_extension(ctx.request_context, IDENTIFIER)
        return jobs.start(work)

    functions = [
        greet,
        slow_compute,
        failing_job,
        protocol_error_job,
        confirm_delete,
        multi_input,
        test_tool_with_task,
    ]
    return [*map(tool, functions)]


def is_declared(ctx: AnyContext) -> bool:
    able = ctx.client_capabilities
    return able is not None and IDENTIFIER in (able.extensions or {})
