"""The sandbox's HTTP routes: PiAPI's, and under /_sandbox those that control it."""

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as HTTPRoute

from piapi_mcp.sandbox import products, world
from piapi_mcp.sandbox.products import MAX_MEDIA_BYTES, RefusedError
from piapi_mcp.sandbox.runner import Runner, empty, task_json
from piapi_mcp.sandbox.world import Fault, Route, Settings, World

_MAX_BODY_BYTES = MAX_MEDIA_BYTES * 4 // 3 + 100_000
_KEY_PREFIX = "sandbox"

Handler = Callable[[Request, str], Awaitable[Response]]


class Sandbox:
    """One sandbox: its world, and the routes into it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._defaults = settings
        self._runner = Runner(folder)
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
            if route != "result":
                self._log(route, request)
            faults = self.world.take_faults(route)
            request.state.fault = next((fault for fault in faults if fault.kind == "fail_task"), None)
            if answer := await _misbehave(request, faults, "before"):
                return answer
            response = await self._checked(route, request, handler)
            if any(fault.when == "midway" for fault in faults):
                return _BrokenOff(request, response)
            return await _misbehave(request, faults, "after") or response

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

    def _log(self, route: Route, request: Request) -> None:
        headers = request.headers
        self.world.requests.append(
            {
                "route": route,
                "path": request.url.path,
                "has_key": "x-api-key" in headers,
                "content_length": int(headers.get("content-length", 0)),
                "is_chunked": "transfer-encoding" in headers,
            }
        )

    async def _create(self, request: Request, key: str) -> Response:
        if int(request.headers.get("content-length", 0)) > _MAX_BODY_BYTES:
            return PlainTextResponse("Request Entity Too Large", 413)
        body = await asyncio.to_thread(_parse, await request.body())
        world_now = self.world
        account = world_now.account(key)
        media = await self._fetch_media(body)
        accepted = await asyncio.to_thread(products.check, world_now, key, body, media)
        if world_now.running(key) >= world_now.settings.max_concurrent_tasks:
            raise RefusedError(f"active task count {world_now.running(key)} has reached the plan limit")
        if account.balance_points < accepted.price_points:
            raise RefusedError("insufficient credits")
        task = products.new_task(body, key, accepted, media)
        task.created_at = world.now()
        task.planned_failure = request.state.fault
        account.freeze(task.price_points)
        world_now.tasks[task.task_id] = task
        self._runner.start(world_now, task, accepted, media)
        if world_now.settings.bare_task_ids:
            return JSONResponse({"task_id": task.task_id})
        return self._task(task)

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
        self.world.account(key).settle(task, "failed")
        self._runner.notify(task)
        return JSONResponse({"code": 200, "message": f"task {task.task_id} canceled"})

    async def _account(self, _request: Request, key: str) -> Response:
        account = self.world.account(key)
        data = {
            "name": "sandbox",
            "plan": "creator",
            "equivalent_in_usd": account.balance_points / world.POINTS_PER_USD,
            "wallet": {"point_remain": account.balance_points, "point_frozen": account.frozen_points},
            "credit_pack_info": {"available_credits": 0},
            "max_concurrent_task_count": self.world.settings.max_concurrent_tasks,
        }
        return _success(data)

    async def _history(self, request: Request, key: str) -> Response:
        query = request.query_params
        page, size = int(query.get("page", 1)), int(query.get("page_size", 10))
        if not 10 <= size <= 100:  # noqa: PLR2004 -- documented: page_size 10..100
            return _refusal("page_size must be between 10 and 100", 400)
        names = {"midjourney": "mj", "Qubico/video-toolkit": "video_toolkit", "Qubico/image-toolkit": "image_toolkit"}
        rows = [
            {
                "task_id": task.task_id,
                "task_model": names[task.model],
                "action": task.task_type,
                "service_mode": "public",
                "status": task.status,
                "usage": task.consumed_points if task.is_done else task.price_points,
                "created_at": task.created_at,
                "updated_at": task.ended_at,
            }
            for task in self.world.tasks_of(key)
            if query.get("model", "") in ("", names[task.model])
        ]
        if self.world.settings.camel_case_history:
            rows = [{_camel(name): value for name, value in row.items()} for row in rows]
        first = (page - 1) * size
        return _success({"data": rows[first : first + size], "page": page, "size": size, "total": len(rows)})

    async def _upload(self, request: Request, _key: str) -> Response:
        body = await request.json()
        data = await asyncio.to_thread(products.decode_base64, body.get("file_data", ""))
        name = f"upload-{world.new_task_id()}{Path(body.get('file_name', '')).suffix}"
        (self._folder / name).write_bytes(data)
        return _success({"url": f"{self._base_url}/results/{name}"})

    async def _result(self, request: Request, _key: str) -> Response:
        name = request.path_params["name"]
        task = next((task for task in self.world.tasks.values() if task.file and task.file.name == name), None)
        if task is not None and not task.owner:
            await asyncio.to_thread(self._runner.picture, task)
        path = self._folder / name
        return FileResponse(path) if path.is_file() else PlainTextResponse("not found", 404)

    async def _fetch_media(self, body: dict[str, Any]) -> Path | None:
        """Return the file of a submission, decoded or downloaded; None where it has none."""
        name = products.media_field(body)
        given: dict[str, Any] = body.get("input") or {}
        source = given.get(name) if name else None
        if not isinstance(source, str) or not source:
            return None
        if source.startswith(("http://", "https://")):
            data = await _download(source)
        else:
            data = await asyncio.to_thread(products.decode_base64, source)
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix="input-", delete=False) as file:
            file.write(data)
        return Path(file.name)

    def _task(self, task: world.Task) -> Response:
        return _success(task_json(task, capitalised=self.world.settings.capitalised))

    def _reset(self) -> None:
        empty(self._folder)
        self.world = World(settings=replace(self._defaults))
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
        self.world.faults.append(Fault(**await request.json()))
        return JSONResponse({})

    async def _control_no_faults(self, _request: Request) -> Response:
        self.world.faults.clear()
        return JSONResponse({})

    async def _control_state(self, _request: Request) -> Response:
        return JSONResponse({"requests": self.world.requests, "tasks": self.world.describe()})


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        body: object = json.loads(raw)
    except ValueError:
        raise RefusedError("invalid JSON") from None
    if not isinstance(body, dict):
        raise RefusedError("invalid JSON")
    return cast("dict[str, Any]", body)


async def _download(url: str) -> bytes:
    chunks = bytearray()
    is_here = urlsplit(url).hostname in ("127.0.0.1", "localhost")
    try:
        async with (
            httpx.AsyncClient(timeout=20, follow_redirects=True, trust_env=not is_here) as http,
            http.stream("GET", url) as response,
        ):
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                chunks += chunk
                if len(chunks) > MAX_MEDIA_BYTES:
                    raise RefusedError("task input too large", status=413)
    except (httpx.HTTPError, httpx.InvalidURL):
        raise RefusedError("failed to get valid media from the url") from None
    return bytes(chunks)


async def _misbehave(request: Request, faults: list[Fault], when: str) -> Response | None:
    """Do what is planned for this moment; return the answer where that is one."""
    for fault in faults:
        if fault.when != when:
            continue
        if fault.kind == "delay":
            await asyncio.sleep(fault.delay_s)
        if fault.kind == "cut":
            await _cut(request)
            return Response()
        if fault.kind == "answer":
            return Response(fault.body, fault.status, fault.headers)
    return None


async def _cut(request: Request) -> None:
    """Close the connection without a word."""
    request.scope["state"]["transport"].abort()
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _BrokenOff(Response):
    """A reply of which only a part arrives."""

    def __init__(self, request: Request, whole: Response) -> None:
        super().__init__(status_code=whole.status_code, background=BackgroundTask(_cut, request))
        self.raw_headers = whole.raw_headers
        self.body = bytes(whole.body)[: len(whole.body) // 2]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the head and half of the body, then cut."""
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if self.background:
            await self.background()


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _success(data: dict[str, Any]) -> Response:
    return JSONResponse({"code": 200, "data": data, "message": "success"})


def _refusal(text: str, status: int) -> Response:
    return JSONResponse({"code": status, "data": None, "message": text}, status)
