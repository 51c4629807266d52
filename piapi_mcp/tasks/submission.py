"""Submitting a request: once, and never lost.

A submission is recorded in the ledger before its request is sent. A request that was submitted before is answered with
the task it became. An unknown outcome is never taken for a refusal: PiAPI's history is searched for the task, and if
it is not there, the caller is told what may have been bought.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial

from piapi_mcp.errors import (
    BudgetError,
    InsufficientCreditError,
    LedgerError,
    OutcomeUnknownError,
    PiAPIError,
    RateLimitedError,
    RefusedError,
    TaskIdConflictError,
    UnreachableError,
)
from piapi_mcp.formatting import dollars
from piapi_mcp.ledger.ledger import (
    LEASE_S,
    BoughtBefore,
    Claim,
    Ledger,
    New,
    OutcomeUnknown,
    Refused,
    Submission,
    UnderWay,
)
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.piapi.models import RemoteTask
from piapi_mcp.piapi.retry import Sleep, retry
from piapi_mcp.tasks.polling import read_task, record_end
from piapi_mcp.tasks.pricing import SpendingLimits
from piapi_mcp.tasks.recovery import Recovery
from piapi_mcp.tasks.request import TaskRequest

_RESEND_PAUSES_S = (0.5, 1.5)
"""Pauses before a request is sent again that provably never left."""
_LONGEST_WAIT_S = 40.0
"""How long a call waits for a submission. Clients give up after 60 s; the submission goes on without them."""
_SHUTDOWN_S = 10.0
"""How long a server that shuts down waits for submissions to finish."""
_CLAIM_AGAIN_S = 0.2
"""Pause before asking again about a request that another process is submitting."""


@dataclass(frozen=True)
class SubmittedTask:
    """A task that was submitted, now or before."""

    task: RemoteTask
    quoted_usd: Decimal | None
    is_upper_bound: bool
    bought_now: bool
    notes: tuple[str, ...] = ()


class Submitter:
    """Submits requests for one account."""

    def __init__(
        self,
        client: PiAPIClient,
        ledger: Ledger,
        recovery: Recovery,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._recovery = recovery
        self._sleep = sleep
        self._running: dict[int, asyncio.Task[SubmittedTask]] = {}
        """The submissions of this process that are under way, by the id of their row."""
        self._withdrawals: set[asyncio.Task[None]] = set()
        self._sends_marks = True
        """False once PiAPI has refused a mark."""

    async def submit(self, request: TaskRequest, *, limits: SpendingLimits, repeat: bool) -> SubmittedTask:
        """Submit *request*, or return the task that the same request became before.

        A caller that is cancelled does not stop the submission: it runs to its end, so that its task id is recorded.

        Args:
            request: What to submit.
            limits: What a new submission may cost. A replay is not limited: it costs nothing.
            repeat: Submit it even if the same request was submitted before.

        Raises:
            BudgetError, LedgerError, RefusedError, UnreachableError: Nothing was bought.
            OutcomeUnknownError: Whether it was bought is unknown.
        """
        ends_at = asyncio.get_running_loop().time() + _LONGEST_WAIT_S
        while True:
            claim = await self._claim(request, limits=limits, repeat=repeat)
            if submitted := await self._settle(claim, request, limits, ends_at=ends_at):
                return submitted

    async def close(self) -> None:
        """Wait some seconds for submissions that are under way."""
        if unfinished := [*self._running.values(), *self._withdrawals]:
            await asyncio.wait(unfinished, timeout=_SHUTDOWN_S)

    async def _settle(
        self, claim: Claim, request: TaskRequest, limits: SpendingLimits, *, ends_at: float
    ) -> SubmittedTask | None:
        """Act on the outcome of a claim; None means that the request is to be claimed again."""
        match claim:
            case New(submission):
                return await _wait_for(self._start(submission, request, limits))
            case UnderWay(submission) | OutcomeUnknown(submission) if running := self._running.get(submission.id):
                return _as_replay(await _wait_for(running))
            case UnderWay():
                if asyncio.get_running_loop().time() > ends_at:
                    raise OutcomeUnknownError(_UNDER_WAY)
                await self._sleep(_CLAIM_AGAIN_S)
                return None
            case OutcomeUnknown(submission):
                return await self._unless_over(await self._recover_earlier(submission))
            case BoughtBefore(submission, is_recent):
                return await self._unless_over(await self._replay(submission), is_recent=is_recent)
            case Refused(reason):
                raise BudgetError(reason)

    async def _unless_over(self, replay: SubmittedTask, *, is_recent: bool = True) -> SubmittedTask | None:
        """Return the replay, or None if the request is to be submitted anew.

        That is so if its task has failed, or has completed and is older than the replay window.
        """
        if not (replay.task.has_failed or (replay.task.is_done and not is_recent)):
            return replay
        await record_end(self._ledger, replay.task)  # raises unless the ledger can be written, so the loop ends
        return None

    async def _claim(self, request: TaskRequest, *, limits: SpendingLimits, repeat: bool) -> Claim:
        """Claim *request* in the ledger; a caller that is cancelled meanwhile leaves no row that looks submitted."""
        admit = partial(limits.refusal, request.quote)
        claiming = asyncio.create_task(self._ledger.claim(request.new_submission(), admit=admit, repeat=repeat))
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
            if isinstance(claim, New):
                await self._ledger.record_refusal(claim.submission.id)

    async def _replay(self, submission: Submission) -> SubmittedTask:
        """Return the task that *submission* became, as it is now; its id in any case."""
        try:
            task = await read_task(self._client, self._ledger, submission.task_id or "")
        except PiAPIError as error:
            return _replay_of(RemoteTask(submission.task_id or ""), submission, f"{_NOT_READ} {error}")
        return _replay_of(task, submission)

    async def _recover_earlier(self, submission: Submission) -> SubmittedTask:
        """Return the task of an earlier submission whose outcome is unknown."""
        task = await self._recovery.find(submission)
        if task is None:
            raise outcome_unknown(submission, "it was interrupted")
        return _replay_of(task, submission)

    def _start(
        self, submission: Submission, request: TaskRequest, limits: SpendingLimits
    ) -> asyncio.Task[SubmittedTask]:
        """Submit in a task of its own, which a cancelled caller does not cancel."""
        running = asyncio.create_task(self._run(submission, request, limits, request.open_files.pop_all()))
        self._running[submission.id] = running

        def forget(ended: asyncio.Task[SubmittedTask]) -> None:
            del self._running[submission.id]
            if not ended.cancelled():
                ended.exception()  # retrieved here, because the caller may be gone and asyncio would log it as unseen

        running.add_done_callback(forget)
        return running

    async def _run(
        self, submission: Submission, request: TaskRequest, limits: SpendingLimits, open_files: ExitStack
    ) -> SubmittedTask:
        """Send the request and record its outcome."""
        with open_files:
            async with self._keep_lease(submission):
                sending = asyncio.create_task(self._send(submission, request))
                await asyncio.wait({sending})
                error = sending.exception()
                if error is None:
                    task, note = await self._record_task(submission, sending.result())
                elif isinstance(error, PiAPIError) and not isinstance(error, OutcomeUnknownError):
                    with contextlib.suppress(LedgerError):  # the error itself matters more
                        await self._ledger.record_refusal(submission.id)
                    raise error
                else:
                    # Whatever went wrong after the first byte, the task may exist.
                    task, note = await self._recover(submission, error), _RECOVERED
        quote = request.quote
        notes = tuple(text for text in (limits.warning(quote, task.frozen_usd), *quote.notes, note) if text)
        return SubmittedTask(task, quote.usd, quote.is_upper_bound, bought_now=True, notes=notes)

    async def _record_task(self, submission: Submission, task: RemoteTask) -> tuple[RemoteTask, str | None]:
        """Record the task that PiAPI returned; return the task of the submission and a note on it."""
        try:
            is_recorded = await self._ledger.record_task(submission.id, task.task_id, frozen_usd=task.frozen_usd)
        except TaskIdConflictError as conflict:  # an id of another submission is not the answer to this one
            return await self._recover(submission, conflict), _RECOVERED
        except LedgerError:
            is_recorded = False  # the task is bought and its id must reach the caller, whatever becomes of the ledger
        return task, None if is_recorded else _NOT_RECORDED

    async def _recover(self, submission: Submission, error: BaseException) -> RemoteTask:
        """Search PiAPI's history for the task of a submission that got no usable answer."""
        with contextlib.suppress(LedgerError):  # unrecorded, it becomes unknown when its lease expires
            await self._ledger.record_unknown(submission.id)
        task = await self._recovery.find(submission)
        if task is None:
            reason = error.reason if isinstance(error, OutcomeUnknownError) else f"{type(error).__name__} here"
            raise outcome_unknown(submission, reason) from error
        return task

    async def _send(self, submission: Submission, request: TaskRequest) -> RemoteTask:
        """Send the request; only one that provably never left is sent again."""
        config = request.config if self._sends_marks else replace(request.config, mark=None)

        async def before_sending() -> None:
            # Of several processes, only the one that still holds the row sends its request.
            if not await self._ledger.renew(submission.id):
                raise LedgerError(_TAKEN_OVER)

        async def send() -> RemoteTask:
            return await self._client.create_task(
                request.product, request.task_input, config, before_sending=before_sending
            )

        try:
            return await retry(send, pauses_s=_RESEND_PAUSES_S, sleep=self._sleep, errors=(UnreachableError,))
        except InsufficientCreditError as error:
            text = await self._with_balance(error, submission)
            raise InsufficientCreditError(text, status=error.status) from error
        except RateLimitedError as error:
            text = await self._with_running_tasks(error)
            raise RateLimitedError(text, status=error.status, retry_after_s=error.retry_after_s) from error
        except RefusedError as error:
            if config.mark is None or "webhook" not in str(error).lower():
                raise
            # [? 2026-11] whether a secret without an endpoint is accepted: a certain refusal, so it may be sent again
            self._sends_marks = False
            return await self._send(submission, request)

    async def _with_balance(self, error: RefusedError, submission: Submission) -> str:
        with contextlib.suppress(PiAPIError):
            account = await self._client.read_account()
            price = f", the task costs {dollars(submission.quoted_usd)}" if submission.quoted_usd is not None else ""
            return f"{error} The balance is {dollars(account.balance_usd)}{price}."
        return str(error)

    async def _with_running_tasks(self, error: RefusedError) -> str:
        with contextlib.suppress(LedgerError):
            recent = await self._ledger.recent(limit=5, states=("submitted",))
            if running := ", ".join(submission.task_id for submission in recent if submission.task_id):
                return f"{error} Tasks submitted here that may still be running: {running}."
        return str(error)

    @contextlib.asynccontextmanager
    async def _keep_lease(self, submission: Submission) -> AsyncGenerator[None]:
        """Renew the lease meanwhile, so that no other process takes this one for dead."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE_S / 5)
                with contextlib.suppress(LedgerError):
                    await self._ledger.renew(submission.id)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()


async def _wait_for(running: asyncio.Task[SubmittedTask]) -> SubmittedTask:
    done, _ = await asyncio.wait({running}, timeout=_LONGEST_WAIT_S)
    if not done:
        raise OutcomeUnknownError(_UNDER_WAY)
    return running.result()


def _as_replay(submitted: SubmittedTask) -> SubmittedTask:
    return replace(submitted, bought_now=False, notes=(*submitted.notes, _REPLAYED))


def _replay_of(task: RemoteTask, submission: Submission, *notes: str) -> SubmittedTask:
    return SubmittedTask(
        task, submission.quoted_usd, submission.is_upper_bound, bought_now=False, notes=(_REPLAYED, *notes)
    )


def outcome_unknown(submission: Submission, reason: str) -> OutcomeUnknownError:
    """Return the error for a submission whose outcome is unknown, with the money at stake."""
    is_priced = submission.quoted_usd is not None
    price = f"for {dollars(submission.quoted_usd)}" if is_priced else "at a price PiAPI does not publish"
    return OutcomeUnknownError(
        f"PiAPI gave no usable answer to the submission ({reason}), and its history does not show the task so far. It "
        f"may have been bought, {price}: do not submit it again. Call list_tasks in a minute to search again; only if "
        "the task never appears, call again with allow_repeat true.",
        reason=reason,
    )


_REPLAYED = (
    "The same request was submitted before: this is its task, and nothing was bought now. "
    "allow_repeat true buys it once more."
)
_NOT_RECORDED = "Keep the task_id: the task was bought, but its id could not be written to the ledger."
_NOT_READ = "Its state is not known now; do not buy it again."
_RECOVERED = "PiAPI did not answer the submission; the task was found in its history, and was bought once."
_TAKEN_OVER = (
    "This server was stopped for a while before it sent the request, and another process has taken the request over. "
    "Nothing was submitted by this call. Call again with the same arguments."
)
_UNDER_WAY = (
    "PiAPI has not answered the submission yet; it continues in the background and may be charged. Call again with the "
    "same arguments in some seconds: the answer will be its task, and nothing is bought twice."
)
