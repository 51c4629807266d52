"""The sandbox's HTTP routes: those of PiAPI, and the control routes under /_sandbox."""

import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as HTTPRoute

from piapi_mcp.sandbox.catalog import (
    AcceptedRequest,
    RequestRefusedError,
    check_request,
    new_task,
    refuse_unknown_fields,
)
from piapi_mcp.sandbox.faults import TruncatedResponse, apply_faults
from piapi_mcp.sandbox.replies import HISTORY_NAMES, error_response, history_row, success_response, task_json
from piapi_mcp.sandbox.state import (
    POINTS_PER_USD,
    Fault,
    Route,
    SandboxState,
    Settings,
    Task,
    account_id,
    account_of_key,
    new_task_id,
)
from piapi_mcp.sandbox.task_runner import TaskRunner
from piapi_mcp.sandbox.uploads import Uploads, delete_media, read_json

_KEY_PREFIX = "sandbox"

# [D/C 2026-11] user task history page
_MIN_PAGE_SIZE, _MAX_PAGE_SIZE = 10, 100

Handler = Callable[[Request, str], Awaitable[Response]]
"""Answers a request of the account that is named by the second argument."""


class SandboxApp:
    """The ASGI application of one sandbox, and its state."""

    def __init__(self, folder: Path, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._folder = folder
        self._defaults = settings
        self._clock = clock
        self._runner = TaskRunner(folder)
        self._uploads = Uploads(folder)
        self._base_url = ""
        self.state = SandboxState()

    def build(self, base_url: str) -> Starlette:
        """Return the ASGI application, to be served at *base_url*."""
        self._base_url = self._runner.base_url = base_url
        self._reset(replace(self._defaults))

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
            yield
            await self._runner.stop()

        def route(path: str, name: Route, handler: Handler, method: str = "GET") -> HTTPRoute:
            return HTTPRoute(path, self._make_endpoint(name, handler), methods=[method])

        return Starlette(
            lifespan=lifespan,
            exception_handlers={404: _not_found, 405: _not_found},
            routes=[
                route("/api/v1/task", "create", self._create, "POST"),
                route("/api/v1/task/{task_id}", "read", self._read),
                route("/api/v1/task/{task_id}", "cancel", self._cancel, "DELETE"),
                route("/account/info", "account", self._account),
                route("/api/open/tasks/histories", "history", self._history),
                route("/api/ephemeral_resource", "upload", self._upload, "POST"),
                route("/results/{name}", "result", self._result),
                HTTPRoute("/_sandbox/reset", self._control_reset, methods=["POST"]),
                HTTPRoute("/_sandbox/settings", self._control_settings, methods=["POST"]),
                HTTPRoute("/_sandbox/faults", self._control_faults, methods=["POST"]),
                HTTPRoute("/_sandbox/faults", self._control_no_faults, methods=["DELETE"]),
                HTTPRoute("/_sandbox/state", self._control_state),
            ],
        )

    def read_clock(self) -> datetime:
        """Return the current time by the service's clock."""
        return self.state.read_clock()

    def _make_endpoint(self, route: Route, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that logs requests, injects the faults of *route*, checks the key and calls *handler*."""

        async def endpoint(request: Request) -> Response:
            request.state.sandbox_state = self.state
            request.state.log_entry = self._log_request(route, request)
            faults = self.state.take_faults(route)
            request.state.created_task_id = None
            request.state.fault = next((fault for fault in faults if fault.kind == "fail_task"), None)
            if answer := await apply_faults(request, faults, "before"):
                return answer
            response = await self._handle(route, request, handler)
            if any(fault.when == "midway" for fault in faults):
                return TruncatedResponse(response)
            return await apply_faults(request, faults, "after") or response

        return endpoint

    async def _handle(self, route: Route, request: Request, handler: Handler) -> Response:
        """Check the key and call *handler*; turn its refusal into a reply."""
        key = request.headers.get("x-api-key", "")
        if route != "result" and not key.startswith(_KEY_PREFIX):
            return error_response("failed to verify api key", 401)  # [C 2026-11]
        try:
            return await handler(request, account_of_key(key))
        except RequestRefusedError as error:
            return error_response(str(error), error.status)
        except ClientDisconnect:
            return Response()

    def _log_request(self, route: Route, request: Request) -> dict[str, Any]:
        headers = request.headers
        entry = {
            "route": route,
            "method": request.method,
            "path": request.url.path,
            "has_key": "x-api-key" in headers,
            "content_length": int(headers.get("content-length", 0)),
            "is_chunked": "transfer-encoding" in headers,
            "body_bytes": 0,
        }
        self.state.requests.append(entry)
        return entry

    async def _create(self, request: Request, owner: str) -> Response:
        body = await read_json(request)
        media = await self._uploads.store_media(body)
        try:
            media_info = await self._probe(media, body)
            task, accepted = self._submit(request, owner, body, media_info)
        except RequestRefusedError:
            delete_media(media)
            raise
        self._runner.start(self.state, task, accepted, media)
        if self.state.settings.bare_task_ids:
            return JSONResponse({"task_id": task.task_id})  # [D 2025-02] video upscale page
        return self._task_response(task)

    async def _probe(self, media: Path | None, body: dict[str, Any]) -> dict[str, Any] | None:
        if media is None:
            return None
        return await self._uploads.probe(media, body) if self.state.settings.does_work else {}

    def _submit(
        self, request: Request, owner: str, body: dict[str, Any], media_info: dict[str, Any] | None
    ) -> tuple[Task, AcceptedRequest]:
        """Create a task and freeze its price, or refuse; without `await`, so that no other request comes between."""
        if request.state.sandbox_state is not self.state:
            raise RequestRefusedError("the sandbox was reset", 503)
        accepted = check_request(self.state, owner, body, media_info)
        account, unfinished = self.state.account(owner), self.state.count_unfinished(owner)
        if unfinished >= self.state.settings.max_concurrent_tasks:
            raise RequestRefusedError(f"active task count {unfinished} has reached the plan limit")  # [R 2026-11]
        if account.balance_points < accepted.price_points:
            raise RequestRefusedError("insufficient credits")  # [R 2026-11]
        task = new_task(body, owner, accepted)
        task.created_at = self.state.now()
        task.injected_failure = request.state.fault
        account.freeze(task.price_points)
        self.state.tasks[task.task_id] = task
        request.state.created_task_id = task.task_id
        return task, accepted

    async def _read(self, request: Request, owner: str) -> Response:
        task_id = request.path_params["task_id"]
        if task_id in self.state.settings.unreadable_tasks:
            return error_response("internal server error", 500)
        task = self.state.read_task(owner, task_id)
        if task is None:
            return error_response("task not found", 404)
        await self._runner.count_poll(self.state, task)
        return self._task_response(task)

    async def _cancel(self, request: Request, owner: str) -> Response:
        task = self.state.find_task(owner, request.path_params["task_id"])
        if task is None:
            return error_response("task not found", 404)
        if task.status != "pending":  # [D 2026-11] cancel task page
            return error_response("only pending tasks can be canceled", 400)
        task.error = {"code": 10000, "message": "task canceled"}
        self.state.account(owner).settle(task, "failed", self.state.now())
        self._runner.notify_webhook(self.state, task)
        return JSONResponse({"code": 200, "message": f"task {task.task_id} canceled"})

    async def _account(self, _request: Request, owner: str) -> Response:
        account = self.state.account(owner)
        # [D/R 2026-11] account info page and captured replies
        data = {
            "name": "sandbox",
            "plan": self.state.settings.plan,
            "equivalent_in_usd": account.balance_points / POINTS_PER_USD,
            "wallet": {"point_remain": account.balance_points, "point_frozen": account.frozen_points},
            "credit_pack_info": {"available_credits": 0},
            "max_concurrent_task_count": self.state.settings.max_concurrent_tasks,
        }
        if self.state.settings.shows_account_id:
            data["account_id"] = account_id(owner)  # [? 2026-11] No source shows an id; the field's name is assumed.
        return success_response(data)

    async def _history(self, request: Request, owner: str) -> Response:
        query = request.query_params
        refuse_unknown_fields(query, {"page", "page_size", "model", "start_time", "end_time"}, "query")
        page, size = _read_integer(query, "page", 1), _read_integer(query, "page_size", 10)
        if page < 1 or not _MIN_PAGE_SIZE <= size <= _MAX_PAGE_SIZE:
            raise RequestRefusedError("page must be at least 1, page_size between 10 and 100")
        starts_at, ends_at = _read_integer(query, "start_time", 0), _read_integer(query, "end_time", 2**40)
        rows = [
            history_row(task, self.state.settings)
            for task in self.state.list_history(owner)
            if query.get("model", "") in ("", HISTORY_NAMES[task.model])
            and starts_at <= datetime.fromisoformat(task.created_at).timestamp() <= ends_at
        ]
        first = (page - 1) * size
        return success_response({"data": rows[first : first + size], "page": page, "size": size, "total": len(rows)})

    async def _upload(self, request: Request, _owner: str) -> Response:
        body = await read_json(request)
        refuse_unknown_fields(body, {"file_name", "file_data"}, "request")
        if self.state.settings.plan == "free":  # [D 2026-11] file upload page: Creator plan and above, 403 otherwise
            raise RequestRefusedError("your plan does not include file upload", 403)
        name = await self._uploads.store_upload(body, f"upload-{new_task_id()}")
        return success_response({"url": f"{self._base_url}/results/{name}"})

    async def _result(self, request: Request, _owner: str) -> Response:
        name = request.path_params["name"]
        path = await self._runner.draw_sample_image(name) or self._folder / name
        return FileResponse(path) if path.is_file() else PlainTextResponse("not found", 404)

    def _task_response(self, task: Task) -> Response:
        return success_response(task_json(task, self.state.settings))

    def _reset(self, settings: Settings) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self.state = SandboxState(self._clock, settings)
        self.state.add_samples(self._base_url, self._folder)

    async def _control_reset(self, request: Request) -> Response:
        try:
            settings = replace(self._defaults, **await request.json())
        except TypeError as error:
            return PlainTextResponse(str(error), 400)
        await self._runner.stop()
        self._reset(settings)
        return JSONResponse({})

    async def _control_settings(self, request: Request) -> Response:
        changes: dict[str, Any] = await request.json()
        for name, value in changes.items():
            if name not in {field.name for field in fields(Settings)}:
                return PlainTextResponse(f"unknown setting: {name}", 400)
            setattr(self.state.settings, name, value)
        if "balance_points" in changes:
            for account in self.state.accounts.values():
                account.balance_points = changes["balance_points"]
        return JSONResponse(asdict(self.state.settings))

    async def _control_faults(self, request: Request) -> Response:
        try:
            self.state.faults.append(Fault(**await request.json()))
        except (TypeError, ValueError) as error:
            return PlainTextResponse(str(error), 400)
        return JSONResponse({})

    async def _control_no_faults(self, _request: Request) -> Response:
        self.state.faults.clear()
        return JSONResponse({})

    async def _control_state(self, _request: Request) -> Response:
        return JSONResponse({"requests": self.state.requests, "tasks": self.state.describe_submitted_tasks()})


def _read_integer(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise RequestRefusedError(f"{name} must be a whole number")
    return int(text)


async def _not_found(_request: Request, _error: Exception) -> Response:
    """Answer a path that does not exist."""
    return PlainTextResponse("404 page not found", 404)  # [R 2026-11] a captured reply
