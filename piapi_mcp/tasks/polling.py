"""Reading a task, and polling it until it ends: however many calls wait for a task, one loop polls it.

Polls start close together and grow apart with the age of the task, so that the end of a short task is seen at once and
a long task costs few polls.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from piapi_mcp.errors import (
    InputRejectedError,
    LedgerError,
    RateLimitedError,
    RefusedError,
    UnknownTaskError,
    UnreachableError,
)
from piapi_mcp.ledger.ledger import Ledger
from piapi_mcp.piapi.models import RemoteTask

# Heavy to import (HTTP client): only the annotations need it.
if TYPE_CHECKING:
    from piapi_mcp.piapi.client import PiAPIClient

_FIRST_PAUSE_S = 0.45
_LONGEST_PAUSE_S = 3.85
_GROWTH = 1.0
_CLOSE_POLLS_S = 2.6
"""Age up to which polls stay close together."""

_LONGEST_RETRY_AFTER_S = 30.0
_STALE_AFTER_S = 8.0
"""Successful polls are never this far apart."""
_MAX_WAITS = 100
_REPORT_EVERY_S = 4.0
"""A waiting call reports progress at least this often, changed or not."""

Read = Callable[[str], Awaitable[RemoteTask]]
OnPoll = Callable[[RemoteTask], Awaitable[None]]


async def read_task(client: "PiAPIClient", ledger: Ledger, task_id: str) -> RemoteTask:
    """Read a task from PiAPI, and record in the ledger if it has ended.

    The read succeeds even if the ledger cannot be written.

    Raises:
        UnknownTaskError: PiAPI does not know the task, or does not show it to this key.
        RefusedError: PiAPI refused the request.
        UnreachableError: PiAPI gave no usable answer.
    """
    try:
        task = await client.read_task(task_id)
    except UnknownTaskError as error:
        raise await _explain_unknown(ledger, task_id, error) from error
    with contextlib.suppress(LedgerError):
        await record_end(ledger, task)
    return task


async def _explain_unknown(ledger: Ledger, task_id: str, error: UnknownTaskError) -> UnknownTaskError:
    """Return the error for a task that PiAPI does not show; one that was bought here exists all the same."""
    with contextlib.suppress(LedgerError):
        if submission := await ledger.find_by_task(task_id):
            bought_at = datetime.fromtimestamp(submission.created_at, UTC).isoformat(timespec="seconds")
            return UnknownTaskError(
                f"Task {task_id} was bought here at {bought_at}, but PiAPI does not show it now. Do not buy it again: "
                "call get_task again in a minute, and tell the user if it stays so.",
                status=error.status,
            )
    return error


async def record_end(ledger: Ledger, task: RemoteTask) -> None:
    """Record that *task* has ended, if it has.

    Raises:
        LedgerError: The ledger cannot be written.
    """
    if task.is_done:
        await ledger.record_end(task.task_id, failed=task.has_failed, charged_usd=task.consumed_usd)


def pause_s(age_s: float) -> float:
    """Return the seconds between two polls of a task that is *age_s* seconds old, without jitter."""
    return min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, _GROWTH * (age_s - _CLOSE_POLLS_S)))


@dataclass(frozen=True)
class PolledTask:
    """A task as the last successful poll returned it."""

    task: RemoteTask
    age_s: float
    """How long ago that was, in seconds."""

    @property
    def is_stale(self) -> bool:
        """Whether polls have failed since."""
        return self.age_s > _STALE_AFTER_S


@dataclass
class _SharedPoll:
    """The polling of one task, on behalf of every call that waits for it."""

    waiters: int = 0
    latest: RemoteTask | None = None
    read_at_s: float = 0.0
    """When `latest` was read, by the event loop's clock."""
    refusal: RefusedError | None = None
    """PiAPI's final refusal, such as an unknown task: ends every wait."""
    failure: UnreachableError | RateLimitedError | None = None
    """Why the last poll returned nothing; ends no wait."""
    polled: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        return bool(self.refusal or (self.latest and self.latest.is_done) or (self.loop and self.loop.done()))

    @property
    def has_polled(self) -> bool:
        return bool(self.latest or self.failure)

    def wake_waiters(self) -> None:
        self.polled.set()
        self.polled = asyncio.Event()

    def result(self, now_s: float) -> PolledTask:
        if self.refusal:
            raise self.refusal
        if self.latest:
            return PolledTask(self.latest, now_s - self.read_at_s)
        if self.loop and self.loop.done() and not self.loop.cancelled() and (crash := self.loop.exception()):
            raise crash
        raise self.failure or UnreachableError("PiAPI has not answered yet. The task goes on: call get_task again.")


