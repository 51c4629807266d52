"""The one way in for whoever wants something done with a task: buy it, look at it, wait for it."""

import asyncio

from pydantic import SecretStr

from piapi_mcp.api.catalog import MidjourneyIndex
from piapi_mcp.api.client import PiAPIClient
from piapi_mcp.errors import PiAPIError
from piapi_mcp.settings import Settings
from piapi_mcp.tasks import orders
from piapi_mcp.tasks.models import Task, describe_task
from piapi_mcp.tasks.options import Options
from piapi_mcp.tasks.orders import Order
from piapi_mcp.tasks.waiting import OnTick, Watcher

_FINISH_S = 10.0
"""How long a server that stops waits for submissions that are under way."""


def open_service(settings: Settings, api_key: SecretStr) -> "TaskService":
    """Return a service that spends *api_key*; close it when done."""
    return TaskService(settings, PiAPIClient(api_key, base_url=settings.base_url))


class TaskService:
    """Everything that can be done with tasks, for one PiAPI key."""

    def __init__(self, settings: Settings, client: PiAPIClient) -> None:
        self._settings = settings
        self._client = client
        self._watcher = Watcher(client.read_task)
        self._submissions: set[asyncio.Task[Task]] = set()

    def order_midjourney_upscale(self, origin_task_id: str, index: MidjourneyIndex, options: Options) -> Order:
        """See `orders.order_midjourney_upscale`."""
        return orders.order_midjourney_upscale(self._settings, origin_task_id, index, options)

    async def order_video_upscale(self, video: str, options: Options) -> Order:
        """See `orders.order_video_upscale`."""
        return await orders.order_video_upscale(self._settings, video, options)

    async def buy(self, order: Order, *, wait_s: float = 0, on_tick: OnTick | None = None) -> Task:
        """Submit *order* and return the task; with *wait_s*, as it is after at most that many seconds.

        A caller that goes away does not stop the submission: it runs to its end, so that its id is not lost.

        Raises:
            RefusedError: PiAPI said no; nothing was bought.
            UnreachableError: The request never left; nothing was bought.
            OutcomeUnknownError: Nobody can say whether it was bought.
        """
        submission = asyncio.create_task(self._submit(order))
        self._submissions.add(submission)
        submission.add_done_callback(self._forget)
        task = await asyncio.shield(submission)
        return await self._watched(task, order, wait_s, on_tick) if wait_s else task

    async def get(self, task_id: str, *, wait_s: float = 0, on_tick: OnTick | None = None) -> Task:
        """Return the task as it is now, or as it is when it has ended or *wait_s* seconds have passed.

        Raises:
            RefusedError: PiAPI does not know the task, or does not let this key see it.
            UnreachableError: PiAPI gave no usable answer.
        """
        if not wait_s:
            return describe_task(await self._client.read_task(task_id))
        return describe_task(await self._watcher.wait(task_id, wait_s=wait_s, on_tick=on_tick))

    async def close(self) -> None:
        """Let submissions that are under way finish, then close the connections."""
        if self._submissions:
            await asyncio.wait(self._submissions, timeout=_FINISH_S)
        await self._client.close()

    async def _submit(self, order: Order) -> Task:
        with order.media:
            remote = await self._client.create_task(order.product, order.task_input, order.config)
        return describe_task(remote, quoted_usd=order.quoted_usd, notes=order.notes)

    async def _watched(self, task: Task, order: Order, wait_s: float, on_tick: OnTick | None) -> Task:
        try:
            remote = await self._watcher.wait(task.task_id, wait_s=wait_s, on_tick=on_tick)
        except PiAPIError:
            return task  # it is bought: its id matters more than why a look at it failed
        return describe_task(remote, quoted_usd=order.quoted_usd, notes=order.notes)

    def _forget(self, submission: asyncio.Task[Task]) -> None:
        self._submissions.discard(submission)
        if not submission.cancelled():
            submission.exception()  # the caller may be gone: seen here, so that nothing is logged as never seen
