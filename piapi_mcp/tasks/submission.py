"""Buying: at most once, never lost.

A purchase is written down before its request leaves. The same request again answers with what was bought already.
A doubt is never taken for a no: it is cleared up from PiAPI's history, or laid before the agent.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal

from piapi_mcp.errors import (
    BudgetError,
    InsufficientCreditError,
    LedgerError,
    OutcomeUnknownError,
    PiAPIError,
    RateLimitedError,
    RefusedError,
    UnknownTaskError,
    UnreachableError,
)
from piapi_mcp.formatting import dollars
from piapi_mcp.ledger.sqlite import LEASE_S, Claim, Entry, Ledger
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.piapi.models import FAILED, RemoteTask
from piapi_mcp.tasks.recovery import Recovery
from piapi_mcp.tasks.request import Order

_RESEND_AFTER_S = (0.5, 1.5)
"""Pauses before a submission that provably never left is sent again."""
_LONGEST_STAY_S = 40.0
"""How long a call stays with a submission: clients give up after 60 seconds, the submission goes on without them."""
_FINISH_S = 10.0
"""How long a server that stops waits for submissions that are under way."""
_POLL_S = 0.1


@dataclass(frozen=True)
class Purchase:
    """A task that was bought, now or before."""

    task: RemoteTask
    quoted_usd: Decimal | None
    notes: tuple[str, ...] = ()


class Buyer:
    """Buys tasks for one account."""

    def __init__(
        self, client: PiAPIClient, ledger: Ledger, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._sleep = sleep
        self._recovery = Recovery(client, ledger, sleep=sleep)
        self._submissions: dict[int, asyncio.Task[Purchase]] = {}
        self._withdrawals: set[asyncio.Task[None]] = set()

    async def buy(
        self, order: Order, *, repeat: bool, daily_budget_usd: Decimal | None, too_dear: BudgetError | None = None
    ) -> Purchase:
        """Submit *order*, or answer with the task that the same request bought before.

        A caller that goes away stops nothing: the submission runs to its end, so that its id is not lost.

        Args:
            order: What to buy.
            repeat: Buy it even where the same request was bought before.
            daily_budget_usd: Most that the day's submissions may cost together.
            too_dear: Raised instead of buying anything new; what was bought before is answered all the same.

        Raises:
            BudgetError, LedgerError, RefusedError, UnreachableError: Nothing was bought.
            OutcomeUnknownError: Nobody can say whether it was bought.
        """
        claim = await self._claim(order, repeat=repeat, daily_budget_usd=daily_budget_usd)
        if claim.is_new and too_dear is not None:
            await self._ledger.record_refusal(claim.entry.id)
            raise too_dear
        if claim.is_new:
            return await self._stay_with(self._start(claim.entry, order))
        if under_way := self._submissions.get(claim.entry.id):
            purchase = await self._stay_with(under_way)
            return Purchase(purchase.task, purchase.quoted_usd, (*purchase.notes, _REPLAYED))
        earlier = await self._settled(claim.entry)
        try:
            task = await self._task_of(earlier)
        except UnreachableError:  # bought, however it stands
            return Purchase(RemoteTask(earlier.task_id or ""), earlier.quoted_usd, (_REPLAYED, _NOT_SEEN))
        if task is None:  # it was not bought, or it failed: the way is free
            return await self.buy(order, repeat=repeat, daily_budget_usd=daily_budget_usd, too_dear=too_dear)
        return Purchase(task, earlier.quoted_usd, (_REPLAYED,))

    async def close(self) -> None:
        """Let submissions that are under way finish, for some seconds."""
        if unfinished := [*self._submissions.values(), *self._withdrawals]:
            await asyncio.wait(unfinished, timeout=_FINISH_S)

    async def _claim(self, order: Order, *, repeat: bool, daily_budget_usd: Decimal | None) -> Claim:
        """Write *order* down; a caller that goes away meanwhile leaves nothing behind that looks submitted."""
        claiming = asyncio.create_task(
            self._ledger.claim(order.draft(), repeat=repeat, daily_budget_usd=daily_budget_usd)
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            withdrawal = asyncio.create_task(self._withdraw(claiming))
            self._withdrawals.add(withdrawal)
            withdrawal.add_done_callback(self._withdrawals.discard)
            raise

    async def _withdraw(self, claiming: asyncio.Task[Claim]) -> None:
        with contextlib.suppress(PiAPIError):
            claim = await claiming
            if claim.is_new:
                await self._ledger.record_refusal(claim.entry.id)

    def _start(self, entry: Entry, order: Order) -> asyncio.Task[Purchase]:
        submission = asyncio.create_task(self._submit(entry, order, order.media.pop_all()))
        self._submissions[entry.id] = submission

        def forget(ended: asyncio.Task[Purchase]) -> None:
            del self._submissions[entry.id]
            if not ended.cancelled():
                ended.exception()  # the caller may be gone: seen here, so that nothing is logged as never seen

        submission.add_done_callback(forget)
        return submission

    async def _stay_with(self, submission: asyncio.Task[Purchase]) -> Purchase:
        done, _ = await asyncio.wait({submission}, timeout=_LONGEST_STAY_S)
        if not done:
            raise OutcomeUnknownError(_UNDER_WAY)
        return submission.result()

    async def _settled(self, entry: Entry) -> Entry:
        """Wait until it is known what became of *entry*, which this or another process is submitting."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + _LONGEST_STAY_S
        while entry.state == "submitting":
            if loop.time() > ends_at:
                raise OutcomeUnknownError(_UNDER_WAY)
            if entry.is_orphaned(self._ledger.now()):
                await self._ledger.adopt_orphans()
            else:
                await self._sleep(_POLL_S)
            entry = await self._ledger.find(entry.id)
        if entry.state == "unknown":
            if await self._recovery.find(entry) is None:
                raise outcome_unknown(entry, "it was interrupted")
            entry = await self._ledger.find(entry.id)
        return entry

    async def _task_of(self, entry: Entry) -> RemoteTask | None:
        """Return how the task stands that *entry* became; None where nothing stands in the way of buying anew."""
        if entry.task_id is None:
            return None
        try:
            task = await self._client.read_task(entry.task_id)
        except UnknownTaskError:
            raise UnknownTaskError(
                f"The same request was bought before, as task {entry.task_id}, and PiAPI no longer shows that task. "
                "Nothing was submitted now. Call again with allow_repeat true to buy it anew."
            ) from None
        await record_end(self._ledger, task)
        return None if task.status == FAILED or task.is_cancelled else task

    async def _submit(self, entry: Entry, order: Order, media: ExitStack) -> Purchase:
        with media:
            async with self._signs_of_life(entry):
                try:
                    task = await self._send(entry, order)
                except OutcomeUnknownError as error:
                    with contextlib.suppress(LedgerError):  # left as it is, it counts as unknown before long
                        await self._ledger.record_unknown(entry.id)
                    found = await self._recovery.find(entry)
                    if found is None:
                        raise outcome_unknown(entry, error.reason) from error
                    return Purchase(found, entry.quoted_usd, (*order.notes, _FOUND_AGAIN))
                except PiAPIError:
                    with contextlib.suppress(LedgerError):  # what PiAPI said matters more
                        await self._ledger.record_refusal(entry.id)
                    raise
        try:
            await self._ledger.record_task(entry.id, task.task_id, quoted_usd=task.frozen_usd)
        except LedgerError:
            # It is bought, and its id must reach the caller; the error's own text would say that it is not.
            return Purchase(task, entry.quoted_usd, (*order.notes, _NOT_WRITTEN))
        return Purchase(task, entry.quoted_usd, order.notes)

    async def _send(self, entry: Entry, order: Order) -> RemoteTask:
        for pause_s in (*_RESEND_AFTER_S, None):
            try:
                return await self._client.create_task(order.product, order.task_input, order.config)
            except UnreachableError:  # it provably never left
                if pause_s is None:
                    raise
                await self._sleep(pause_s)
            except InsufficientCreditError as error:
                raise InsufficientCreditError(await self._with_balance(error, entry), status=error.status) from error
            except RateLimitedError as error:
                raise RateLimitedError(
                    await self._with_running(error), status=error.status, retry_after_s=error.retry_after_s
                ) from error
        raise AssertionError  # the last attempt has returned or raised

    async def _with_balance(self, error: RefusedError, entry: Entry) -> str:
        with contextlib.suppress(PiAPIError):
            account = await self._client.read_account()
            price = f", the task costs {dollars(entry.quoted_usd)}" if entry.quoted_usd is not None else ""
            return f"{error} The balance is {dollars(account.balance_usd)}{price}."
        return str(error)

    async def _with_running(self, error: RefusedError) -> str:
        with contextlib.suppress(LedgerError):
            running = [entry.task_id for entry in await self._ledger.recent(limit=5, states=("submitted",))]
            if listed := ", ".join(task_id for task_id in running if task_id):
                return f"{error} Submitted here and not seen to end: {listed}."
        return str(error)

    @contextlib.asynccontextmanager
    async def _signs_of_life(self, entry: Entry) -> AsyncGenerator[None]:
        """Keep other processes from taking this submission for dead."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE_S / 5)
                with contextlib.suppress(LedgerError):
                    await self._ledger.renew(entry.id)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()


async def record_end(ledger: Ledger, task: RemoteTask) -> None:
    """Note in the ledger that *task* has ended, if it has; a ledger that cannot be written spoils no look."""
    if task.is_done:
        with contextlib.suppress(LedgerError):
            failed = task.status == FAILED or task.is_cancelled
            await ledger.record_end(task.task_id, failed=failed, charged_usd=task.consumed_usd)


def outcome_unknown(entry: Entry, reason: str) -> OutcomeUnknownError:
    """Return the error for the submission *entry*, with the money at stake."""
    price = "at a price PiAPI does not publish" if entry.quoted_usd is None else f"for {dollars(entry.quoted_usd)}"
    return OutcomeUnknownError(
        f"PiAPI gave no usable answer to the submission ({reason}), and its history does not show the task "
        f"so far. It may have been bought, {price}: do not submit it again. Call list_tasks in a minute to look once "
        "more; only if it never shows up, call again with allow_repeat true.",
        reason=reason,
    )


_REPLAYED = (
    "The same request was submitted before: this is that task, and nothing was bought now. "
    "allow_repeat true buys it once more."
)
_NOT_WRITTEN = "Keep the task_id: the task was bought, but its id could not be written to this server's record."
_NOT_SEEN = "PiAPI does not answer now, so how the task stands is not known."
_FOUND_AGAIN = "PiAPI did not answer the submission; the task was found in its history, and was bought once."
_UNDER_WAY = (
    "PiAPI has not answered the submission yet; it goes on by itself and may be charged. Call again with the same "
    "arguments in some seconds: that answers with its task and buys nothing twice."
)
