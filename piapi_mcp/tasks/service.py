"""The one way in for whoever wants something done with a task: buy it, look at it, wait for it."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from decimal import Decimal
from urllib.parse import urlsplit

from pydantic import SecretStr

from piapi_mcp.errors import BudgetError, InputRejectedError, LedgerError, PiAPIError
from piapi_mcp.formatting import dollars
from piapi_mcp.ledger.sqlite import Ledger
from piapi_mcp.media.decoder import make_preview
from piapi_mcp.media.fetch import Fetcher
from piapi_mcp.media.local_files import LocalFiles
from piapi_mcp.piapi.catalog import ImageScale, MidjourneyIndex
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.piapi.models import COMPLETED, RemoteTask
from piapi_mcp.settings import Settings
from piapi_mcp.tasks import download as saving
from piapi_mcp.tasks import history as listing
from piapi_mcp.tasks import image as images
from piapi_mcp.tasks import request as orders
from piapi_mcp.tasks import video as videos
from piapi_mcp.tasks.midjourney import look_at_parent
from piapi_mcp.tasks.models import AccountInfo, SavedResult, Task, TaskList, describe_dry_run, describe_task
from piapi_mcp.tasks.options import Options
from piapi_mcp.tasks.polling import OnTick, Watcher
from piapi_mcp.tasks.pricing import check_price
from piapi_mcp.tasks.request import Order, Reach
from piapi_mcp.tasks.submission import Buyer, record_end

_KEPT_PREVIEWS = 32
"""Agents look at a finished task more than once."""


def open_service(settings: Settings, api_key: SecretStr, *, reads_local_files: bool = True) -> "TaskService":
    """Return a service that spends *api_key*; close it when done."""
    client = PiAPIClient(api_key, base_url=settings.base_url)
    ledger = _ledger(settings, f"{settings.base_url} {api_key.get_secret_value()}")
    return TaskService(settings, client, ledger, reads_local_files=reads_local_files)


async def check_ready(settings: Settings) -> None:
    """Return if PiAPI answers and the ledger can be written.

    Raises:
        UnreachableError: PiAPI does not answer.
        LedgerError: The ledger cannot be written.
    """
    await check_ledger(settings)
    await check_reachable(settings)


async def check_ledger(settings: Settings) -> None:
    """Return if the ledger can be written.

    Raises:
        LedgerError: It cannot.
    """
    ledger = _ledger(settings, "")
    try:
        await ledger.adopt_orphans()
    finally:
        await ledger.close()


async def check_reachable(settings: Settings) -> None:
    """Return if PiAPI answers at all.

    Raises:
        UnreachableError: It does not.
    """
    async with PiAPIClient(SecretStr(""), base_url=settings.base_url) as client:
        await client.ping()


def _ledger(settings: Settings, identity: str) -> Ledger:
    return Ledger(settings.state_folder / "ledger.sqlite3", identity=identity)


class TaskService:
    """Everything that can be done with tasks, for one PiAPI key."""

    def __init__(
        self,
        settings: Settings,
        client: PiAPIClient,
        ledger: Ledger,
        *,
        reads_local_files: bool = True,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._reads_local_files = reads_local_files
        self._client = client
        self._ledger = ledger
        self._buyer = Buyer(client, ledger, sleep=sleep)
        self._watcher = Watcher(client.read_task)
        self._previews: dict[str, bytes] = {}
        self._fetcher = Fetcher(allowed_origins=_own_origins(settings.base_url))

    async def upscale_midjourney(
        self,
        origin_task_id: str,
        index: MidjourneyIndex,
        options: Options,
        *,
        wait_s: float = 0,
        on_tick: OnTick | None = None,
    ) -> Task:
        """Buy an upscale of a Midjourney image and return the task.

        Raises:
            PiAPIError: As `_buy`, and InputRejectedError where PiAPI would refuse it.
        """
        order = orders.order_midjourney_upscale(self._settings, options, origin_task_id=origin_task_id, index=index)
        if options.allow_repeat or await self._ledger.find_request(order.draft().fingerprint) is None:
            # What was bought before is answered with its task, even where its parent is gone since.
            note = await look_at_parent(self._client, origin_task_id, index)
            order = dataclasses.replace(order, notes=(note,) if note else ())
        return await self._buy(order, options, wait_s=wait_s, on_tick=on_tick)

    async def upscale_video(
        self, video: str, options: Options, *, wait_s: float = 0, on_tick: OnTick | None = None
    ) -> Task:
        """Buy an upscale of a video and return the task.

        Raises:
            PiAPIError: As `_buy`, and InputRejectedError where PiAPI would refuse it.
        """
        order = await videos.order_video_upscale(self._settings, options, self._reach(), video)
        return await self._buy(order, options, wait_s=wait_s, on_tick=on_tick)

    async def get(self, task_id: str, *, wait_s: float = 0, on_tick: OnTick | None = None) -> Task:
        """Return the task as it is now, or as it is when it has ended or *wait_s* seconds have passed.

        Raises:
            RefusedError: PiAPI does not know the task, or does not let this key see it.
            UnreachableError: PiAPI gave no usable answer.
        """
        if not wait_s:
            remote = await self._client.read_task(task_id)
            await record_end(self._ledger, remote)
            return self._describe(remote)
        seen = await self._watcher.wait(task_id, wait_s=wait_s, on_tick=on_tick)
        await record_end(self._ledger, seen.task)
        note = f"PiAPI has not answered for {seen.age_s:.0f} s: this is how the task stood before that."
        return self._describe(seen.task, notes=(note,) if seen.is_stale else ())

    def end_waits(self) -> None:
        """Let every wait end at once, those still to come included: the server is about to end."""
        self._watcher.end_waits()

    async def close(self) -> None:
        """Let submissions that are under way finish, then close connections and ledger."""
        await self._buyer.close()
        await self._client.close()
        await self._ledger.close()

    async def upscale_image(
        self,
        image: str,
        options: Options,
        *,
        scale: ImageScale,
        face_enhance: bool,
        wait_s: float = 0,
        on_tick: OnTick | None = None,
    ) -> Task:
        """Buy an upscale of an image and return the task.

        Raises:
            PiAPIError: As `_buy`, and InputRejectedError where PiAPI would refuse it.
        """
        order = await images.order_image_upscale(
            self._settings, options, self._reach(), image=image, scale=scale, face_enhance=face_enhance
        )
        return await self._buy(order, options, wait_s=wait_s, on_tick=on_tick)

    async def save(self, task_id: str, directory: str | None = None) -> SavedResult:
        """See `saving.save_result`."""
        task = await self._client.read_task(task_id)
        await record_end(self._ledger, task)
        entry = None
        with contextlib.suppress(LedgerError):  # it only knows the promised size
            entry = await self._ledger.find_task(task_id)
        return await saving.save_result(
            task,
            settings=self._settings,
            fetcher=self._fetcher,
            directory=directory,
            expected_px=entry.expected_px if entry else None,
        )

    async def preview(self, task: Task) -> bytes | None:
        """Return a small JPEG of what *task* resulted in; None where there is none, or none wanted."""
        if not self._settings.previews or task.status != COMPLETED or not task.result_urls:
            return None
        url = task.result_urls[0]
        if url not in self._previews:
            jpeg = await make_preview(self._fetcher, url)
            if jpeg is None:
                return None
            while len(self._previews) >= _KEPT_PREVIEWS:
                self._previews.pop(next(iter(self._previews)))
            self._previews[url] = jpeg
        return self._previews[url]

    async def cancel(self, task_id: str) -> Task:
        """Ask PiAPI to cancel a task, and return how it stands then.

        Raises:
            InputRejectedError: It has ended or is being worked on: PiAPI cancels only pending tasks.
            RefusedError: PiAPI said no.
            UnreachableError: PiAPI gave no usable answer.
        """
        before = await self._client.read_task(task_id)
        if before.status not in ("pending", "staged"):
            price = "it keeps its price" if before.status == COMPLETED else "nothing changes for it"
            raise InputRejectedError(
                f"The task is {before.status}; PiAPI cancels only tasks that are still pending. It was not cancelled, "
                f"and {price}. Call get_task to see how it stands."
            )
        await self._client.cancel_task(task_id)
        after = await self._client.read_task(task_id)
        await record_end(self._ledger, after)
        task = self._describe(after, notes=(_refund(after),))
        return task.model_copy(update={"next_step": "Submit again only if the user still wants it."})

    async def list_tasks(self, *, limit: int, status: str | None = None) -> TaskList:
        """See `listing.list_tasks`."""
        return await listing.list_tasks(self._client, self._ledger, limit=limit, status=status)

    async def account(self) -> AccountInfo:
        """Return the balance, the plan, and what was spent today.

        Raises:
            RefusedError: PiAPI said no.
            UnreachableError: PiAPI gave no usable answer.
        """
        account = await self._client.read_account()
        return AccountInfo(
            balance_usd=account.balance_usd,
            frozen_usd=account.frozen_usd,
            plan=account.plan,
            max_concurrent_tasks=account.max_concurrent_tasks,
            spent_today_usd=await self._ledger.spent_today_usd(),
            daily_budget_usd=self._settings.daily_budget_usd,
        )

    def _describe(self, task: RemoteTask, *, quoted_usd: Decimal | None = None, notes: tuple[str, ...] = ()) -> Task:
        # Whose files may not be read, on their disk nothing is saved either.
        return describe_task(task, can_save=self._reads_local_files, quoted_usd=quoted_usd, notes=notes)

    def _reach(self) -> Reach:
        local = LocalFiles.below(self._settings.allowed_dirs) if self._reads_local_files else None
        return Reach(local, self._fetcher)

    async def _buy(self, order: Order, options: Options, *, wait_s: float, on_tick: OnTick | None) -> Task:
        """Check the price, submit, and wait for as long as asked.

        Raises:
            BudgetError, LedgerError, RefusedError, UnreachableError: Nothing was bought.
            OutcomeUnknownError: Nobody can say whether it was bought.
        """
        clock = asyncio.get_running_loop().time
        ends_at = clock() + wait_s
        with order.media:
            earlier = None if options.allow_repeat else await self._ledger.find_request(order.draft().fingerprint)
            too_dear = None
            try:
                check_price(order, options, self._settings)
            except BudgetError as error:
                if earlier is None:
                    raise
                too_dear = error  # what was bought before costs nothing more, but nothing new is bought
            if options.dry_run:
                return describe_dry_run(order.quoted_usd, order.unpriced, order.notes, is_bought=earlier is not None)
            budget_usd = self._settings.daily_budget_usd
            purchase = await self._buyer.buy(
                order, repeat=options.allow_repeat, daily_budget_usd=budget_usd, too_dear=too_dear
            )
        task = purchase.task
        if not task.is_done and (left_s := ends_at - clock()) > 0:
            with contextlib.suppress(PiAPIError):  # it is bought: its id matters more than why a look at it failed
                task = (await self._watcher.wait(task.task_id, wait_s=left_s, on_tick=on_tick)).task
                await record_end(self._ledger, task)
        return self._describe(task, quoted_usd=purchase.quoted_usd, notes=purchase.notes)


def _own_origins(base_url: str) -> frozenset[str]:
    """Return the sandbox's origin where it stands in for PiAPI; nothing else on this machine is fetched."""
    parts = urlsplit(base_url)
    is_here = parts.hostname in ("127.0.0.1", "localhost", "::1") and parts.port is not None
    return frozenset({f"{parts.scheme}://{parts.netloc}"}) if is_here else frozenset()


def _refund(task: RemoteTask) -> str:
    # [?] what becomes of the price of a cancelled task is not documented
    if task.consumed_usd is not None and not task.consumed_usd:
        return "PiAPI accepted the cancellation and shows no charge."
    shown = f"{dollars(task.consumed_usd)}" if task.consumed_usd is not None else "no figure"
    return f"PiAPI accepted the cancellation; of the charge it shows {shown} so far. get_account shows the balance."
