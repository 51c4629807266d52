"""The tasks extension of MCP (`io.modelcontextprotocol/tasks`) for any server: it knows nothing about PiAPI.

A client that declares the extension gets a task handle as the answer to a long tool call, and polls it with
`tasks/get`. Other clients get the tool's own answer. A `TaskBackend` decides what a task is and where it is stored.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal, Protocol

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.types import HEADER_MISMATCH, INVALID_PARAMS, CallToolRequestParams, CallToolResult, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from typing_extensions import override

IDENTIFIER = "io.modelcontextprotocol/tasks"
_DONE: HandlerResult = {"resultType": "complete"}

RequestContext = ServerRequestContext[Any, Any]


class TaskState(BaseModel):
    """The state of a task, as the extension sends it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    task_id: str
    status: Literal["working", "input_required", "completed", "failed", "cancelled"]
    status_message: str | None = None
    created_at: datetime
    last_updated_at: datetime
    ttl_ms: int | None = Field(default=None, ge=0)
    """How long after its creation a task can be read, in milliseconds; None for ever."""
    poll_interval_ms: int | None = Field(default=None, ge=0)
    """How long a client should wait between two polls, in milliseconds."""
    result: dict[str, Any] | None = None
    """Of a completed task: the tool's result, which may be an error of the tool."""
    error: dict[str, Any] | None = None
    """Of a failed task: the JSON-RPC error, with code and message."""
    input_requests: dict[str, Any] | None = None
    """What the server needs from the client before it can continue."""

    def handle(self) -> dict[str, Any]:
        """Return it as the answer to the tool call that started the task."""
        return self._wire("task", exclude={"result", "error", "input_requests"})

    def details(self) -> dict[str, Any]:
        """Return it as the answer to `tasks/get`."""
        return self._wire("complete", exclude=set())

    def _wire(self, result_type: str, *, exclude: set[str]) -> dict[str, Any]:
        fields = self.model_dump(by_alias=True, mode="json", exclude_none=True, exclude=exclude)
        return {"resultType": result_type, "ttlMs": self.ttl_ms, **fields}  # ttlMs is required, and null for ever


class UnknownTaskIdError(Exception):
    """The task does not exist, or the caller may not see it. The text is sent to the client."""


class TaskBackend(Protocol):
    """Stores the tasks. Each method checks that the caller of *ctx* may see the task.

    An `UnknownTaskIdError` is sent as invalid params; an `MCPError` as it is.
    """

    async def started_by(
        self, params: CallToolRequestParams, result: CallToolResult, ctx: RequestContext
    ) -> TaskState | None:
        """Return the task that a tool call started with *result*; None if the result is final."""
        ...

    async def get(self, task_id: str, ctx: RequestContext) -> TaskState:
        """Return the state of a task."""
        ...

    async def update(self, task_id: str, input_responses: Mapping[str, Any], ctx: RequestContext) -> None:
        """Pass on the client's answers to the task's input requests; other answers are ignored."""
        ...

    async def cancel(self, task_id: str, ctx: RequestContext) -> None:
        """Cancel a task if that is still possible; it may complete all the same."""
        ...


class TaskParams(RequestParams):
    """Parameters of `tasks/get` and `tasks/cancel`."""

    task_id: str


class UpdateParams(TaskParams):
    """Parameters of `tasks/update`."""

    input_responses: dict[str, Any]


class TasksExtension(Extension):
    """Offers the tasks of a backend to clients that declare the extension."""

    identifier = IDENTIFIER

    def __init__(self, backend: TaskBackend) -> None:
        self._backend = backend

    @override
    def methods(self) -> Sequence[MethodBinding]:
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        return [
            MethodBinding("tasks/get", TaskParams, self._get, versions),
            MethodBinding("tasks/update", UpdateParams, self._update, versions),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, versions),
        ]

    @override
    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: RequestContext, call_next: CallNext
    ) -> HandlerResult:
        result = await call_next(ctx)
        if not _is_declared(ctx) or not isinstance(result, CallToolResult):
            return result
        task = await self._backend.started_by(params, result, ctx)
        return result if task is None else task.handle()

    async def _get(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        with _checked(ctx, params.task_id):
            return (await self._backend.get(params.task_id, ctx)).details()

    async def _update(self, ctx: RequestContext, params: UpdateParams) -> HandlerResult:
        with _checked(ctx, params.task_id):
            await self._backend.update(params.task_id, params.input_responses, ctx)
        return _DONE

    async def _cancel(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        with _checked(ctx, params.task_id):
            await self._backend.cancel(params.task_id, ctx)
        return _DONE


async def refuse_undeclared_subscriptions(ctx: RequestContext, call_next: CallNext) -> HandlerResult:
    """Middleware: refuse subscriptions to tasks by clients that did not declare the extension."""
    if ctx.method == "subscriptions/listen" and "taskIds" in ((ctx.params or {}).get("notifications") or {}):
        require_client_extension(ctx, IDENTIFIER)
    return await call_next(ctx)


def _is_declared(ctx: RequestContext) -> bool:
    capabilities = ctx.session.client_capabilities
    is_modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
    return is_modern and capabilities is not None and IDENTIFIER in (capabilities.extensions or {})


@contextmanager
def _checked(ctx: RequestContext, task_id: str) -> Generator[None]:
    """Refuse a client that did not declare the extension, a header that names another task, and an unknown id."""
    require_client_extension(ctx, IDENTIFIER)
    headers: Mapping[str, str] = getattr(ctx.request, "headers", {})
    # Only Streamable HTTP has routing headers, and the SDK checks those of the core methods only.
    if "mcp-method" in headers and headers.get("mcp-name") != task_id:
        raise MCPError(HEADER_MISMATCH, "The header Mcp-Name must be present and equal taskId.")
    try:
        yield
    except UnknownTaskIdError as error:
        raise MCPError(INVALID_PARAMS, str(error)) from error
