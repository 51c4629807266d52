"""Takes tasks from pending to their end, by the clock or by the looks at them, one job at a time; tells webhooks."""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import httpx

from piapi_mcp.sandbox import media_jobs as work
from piapi_mcp.sandbox.catalog import Accepted
from piapi_mcp.sandbox.fixtures import UPSCALED_ACTIONS, draw_by_name
from piapi_mcp.sandbox.state import Task, World
from piapi_mcp.sandbox.uploads import forget

_WEBHOOK_ATTEMPTS = 3


class Runner:
    """Works on the tasks of one sandbox, inside its event loop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Where results lie."""
        self.base_url = ""
        """Where they are served."""
        self._one_at_a_time = asyncio.Semaphore(1)
        self._drawing = asyncio.Lock()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._seen_enough: dict[str, asyncio.Event] = {}
        self._webhooks = set[asyncio.Task[None]]()

    def start(self, world: World, task: Task, accepted: Accepted, media: Path | None) -> None:
        """Begin to work on *task*; it ends by itself."""
        self._seen_enough[task.task_id] = asyncio.Event()
        running = asyncio.create_task(self._run(world, task, accepted, media))
        self._running[task.task_id] = running
        running.add_done_callback(lambda _: self._running.pop(task.task_id, None))

    async def look(self, world: World, task: Task) -> None:
        """Count a read of *task*; where tasks advance by looks, the last one waits for the work and ends it."""
        if world.settings.polls is None or task.is_done:
            return
        task.polls += 1
        if task.polls > 1:
            task.start(world.now())
        task.advance(100 * task.polls // world.settings.polls)
        if task.polls >= world.settings.polls and (running := self._running.get(task.task_id)):
            self._seen_enough[task.task_id].set()
            await asyncio.wait({running})

    async def stop(self) -> None:
        """Let go of everything that runs."""
        pending = [*self._running.values(), *self._webhooks]
        for running in pending:
            running.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _run(self, world: World, task: Task, accepted: Accepted, media: Path | None) -> None:
        by_clock = world.settings.polls is None
        started = time.monotonic()
        if by_clock:
            await asyncio.sleep(world.settings.pending_s)
            task.start(world.now())
        status: Literal["completed", "failed"] = "completed"
        try:
            await self._work(world, task, accepted, media)
        except work.WorkError as error:
            status, task.error = "failed", {"code": 10000, "message": "internal error", "raw_message": str(error)}
        finally:
            forget(media)
        if by_clock:
            await _let_pass(task, world.settings.pending_s + world.settings.processing_s - time.monotonic() + started)
        else:
            await self._seen_enough[task.task_id].wait()
        if task.planned_failure is not None:
            status, task.error = "failed", dict(task.planned_failure.error)
            task.logs += task.planned_failure.logs
        self._finish(world, task, status)

    def _finish(self, world: World, task: Task, status: Literal["completed", "failed"]) -> None:
        if task.is_done:
            return  # cancelled meanwhile
        task.start(world.now())
        if status == "completed" and task.file:
            name = "video_url" if task.file.suffix == ".mp4" else "image_url"
            task.output = {name: f"{self.base_url}/results/{task.file.name}"}
        world.account(task.owner).settle(task, status, world.now())
        self.notify(task)

    def notify(self, task: Task) -> None:
        """Tell the task's webhook, if it has one, that it has ended."""
        webhook: dict[str, str] = task.config.get("webhook_config") or {}
        if webhook.get("endpoint"):
            telling = asyncio.create_task(_tell(webhook["endpoint"], webhook.get("secret", ""), task))
            self._webhooks.add(telling)
            telling.add_done_callback(self._webhooks.discard)

    async def _work(self, world: World, task: Task, accepted: Accepted, media: Path | None) -> None:
        target = self.folder / f"{task.task_id}{accepted.suffix}"
        parent = accepted.parent
        if parent is not None:
            task.version = parent.version
            task.actions = UPSCALED_ACTIONS.get(task.version or "6", ()) if parent.is_grid else ()
        if world.settings.does_work:
            async with self._one_at_a_time:
                source = media if parent is None else await self._image(parent)
                await work.perform(
                    accepted.job, task.advance, source=str(source), target=str(target), **accepted.arguments
                )
        else:
            target.write_bytes(b"")
        task.file = target

    async def _image(self, task: Task) -> Path:
        """Return the file of a finished Midjourney task; a sample's is drawn when it is first wanted."""
        if task.file is None:
            raise work.WorkError("the origin task has no image")
        return await self.sample(task.file.name) or task.file

    async def sample(self, name: str) -> Path | None:
        """Return the sample image *name*, drawn now if need be; None if no sample is called so."""
        async with self._drawing:
            return await asyncio.to_thread(draw_by_name, self.folder, name)


async def _let_pass(task: Task, duration_s: float) -> None:
    """Let time go by and *task* make progress."""
    steps = 10
    for step in range(1, steps + 1):
        await asyncio.sleep(max(0, duration_s) / steps)
        task.advance(100 * step // steps)


def task_json(task: Task, *, capitalised: bool = False, null_output: bool = False) -> dict[str, Any]:
    """Return *task* as PiAPI shows it; *null_output*: without its result."""
    return {
        "task_id": task.task_id,
        "model": task.model,
        "task_type": task.task_type,
        "status": task.status.capitalize() if capitalised else task.status,
        "config": dict(task.config),
        "input": dict(task.task_input),
        "output": None if null_output else _output(task),
        "meta": {
            "created_at": task.created_at,
            "started_at": task.started_at,
            "ended_at": task.ended_at,
            "usage": {
                "type": "point",
                "frozen": task.price_points,
                "consume": task.consumed_points if task.is_done else task.price_points,
            },
            "is_using_private_pool": False,
        },
        "detail": None,
        "logs": list(task.logs),
        "error": {"code": 0, "raw_message": "", "message": "", "detail": None} | task.error,
    }


def _output(task: Task) -> dict[str, Any] | None:
    if task.model != "midjourney":
        return dict(task.output) or None
    return {
        "image_url": task.output.get("image_url", ""),
        "image_urls": None,
        "temporary_image_urls": task.output.get("temporary_image_urls"),
        "discord_image_url": "",
        "actions": list(task.actions) if task.status == "completed" else [],
        "progress": task.progress,
        "intermediate_image_urls": None,
    }


async def _tell(endpoint: str, secret: str, task: Task) -> None:
    body = {"timestamp": int(time.time()), "data": task_json(task)}
    headers = {b"x-webhook-secret": secret.encode()} if secret else {}
    async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
        for attempt in range(_WEBHOOK_ATTEMPTS):
            try:
                if (await http.post(endpoint, json=body, headers=headers)).is_success:
                    return
            except (httpx.HTTPError, httpx.InvalidURL):
                pass  # delivery is tried again; PiAPI promises at least once, not always
            await asyncio.sleep(0.2 * (attempt + 1))


def empty(folder: Path) -> None:
    """Remove all results."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
