"""Waiting for tasks: however many calls wait for one, a single loop looks at it.

Looks start close together and grow apart with the age of the task, so that a short job is seen at once and a long one
costs few looks.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from piapi_mcp.errors import InputRejectedError, RateLimitedError, RefusedError, UnreachableError
from piapi_mcp.piapi.models import RemoteTask

_FIRST_PAUSE_S = 0.45
_LONGEST_PAUSE_S = 3.85
_GROWTH = 1.0
_CLOSE_LOOKS_S = 2.6
"""Age up to which looks stay close together."""

_LONGEST_RETRY_AFTER_S = 30.0
_STALE_AFTER_S = 8.0
"""Looks are never this far apart unless they fail."""
_MAX_WAITS = 100
_TICK_S = 4.0
"""A waiting call hears of its task at least this often, changed or not."""

Look = Callable[[str], Awaitable[RemoteTask]]
OnTick = Callable[[RemoteTask], Awaitable[None]]


def pause_s(age_s: float) -> float:
    """Return the seconds between two looks at a task of *age_s* seconds, jitter not included."""
    return min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, _GROWTH * (age_s - _CLOSE_LOOKS_S)))


@dataclass(frozen=True)
class Seen:
    """A task as it was last seen."""

    task: RemoteTask
    age_s: float
    """How long ago that was, in seconds."""

    @property
    def is_stale(self) -> bool:
        """Whether looks at it have failed since."""
        return self.age_s > _STALE_AFTER_S


@dataclass
class _Watch:
    """One task under watch, and what the looks at it have shown so far."""

    waiters: int = 0
    latest: RemoteTask | None = None
    seen_at_s: float = 0.0
    """When `latest` was seen, by the event loop's clock."""
    refusal: RefusedError | None = None
    """PiAPI's final no, such as an unknown task: ends every wait."""
    trouble: UnreachableError | RateLimitedError | None = None
    """Why the last look saw nothing; ends no wait."""
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        return bool(self.refusal or (self.latest and self.latest.is_done) or (self.loop and self.loop.done()))

    @property
    def has_looked(self) -> bool:
        return bool(self.latest or self.trouble)

    def announce(self) -> None:
        """Wake whoever waits for the next look."""
        self.looked.set()
        self.looked = asyncio.Event()

    def outcome(self, now_s: float) -> Seen:
        if self.refusal:
            raise self.refusal
        if self.latest:
            return Seen(self.latest, now_s - self.seen_at_s)
        if self.loop and self.loop.done() and not self.loop.cancelled() and (crash := self.loop.exception()):
            raise crash
        raise self.trouble or UnreachableError("PiAPI has not answered yet. The task goes on: call get_task again.")


class Watcher:
    """Waits for tasks on behalf of many calls."""

    def __init__(self, look: Look, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._look = look
        self._sleep = sleep
        self._watches: dict[str, _Watch] = {}
        self._is_ending = False

    def end_waits(self) -> None:
        """Let every wait end after the look that is under way, those still to come included."""
        self._is_ending = True
        for watch in self._watches.values():
            watch.announce()

    async def wait(self, task_id: str, *, wait_s: float, on_tick: OnTick | None = None) -> Seen:
        """Return the task as soon as it has ended, or as it is after *wait_s* seconds.

        Args:
            task_id: The task.
            wait_s: Longest time to wait, in seconds.
            on_tick: Called after each look, and at least every few seconds.

        Raises:
            RefusedError: PiAPI does not let this key see the task, or does not know it.
            UnreachableError: No look got an answer.
            InputRejectedError: As many calls wait already as may at once.
        """
        if sum(watch.waiters for watch in self._watches.values()) >= _MAX_WAITS:
            raise InputRejectedError(
                f"{_MAX_WAITS} calls of this key wait for tasks already, which is the most. The task goes on: call "
                "get_task with wait_seconds 0, or again later."
            )
        clock = asyncio.get_running_loop().time
        ends_at = clock() + wait_s
        with self._watching(task_id) as watch:
            while not self._is_over(watch) and (left_s := ends_at - clock()) > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(watch.looked.wait(), min(left_s, _TICK_S))
                if on_tick and watch.latest:
                    await on_tick(watch.latest)
            return watch.outcome(clock())

    def _is_over(self, watch: _Watch) -> bool:
        # A server that ends still tells how the task stands, where it ever got to know.
        return watch.is_over or (self._is_ending and watch.has_looked)

    @contextlib.contextmanager
    def _watching(self, task_id: str) -> Generator[_Watch]:
        watch = self._watches.setdefault(task_id, _Watch())
        if watch.loop is None:
            # A task of its own: a call that is cancelled leaves the others waiting undisturbed.
            watch.loop = asyncio.create_task(self._keep_looking(task_id, watch))
        watch.waiters += 1
        try:
            yield watch
        finally:
            watch.waiters -= 1
            if not watch.waiters:
                watch.loop.cancel()
            if (not watch.waiters or watch.is_over) and self._watches.get(task_id) is watch:
                del self._watches[task_id]

    async def _keep_looking(self, task_id: str, watch: _Watch) -> None:
        clock = asyncio.get_running_loop().time
        started_at = clock()
        while True:
            asked_s = 0.0
            try:
                watch.latest, watch.trouble = await self._look(task_id), None
                watch.seen_at_s = clock()
            except RateLimitedError as error:
                watch.trouble, asked_s = error, min(error.retry_after_s or 0.0, _LONGEST_RETRY_AFTER_S)
            except RefusedError as error:
                watch.refusal = error
            except UnreachableError as error:
                watch.trouble = error
            finally:
                watch.announce()
            if watch.is_over:
                return
            age_s = max(clock() - started_at, _age_s(watch.latest))
            jitter = random.uniform(0.97, 1.03)  # noqa: S311 -- no secret
            await self._sleep(max(asked_s, pause_s(age_s) * jitter))


def _age_s(task: RemoteTask | None) -> float:
    """Return how long ago PiAPI accepted the task; 0 when it is not known."""
    return (datetime.now(UTC) - task.created_at).total_seconds() if task and task.created_at else 0.0
