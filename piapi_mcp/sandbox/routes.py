"""The sandbox's HTTP routes: PiAPI's, and under /_sandbox those that control it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as HTTPRoute

from piapi_mcp.sandbox import catalog as products
from piapi_mcp.sandbox import state as world
from piapi_mcp.sandbox.catalog import Accepted, RefusedError, refuse_unknown
from piapi_mcp.sandbox.faults import BrokenOffResponse, misbehave
from piapi_mcp.sandbox.state import Fault, Route, Settings, World
from piapi_mcp.sandbox.task_runner import Runner, empty, task_json
from piapi_mcp.sandbox.uploads import Intake, forget, read_json

_KEY_PREFIX = "sandbox"
_HISTORY_NAMES = {"midjourney": "mj", "Qubico/video-toolkit": "video_toolkit", "Qubico/image-toolkit": "image_toolkit"}

Handler = Callable[[Request, str], Awaitable[Response]]


class Sandbox:
    """One sandbox: its world, and the routes into it."""

    def __init__(self, folder: Path, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._folder = folder
        self._defaults = settings
        self._clock = clock
        self._runner = Runner(folder)
        self._intake = Intake(folder)
        self._base_url = ""
        self.world = World()

    def app(self, base_url: str) -> Starlette:
        """Return the ASGI application that answers at *base_url*."""
        self._base_url = self._runner.base_url = base_url
        self._reset()

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
            yield
            await self._runner.stop()

        def route(path: str, name: Route, handler: Handler, method: str = "GET") -> HTTPRoute:
            return HTTPRoute(path, self._misbehaving(name, handler), methods=[method])

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

    def _misbehaving(self, route: Route, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return *handler* behind the key check, the log, and whatever misbehaviour is planned for *route*."""

        async def endpoint(request: Request) -> Response:
            request.state.world = self.world
            request.state.entry = self._log(route, request)
            faults = self.world.take_faults(route)
            request.state.fault = next((fault for fault in faults if fault.kind == "fail_task"), None)
            if answer := await misbehave(request, faults, "before"):
                return answer
            response = await self._checked(route, request, handler)
            if any(fault.when == "midway" for fault in faults):
                return BrokenOffResponse(response)
            return await misbehave(request, faults, "after") or response

        return endpoint

    async def _checked(self, route: Route, request: Request, handler: Handler) -> Response:
        """Answer a request whose key is in order; a refusal is an answer too."""
        key = request.headers.get("x-api-key", "")
        if route != "result" and not key.startswith(_KEY_PREFIX):
            return _refusal("failed to verify api key", 401)
        try:
            return await handler(request, key)
        except RefusedError as error:
            return _refusal(str(error), error.status)
        except ClientDisconnect:
            return Response()

    def _log(self, route: Route, request: Request) -> dict[str, Any]:
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
        self.world.requests.append(entry)
        return entry

    async def _create(self, request: Request, key: str) -> Response:
        body = await read_json(request)
        media = await self._intake.take(body)
        try:
            facts = await self._facts(media, body)
            task, accepted = self._buy(request, key, body, facts)
        except RefusedError:
            forget(media)
            raise
        self._runner.start(self.world, task, accepted, media)
        if self.world.settings.bare_task_ids:
            return JSONResponse({"task_id": task.task_id})
        return self._task(task)

    async def _facts(self, media: Path | None, body: dict[str, Any]) -> dict[str, Any] | None:
        if media is None:
            return None
        return await self._intake.probe(media, body) if self.world.settings.does_work else {}

    def _buy(
        self, request: Request, key: str, body: dict[str, Any], facts: dict[str, Any] | None
    ) -> tuple[world.Task, Accepted]:
        """Make a task and set its price aside, or refuse; nothing else happens meanwhile."""
        if request.state.world is not self.world:
            raise RefusedError("the sandbox was reset", 503)
        accepted = products.check(self.world, key, body, facts)
        account, running = self.world.account(key), self.world.running(key)
        if running >= self.world.settings.max_concurrent_tasks:
            raise RefusedError(f"active task count {running} has reached the plan limit")  # [R]
        if account.balance_points < accepted.price_points:
            raise RefusedError("insufficient credits")  # [R]
        task = products.new_task(body, key, accepted)
        task.created_at = self.world.now()
        task.planned_failure = request.state.fault
        account.freeze(task.price_points)
        self.world.tasks[task.task_id] = task
        return task, accepted

    async def _read(self, request: Request, key: str) -> Response:
        task = self.world.task(key, request.path_params["task_id"])
        if task is None:
            return _refusal("task not found", 404)
        await self._runner.look(self.world, task)
        return self._task(task)

    async def _cancel(self, request: Request, key: str) -> Response:
        task = self.world.task(key, request.path_params["task_id"])
        if task is None:
            return _refusal("task not found", 404)
        if task.status != "pending":
            return _refusal("only pending tasks can be canceled", 400)
        task.error = {"code": 10000, "message": "task canceled"}
        self.world.account(key).settle(task, "failed", self.world.now())
        self._runner.notify(task)
        return JSONResponse({"code": 200, "message": f"task {task.task_id} canceled"})

    async def _account(self, _request: Request, key: str) -> Response:
        account = self.world.account(key)
        data = {
            "name": "sandbox",
            "plan": self.world.settings.plan,
            "equivalent_in_usd": account.balance_points / world.POINTS_PER_USD,
            "wallet": {"point_remain": account.balance_points, "point_frozen": account.frozen_points},
            "credit_pack_info": {"available_credits": 0},
            "max_concurrent_task_count": self.world.settings.max_concurrent_tasks,
        }
        return _success(data)

    async def _history(self, request: Request, key: str) -> Response:
        query = request.query_params
        refuse_unknown(query, {"page", "page_size", "model", "start_time", "end_time"}, "query")
        page, size = _whole_number(query, "page", 1), _whole_number(query, "page_size", 10)
        if page < 1 or not 10 <= size <= 100:  # noqa: PLR2004 -- documented: page_size 10..100
            raise RefusedError("page must be at least 1, page_size between 10 and 100")
        starts_at, ends_at = _whole_number(query, "start_time", 0), _whole_number(query, "end_time", 2**40)
        rows = [
            _history_row(task)
            for task in self.world.tasks_of(key)
            if query.get("model", "") in ("", _HISTORY_NAMES[task.model])
            and starts_at <= datetime.fromisoformat(task.created_at).timestamp() <= ends_at
        ]
        if self.world.settings.camel_case_history:
            rows = [{_camel(name): value for name, value in row.items()} for row in rows]
        first = (page - 1) * size
        return _success({"data": rows[first : first + size], "page": page, "size": size, "total": len(rows)})

    async def _upload(self, request: Request, _key: str) -> Response:
        body = await read_json(request)
        refuse_unknown(body, {"file_name", "file_data"}, "request")
        if self.world.settings.plan == "free":
            raise RefusedError("your plan does not include file upload", 403)
        name = await self._intake.keep_upload(body, f"upload-{world.new_task_id()}")
        return _success({"url": f"{self._base_url}/results/{name}"})

    async def _result(self, request: Request, _key: str) -> Response:
        name = request.path_params["name"]
        path = await self._runner.sample(name) or self._folder / name
        return FileResponse(path) if path.is_file() else PlainTextResponse("not found", 404)

    def _task(self, task: world.Task) -> Response:
        settings = self.world.settings
        return _success(task_json(task, capitalised=settings.capitalised, null_output=settings.null_outputs))

    def _reset(self) -> None:
        empty(self._folder)
        self.world = World(self._clock, replace(self._defaults))
        self.world.add_samples(self._base_url, self._folder)

    async def _control_reset(self, _request: Request) -> Response:
        await self._runner.stop()
        self._reset()
        return JSONResponse({})

    async def _control_settings(self, request: Request) -> Response:
        wanted: dict[str, Any] = await request.json()
        for name, value in wanted.items():
            if name not in {field.name for field in fields(Settings)}:
                return PlainTextResponse(f"no setting {name}", 400)
            setattr(self.world.settings, name, value)
        if "balance_points" in wanted:
            for account in self.world.accounts.values():
                account.balance_points = wanted["balance_points"]
        return JSONResponse(world.settings_dict(self.world.settings))

    async def _control_faults(self, request: Request) -> Response:
        try:
            self.world.faults.append(Fault(**await request.json()))
        except TypeError as error:
            return PlainTextResponse(str(error), 400)
        return JSONResponse({})

    async def _control_no_faults(self, _request: Request) -> Response:
        self.world.faults.clear()
        return JSONResponse({})

    async def _control_state(self, _request: Request) -> Response:
        return JSONResponse({"requests": self.world.requests, "tasks": self.world.describe()})


def _history_row(task: world.Task) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "task_model": _HISTORY_NAMES[task.model],
        "action": task.task_type,
        "service_mode": task.config.get("service_mode") or "public",
        "status": task.status,
        "usage": task.consumed_points if task.is_done else task.price_points,
        "created_at": task.created_at,
        "updated_at": task.ended_at,
    }


def _whole_number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise RefusedError(f"{name} must be a whole number")
    return int(text)


async def _not_found(_request: Request, _error: Exception) -> Response:
    """[R]: what PiAPI answers to a path that it does not know."""
    return PlainTextResponse("404 page not found", 404)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _success(data: dict[str, Any]) -> Response:
    return JSONResponse({"code": 200, "data": data, "message": "success"})


def _refusal(text: str, status: int) -> Response:
    return JSONResponse({"code": status, "data": None, "message": text}, status)