class Poller:
    """Polls tasks on behalf of many calls."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._polls: dict[str, _SharedPoll] = {}
        self._is_shutting_down = False

    def end_waits(self) -> None:
        """End every wait after the poll that is under way, future waits included."""
        self._is_shutting_down = True
        for poll in self._polls.values():
            poll.wake_waiters()

    async def wait(self, task_id: str, *, wait_s: float, on_poll: OnPoll | None = None) -> PolledTask:
        """Return the task as soon as it has ended, or as it is after *wait_s* seconds.

        Args:
            task_id: The task.
            wait_s: The longest time to wait, in seconds.
            on_poll: Called after each poll, and at least every few seconds.

        Raises:
            RefusedError: PiAPI does not know the task, or does not show it to this key.
            UnreachableError: No poll got an answer.
            InputRejectedError: Too many calls are waiting already.
        """
        if sum(poll.waiters for poll in self._polls.values()) >= _MAX_WAITS:
            raise InputRejectedError(
                f"{_MAX_WAITS} calls of this key are waiting for tasks, which is the limit. The task goes on: call "
                "get_task with wait_seconds 0, or again later."
            )
        clock = asyncio.get_running_loop().time
        ends_at = clock() + wait_s
        with self._join(task_id) as poll:
            while not self._is_over(poll) and (left_s := ends_at - clock()) > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(poll.polled.wait(), min(left_s, _REPORT_EVERY_S))
                if on_poll and poll.latest:
                    with contextlib.suppress(Exception):  # a report that fails must not hide the task
                        await on_poll(poll.latest)
            return poll.result(clock())

    def _is_over(self, poll: _SharedPoll) -> bool:
        # A server that shuts down still answers with the state of the task, once it was polled.
        return poll.is_over or (self._is_shutting_down and poll.has_polled)

    @contextlib.contextmanager
    def _join(self, task_id: str) -> Generator[_SharedPoll]:
        """Take part in the polling of a task, which starts with the first call and stops with the last."""
        poll = self._polls.setdefault(task_id, _SharedPoll())
        if poll.loop is None:
            # In a task of its own: a call that is cancelled does not disturb the others.
            poll.loop = asyncio.create_task(self._poll(task_id, poll))
        poll.waiters += 1
        try:
            yield poll
        finally:
            poll.waiters -= 1
            if not poll.waiters:
                poll.loop.cancel()
            if (not poll.waiters or poll.is_over) and self._polls.get(task_id) is poll:
                del self._polls[task_id]

    async def _poll(self, task_id: str, poll: _SharedPoll) -> None:
        clock = asyncio.get_running_loop().time
        started_at = clock()
        while True:
            retry_after_s = 0.0
            try:
                poll.latest, poll.failure = await self._read(task_id), None
                poll.read_at_s = clock()
            except RateLimitedError as error:
                poll.failure, retry_after_s = error, min(error.retry_after_s or 0.0, _LONGEST_RETRY_AFTER_S)
            except RefusedError as error:
                poll.refusal = error
            except UnreachableError as error:
                poll.failure = error
            finally:
                poll.wake_waiters()
            if poll.is_over:
                return
            age_s = max(clock() - started_at, _age_s(poll.latest))
            jitter = random.uniform(0.97, 1.03)  # noqa: S311 -- no secret
            await asyncio.sleep(max(retry_after_s, pause_s(age_s) * jitter))


def _age_s(task: RemoteTask | None) -> float:
    """Return how long ago PiAPI accepted the task; 0 where it is not known."""
    return (datetime.now(UTC) - task.created_at).total_seconds() if task and task.created_at else 0.0
