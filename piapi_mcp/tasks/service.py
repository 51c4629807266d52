"""The one entry point for everything that is done with tasks: submit, read, wait, save, cancel, list."""

import asyncio
import contextlib
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from pydantic import SecretStr

from piapi_mcp.errors import BudgetError, InputRejectedError, LedgerError, PiAPIError
from piapi_mcp.ledger.ledger import Ledger
from piapi_mcp.ledger.sqlite import SQLiteLedger
from piapi_mcp.media.decoder import make_preview
from piapi_mcp.media.fetch import Fetcher
from piapi_mcp.media.local_files import LocalFiles
from piapi_mcp.media.sources import MediaAccess
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.piapi.models import COMPLETED, RemoteTask
from piapi_mcp.piapi.retry import Sleep
from piapi_mcp.settings import Settings
from piapi_mcp.tasks import download, history
from piapi_mcp.tasks.models import AccountInfo, SavedResult, Task, TaskList
from piapi_mcp.tasks.polling import OnPoll, Poller, read_task
from piapi_mcp.tasks.presentation import describe_dry_run, describe_refund, describe_submitted, describe_task
from piapi_mcp.tasks.pricing import SpendingLimits
from piapi_mcp.tasks.recovery import Recovery
from piapi_mcp.tasks.request import RequestContext, SubmitOptions, TaskRequest, Upscale, build_config
from piapi_mcp.tasks.submission import SubmittedTask, Submitter

_IDENTIFY_TIMEOUT_S = 5.0
_MAX_PREVIEWS = 32
"""How many previews are kept in memory: agents read a finished task more than once."""


def open_service(settings: Settings, api_key: SecretStr, *, reads_local_files: bool = True) -> "TaskService":
    """Return a service that pays with *api_key*. Close it when done."""
    client = PiAPIClient(api_key, base_url=settings.base_url)
    ledger = _open_ledger(settings, f"{client.base_url} {api_key.get_secret_value()}")
    return TaskService(settings, client, ledger, reads_local_files=reads_local_files)


async def check_ready(settings: Settings) -> None:
    """Check that PiAPI answers and that the ledger can be written.

    Raises:
        UnreachableError: PiAPI does not answer.
        LedgerError: The ledger cannot be written.
    """
    await check_ledger(settings)
    await check_reachable(settings)


async def check_ledger(settings: Settings) -> None:
    """Check that the ledger can be written.

    Raises:
        LedgerError: It cannot.
    """
    ledger = _open_ledger(settings, "")
    try:
        await ledger.expire_leases()
    finally:
        await ledger.close()


async def check_reachable(settings: Settings) -> None:
    """Check that PiAPI answers.

    Raises:
        UnreachableError: It does not.
    """
    async with PiAPIClient(SecretStr(""), base_url=settings.base_url) as client:
        await client.ping()


def _open_ledger(settings: Settings, identity: str) -> Ledger:
    return SQLiteLedger(settings.state_folder / "ledger.sqlite3", identity=identity)


