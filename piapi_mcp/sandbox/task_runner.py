"""Runs tasks from pending to completed or failed, by time or by polls, one media job at a time; delivers webhooks."""

import asyncio
import time
from pathlib import Path
from typing import Any, Literal

import httpx

from piapi_mcp.sandbox import media_jobs
from piapi_mcp.sandbox.catalog import AcceptedRequest
from piapi_mcp.sandbox.fixtures import UPSCALED_ACTIONS, draw_sample_image
from piapi_mcp.sandbox.replies import task_json
from piapi_mcp.sandbox.state import SandboxState, Task
from piapi_mcp.sandbox.uploads import delete_media

_WEBHOOK_ATTEMPTS = 3


class TaskRunner:
    """Runs the tasks of one sandbox in its event loop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Folder of the results."""
        self.base_url = ""
        """The sandbox's address, which the URLs of results begin with."""
        self._job_slot = asyncio.Semaphore(1)
        self._sample_lock = asyncio.Lock()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._last_poll: dict[str, asyncio.Event] = {}
        """Events by task id, each set by the poll at which the task is to end."""
        self._deliveries = set[asyncio.Task[None]]()

    def start(self, state: SandboxState, task: Task, accepted: AcceptedRequest, media: Path | None) -> None:
        """Run *task* in the background, and delete *media* when its work is done."""
        self._last_poll[task.task_id] = asyncio.Event()
        running = asyncio.create_task(self._run(state, task, accepted, media))
        self._running[task.task_id] = running
        running.add_done_callback(lambda _: self._running.pop(task.task_id, None))

    async def count_poll(self, state: SandboxState, task: Task) -> None:
        """Count a read of *task*; if tasks advance by polls, the last one waits until the task has ended."""
        if state.settings.polls is None or task.is_done:
            return
        task.polls += 1
        if task.polls > 1:
            task.start(state.now())
        task.advance(100 * task.polls // state.settings.polls)
        if task.polls >= state.settings.polls and (running := self._running.get(task.task_id)):
            self._last_poll[task.task_id].set()
            await asyncio.wait({running})

    async def stop(self) -> None:
        """Cancel all running tasks and webhook deliveries."""
        pending = [*self._running.values(), *self._deliveries]
        for running in pending:
            running.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _run(self, state: SandboxState, task: Task, accepted: AcceptedRequest, media: Path | None) -> None:
        advances_with_time = state.settings.polls is None
        started = time.monotonic()
        if advances_with_time:
            await asyncio.sleep(state.settings.pending_s)
            task.start(state.now())
        status: Literal["completed", "failed"] = "completed"
        try:
            await self._make_result(state, task, accepted, media)
        except media_jobs.MediaJobError as error:
            # [R 2026-11] code 10000 and its text
            status, task.error = "failed", {"code": 10000, "message": "internal error", "raw_message": str(error)}
        finally:
            delete_media(media)
        if advances_with_time:
            ends_at = started + state.settings.pending_s + state.settings.processing_s
            await _sleep_with_progress(task, ends_at - time.monotonic())
        else:
            await self._last_poll[task.task_id].wait()
        if task.injected_failure is not None:
            status, task.error = "failed", dict(task.injected_failure.error)
            task.logs += task.injected_failure.logs
        self._end(state, task, status)

    def _end(self, state: SandboxState, task: Task, status: Literal["completed", "failed"]) -> None:
        if task.is_done:
            return  # it was cancelled in the meantime
        task.start(state.now())
        if status == "completed" and task.result_path:
            name = "video_url" if task.result_path.suffix == ".mp4" else "image_url"  # [C 2026-11]
            task.output = {name: f"{self.base_url}/results/{task.result_path.name}"}
        state.account(task.owner).settle(task, status, state.now())
        self.notify_webhook(state, task)

    def notify_webhook(self, state: SandboxState, task: Task) -> None:
        """Deliver the end of *task* to its webhook, if it has one, in the background."""
        webhook: dict[str, str] = task.config.get("webhook_config") or {}
        if webhook.get("endpoint"):
            # [D 2026-11] webhooks: the body
            body = {"timestamp": int(state.read_clock().timestamp()), "data": task_json(task, state.settings)}
            delivery = asyncio.create_task(_deliver_webhook(webhook["endpoint"], webhook.get("secret", ""), body))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._deliveries.discard)

    async def _make_result(
        self, state: SandboxState, task: Task, accepted: AcceptedRequest, media: Path | None
    ) -> None:
        target = self.folder / f"{task.task_id}{accepted.suffix}"
        parent = accepted.parent
        if parent is not None:
            task.version = parent.version
            task.actions = UPSCALED_ACTIONS.get(task.version or "6", ()) if parent.is_grid else ()
        if state.settings.does_work:
            async with self._job_slot:
                source = media if parent is None else await self._find_image(parent)
                await media_jobs.run_async(
                    accepted.job, task.advance, source=str(source), target=str(target), **accepted.arguments
                )
        else:
            target.write_bytes(b"")
        task.result_path = target

    async def _find_image(self, task: Task) -> Path:
        """Return the image of a completed Midjourney task."""
        if task.result_path is None:
            raise media_jobs.MediaJobError("the origin task has no image")
        return await self.draw_sample_image(task.result_path.name) or task.result_path

    async def draw_sample_image(self, name: str) -> Path | None:
        """Return the sample image *name*, drawing it if it does not exist yet; None if no sample has such an image."""
        async with self._sample_lock:
            return await asyncio.to_thread(draw_sample_image, self.folder, name)


async def _sleep_with_progress(task: Task, duration_s: float) -> None:
    """Sleep, and advance *task* in ten steps."""
    steps = 10
    for step in range(1, steps + 1):
        await asyncio.sleep(max(0, duration_s) / steps)
        task.advance(100 * step // steps)


async def _deliver_webhook(endpoint: str, secret: str, body: dict[str, Any]) -> None:
    # [D 2026-11] webhooks: the secret verbatim in a header
    headers = {b"x-webhook-secret": secret.encode()} if secret else {}
    async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
        for attempt in range(_WEBHOOK_ATTEMPTS):
            try:
                if (await http.post(endpoint, json=body, headers=headers)).is_success:
                    return
            except (httpx.HTTPError, httpx.InvalidURL):
                pass  # counts as a failed attempt; the last one is given up silently
            await asyncio.sleep(0.2 * (attempt + 1))
