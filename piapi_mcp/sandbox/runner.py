"""Takes tasks from pending to their end, by the clock or by the looks at them, one job at a time; tells webhooks."""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import httpx

from piapi_mcp.sandbox import work
from piapi_mcp.sandbox.products import Accepted
from piapi_mcp.sandbox.samples import SAMPLES, UPSCALED_ACTIONS
from piapi_mcp.sandbox.world import Task, World

_WEBHOOK_ATTEMPTS = 3


class Runner:
    """Works on the tasks of one sandbox, inside its event loop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Where results lie."""
        self.base_url = ""
        """Where they are served."""
        self._one_at_a_time = asyncio.Semaphore(1)
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
        if world.settings.looks is None or task.is_done:
            return
        task.looks += 1
        if task.looks > 1:
            task.start()
        if task.looks >= world.settings.looks and (running := self._running.get(task.task_id)):
            self._seen_enough[task.task_id].set()
            await asyncio.wait({running})

    async def stop(self) -> None:
        """Let go of everything that runs."""
        pending = [*self._running.values(), *self._webhooks]
        for running in pending:
            running.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _run(self, world: World, task: Task, accepted: Accepted, media: Path | None) -> None:
        by_clock = world.settings.looks is None
        started = time.monotonic()
        if by_clock:
            await asyncio.sleep(world.settings.pending_s)
            task.start()
        status = "completed"
        try:
            await self._work(world, task, accepted, media)
        except work.WorkError as error:
            status, task.error = "failed", {"code": 10000, "message": "internal error", "raw_message": str(error)}
        left_s = world.settings.pending_s + world.settings.processing_s - (time.monotonic() - started)
        if not by_clock:
            await self._seen_enough[task.task_id].wait()
        elif left_s > 0:
            await asyncio.sleep(left_s)
        if task.planned_failure is not None:
            status, task.error = "failed", dict(task.planned_failure.error)
            task.logs += task.planned_failure.logs
        self._finish(world, task, status)

    def _finish(self, world: World, task: Task, status: str) -> None:
        if task.is_done:
            return  # cancelled meanwhile
        task.start()
        if status == "completed" and task.file:
            name = "video_url" if task.file.suffix == ".mp4" else "image_url"
            task.output = {name: f"{self.base_url}/results/{task.file.name}"}
        world.account(task.owner).settle(task, status)
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
        source = media
        if accepted.parent is not None:
            task.version = accepted.parent.version
            task.actions = UPSCALED_ACTIONS.get(task.version or "6", ()) if accepted.parent.is_grid else ()
            source = await asyncio.to_thread(self.picture, accepted.parent) if world.settings.does_work else None
        if not world.settings.does_work:
            target.write_bytes(b"")
        else:
            async with self._one_at_a_time:
                await asyncio.to_thread(self._job, task, accepted, source, target)
        task.file = target

    def _job(self, task: Task, accepted: Accepted, source: Path | None, target: Path) -> None:
        def progress(percent: int) -> None:
            task.progress = percent

        work.run(accepted.job, progress, source=str(source), target=str(target), **accepted.arguments)

    def picture(self, task: Task) -> Path:
        """Return the file of a finished task; a sample's is drawn when it is first wanted. Blocks."""
        for sample in SAMPLES:
            if sample.task_id == task.task_id:
                return sample.draw(self.folder)
        if task.file is None:
            raise work.WorkError("the origin task has no image")
        return task.file


def task_json(task: Task, *, capitalised: bool = False) -> dict[str, Any]:
    """Return *task* as PiAPI shows it."""
    return {
        "task_id": task.task_id,
        "model": task.model,
        "task_type": task.task_type,
        "status": task.status.capitalize() if capitalised else task.status,
        "config": dict(task.config),
        "input": dict(task.task_input),
        "output": _output(task),
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
        "temporary_image_urls": None,
        "discord_image_url": "",
        "actions": list(task.actions) if task.status == "completed" else [],
        "progress": task.progress,
        "intermediate_image_urls": None,
    }


async def _tell(endpoint: str, secret: str, task: Task) -> None:
    body = {"timestamp": int(time.time()), "data": task_json(task)}
    async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
        for attempt in range(_WEBHOOK_ATTEMPTS):
            try:
                if (await http.post(endpoint, json=body, headers={"x-webhook-secret": secret})).is_success:
                    return
            except httpx.HTTPError:
                pass  # delivery is tried again; PiAPI promises at least once, not always
            await asyncio.sleep(0.2 * (attempt + 1))


def empty(folder: Path) -> None:
    """Remove all results."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