class TaskService:
    """Everything that can be done with tasks, for one PiAPI key."""

    def __init__(
        self,
        settings: Settings,
        client: PiAPIClient,
        ledger: Ledger,
        *,
        reads_local_files: bool = True,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._client = client
        self._ledger = ledger
        self._reads_local_files = reads_local_files
        # A caller whose files cannot be read has no disk here to save results on either.
        self._can_save = reads_local_files
        self._recovery = Recovery(client, ledger, sleep=sleep)
        self._submitter = Submitter(client, ledger, self._recovery, sleep=sleep)
        self._poller = Poller(partial(read_task, client, ledger))
        self._previews: dict[str, bytes] = {}
        self._fetcher = Fetcher(allowed_origins=_sandbox_origins(settings.base_url))

    async def submit(self, upscale: Upscale, options: SubmitOptions, *, on_poll: OnPoll | None = None) -> Task:
        """Submit a paid task, wait for it as long as *options* say, and return it.

        Raises:
            InputRejectedError: PiAPI would refuse it; nothing was submitted.
            BudgetError, LedgerError, RefusedError, UnreachableError: Nothing was bought.
            OutcomeUnknownError: Whether it was bought is unknown.
        """
        clock = asyncio.get_running_loop().time
        ends_at = clock() + options.wait_s
        context = RequestContext(
            build_config(options, self._settings), self._media_access(), self._settings.midjourney_price_usd
        )
        request = await upscale.build_request(context)
        with request.open_files:
            await self._identify_account()
            is_replay = await self._is_replay(request, options)
            if not is_replay:
                request = await request.checked_with_piapi(self._client)
            limits = _spending_limits(options, self._settings)
            if options.dry_run:
                return await self._describe_dry_run(request, limits, is_replay=is_replay)
            submitted = await self._submitter.submit(request, limits=limits, repeat=options.allow_repeat)
        return await self._wait_for_end(submitted, left_s=ends_at - clock(), on_poll=on_poll)

    async def get(self, task_id: str, *, wait_s: float = 0, on_poll: OnPoll | None = None) -> Task:
        """Return the task as it is now, or as it is when it has ended or *wait_s* seconds have passed.

        Raises:
            RefusedError: PiAPI does not know the task, or does not show it to this key.
            UnreachableError: PiAPI gave no usable answer.
        """
        if not wait_s:
            return describe_task(await self._read(task_id), can_save=self._can_save)
        polled = await self._poller.wait(task_id, wait_s=wait_s, on_poll=on_poll)
        note = f"PiAPI has not answered for {polled.age_s:.0f} s: this was the state of the task before that."
        return describe_task(polled.task, can_save=self._can_save, notes=(note,) if polled.is_stale else ())

    async def save(self, task_id: str, directory: str | None = None) -> SavedResult:
        """Save the results of a task, see `download.save_result`."""
        task = await self._read(task_id)
        submission = None
        with contextlib.suppress(LedgerError):  # it only knows the expected size
            submission = await self._ledger.find_by_task(task_id)
        return await download.save_result(
            task,
            settings=self._settings,
            fetcher=self._fetcher,
            directory=directory,
            expected_px=submission.expected_px if submission else None,
        )

    async def preview(self, task: Task) -> bytes | None:
        """Return a small JPEG of the result of *task*; None where there is none, or where previews are switched off."""
        if not self._settings.previews or task.status != COMPLETED or not task.result_urls:
            return None
        url = task.result_urls[0]
        if url not in self._previews:
            jpeg = await make_preview(self._fetcher, url)
            if jpeg is None:
                return None
            while len(self._previews) >= _MAX_PREVIEWS:
                self._previews.pop(next(iter(self._previews)))
            self._previews[url] = jpeg
        return self._previews[url]

    async def cancel(self, task_id: str) -> Task:
        """Ask PiAPI to cancel a task, and return its state after that.

        Raises:
            InputRejectedError: The task is being processed or has ended: PiAPI cancels only pending tasks.
            RefusedError: PiAPI refused the cancellation.
            UnreachableError: PiAPI gave no usable answer.
        """
        before = await self._read(task_id)
        if before.status not in ("pending", "staged"):
            price = "it keeps its price" if before.status == COMPLETED else "nothing changes for it"
            raise InputRejectedError(
                f"The task is {before.status}; PiAPI cancels only tasks that are still pending. It was not cancelled, "
                f"and {price}. Call get_task for its state."
            )
        await self._client.cancel_task(task_id)
        after = await self._read(task_id)
        task = describe_task(after, can_save=self._can_save, notes=(describe_refund(after),))
        return task.model_copy(update={"next_step": "Submit again only if the user still wants it."})

    async def list_tasks(self, *, limit: int, status: str | None = None) -> TaskList:
        """Return the account's newest tasks, see `history.list_tasks`."""
        with contextlib.suppress(LedgerError):  # PiAPI's history can be shown without a ledger
            await self._identify_account()
        return await history.list_tasks(self._client, self._ledger, self._recovery, limit=limit, status=status)

    async def account(self) -> AccountInfo:
        """Return the balance, the plan, and what was spent today.

        Raises:
            RefusedError: PiAPI does not show the account to this key.
            UnreachableError: PiAPI gave no usable answer.
        """
        await self._identify_account()
        account = await self._client.read_account()
        return AccountInfo(
            balance_usd=account.balance_usd,
            frozen_usd=account.frozen_usd,
            plan=account.plan,
            max_concurrent_tasks=account.max_concurrent_tasks,
            spent_today_usd=await self._ledger.spent_today_usd(),
            daily_budget_usd=self._settings.daily_budget_usd,
        )

    def end_waits(self) -> None:
        """End every wait at once, future waits included: the server is about to stop."""
        self._poller.end_waits()

    async def close(self) -> None:
        """Let submissions that are under way finish, then close connections and ledger."""
        await self._submitter.close()
        await self._client.close()
        await self._ledger.close()

    def _media_access(self) -> MediaAccess:
        local = LocalFiles.below(self._settings.allowed_dirs) if self._reads_local_files else None
        return MediaAccess(local, self._fetcher)

    async def _is_replay(self, request: TaskRequest, options: SubmitOptions) -> bool:
        """Whether the same request was submitted before and is answered with its task."""
        return not options.allow_repeat and await self._ledger.find_by_request(request.fingerprint) is not None

    async def _describe_dry_run(self, request: TaskRequest, limits: SpendingLimits, *, is_replay: bool) -> Task:
        """Return what submitting the request would do.

        Raises:
            BudgetError: It would be refused.
        """
        submission = await self._ledger.find_by_request(request.fingerprint) if is_replay else None
        if submission and submission.task_id:
            with contextlib.suppress(PiAPIError):  # a task that cannot be read now is answered with its id
                is_replay = not (await self._read(submission.task_id)).has_failed
        if not is_replay and (reason := limits.refusal(request.quote, await self._ledger.spent_today_usd())):
            raise BudgetError(reason)
        return describe_dry_run(request.quote, is_replay=is_replay)

    async def _wait_for_end(self, submitted: SubmittedTask, *, left_s: float, on_poll: OnPoll | None) -> Task:
        task = submitted.task
        if not task.is_done and left_s > 0:
            with contextlib.suppress(PiAPIError):  # the task is bought: its id matters more than a poll that failed
                task = (await self._poller.wait(task.task_id, wait_s=left_s, on_poll=on_poll)).task
        return describe_submitted(replace(submitted, task=task), can_save=self._can_save)

    async def _identify_account(self) -> None:
        """Learn PiAPI's own id of the account, once: its other keys share its ledger and its budget."""
        if await self._ledger.is_account_known():
            return
        with contextlib.suppress(PiAPIError, TimeoutError):  # until it is known, the key stands for the account
            async with asyncio.timeout(_IDENTIFY_TIMEOUT_S):
                account = await self._client.read_account()
            if account.account_id is not None:
                await self._ledger.set_account(f"{self._client.base_url} {account.account_id}")

    async def _read(self, task_id: str) -> RemoteTask:
        return await read_task(self._client, self._ledger, task_id)


def _spending_limits(options: SubmitOptions, settings: Settings) -> SpendingLimits:
    return SpendingLimits(
        max_cost_usd=options.max_cost_usd,
        operator_max_cost_usd=settings.max_cost_usd,
        daily_budget_usd=settings.daily_budget_usd,
        allow_unknown_price=options.allow_unknown_price,
    )


def _sandbox_origins(base_url: str) -> frozenset[str]:
    """Return the origin of a sandbox that stands in for PiAPI: the only address of this machine that is fetched."""
    parts = urlsplit(base_url)
    is_loopback = parts.hostname in ("127.0.0.1", "localhost", "::1") and parts.port is not None
    return frozenset({f"{parts.scheme}://{parts.netloc}"}) if is_loopback else frozenset()
