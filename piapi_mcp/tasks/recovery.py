"""Finding a submission again that got no usable answer: PiAPI's task history may show what became of it.

Nothing here buys anything. A task is taken for the lost one only where nothing else can be meant.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable

from piapi_mcp.errors import LedgerError, PiAPIError
from piapi_mcp.ledger.sqlite import Entry, Ledger
from piapi_mcp.piapi.catalog import PRODUCTS
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.piapi.models import HistoryRow, RemoteTask

_LOOKS_AFTER_S = (0.0, 1.0, 2.0)
"""Pauses before each look at the history: a task may show up in it a little late."""
_CLOCK_SLACK_S = 30.0
_LONGEST_SUBMISSION_S = 180.0
_MAX_CANDIDATES = 10
FILE = "file"
"""Stands in the ledger for a file that was sent, in place of a digest."""


class Recovery:
    """Looks for lost submissions of one account."""

    def __init__(
        self, client: PiAPIClient, ledger: Ledger, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._sleep = sleep

    async def find(self, entry: Entry, *, patient: bool = True) -> RemoteTask | None:
        """Return the task that the unknown submission *entry* became, and write it down; None where none is certain.

        Args:
            entry: The submission.
            patient: Whether to look more than once, for a task that shows up late.
        """
        for pause_s in _LOOKS_AFTER_S if patient else _LOOKS_AFTER_S[:1]:
            await self._sleep(pause_s)
            try:
                task = await self._certain(entry, await self._candidates(entry))
            except PiAPIError:
                continue  # history or ledger cannot be read now: the next look, or the next call, may
            if task is not None:
                with contextlib.suppress(LedgerError):  # found is found, whether or not it can be written down
                    await self._ledger.record_task(entry.id, task.task_id, quoted_usd=task.frozen_usd)
                return task
        return None

    async def _candidates(self, entry: Entry) -> list[RemoteTask]:
        rows = await self._client.read_history(
            page_size=100,
            model=next((product.history_model for product in PRODUCTS if product.model == entry.model), None),
            since_s=int(entry.created_at - _CLOCK_SLACK_S),
        )
        near = [row for row in rows if _is_near(row, entry) and await self._ledger.find_task(row.task_id) is None]
        tasks = [await self._client.read_task(row.task_id) for row in near[:_MAX_CANDIDATES]]
        same_product = [task for task in tasks if (task.model, task.task_type) == (entry.model, entry.task_type)]
        return [task for task in same_product if not _contradicts(task, entry)]

    async def _certain(self, entry: Entry, candidates: list[RemoteTask]) -> RemoteTask | None:
        """Return the one of *candidates* that must be meant, if there is one."""
        if FILE not in entry.asked.values():  # PiAPI repeats all that was asked for: it was compared
            return candidates[0] if candidates else None
        # A file was sent, and files cannot be compared: certain only while nothing else can be meant.
        lost = await self._ledger.recent(limit=_MAX_CANDIDATES, states=("unknown", "submitting"))
        rivals = [
            other
            for other in lost
            if other.id != entry.id
            and other.model == entry.model
            and abs(other.created_at - entry.created_at) < _LONGEST_SUBMISSION_S
        ]
        return candidates[0] if len(candidates) == 1 and not rivals else None


def digest(value: object) -> str:
    """Return what the ledger keeps of a short field of the input; URLs may carry secrets of their own."""
    return hashlib.sha256(str(value).encode()).hexdigest()[:16]


def _is_near(row: HistoryRow, entry: Entry) -> bool:
    """Say whether *row* was accepted when *entry* was submitted."""
    if row.created_at is None:
        return True  # the history was asked for this time already
    late_s = row.created_at.timestamp() - entry.created_at
    return -_CLOCK_SLACK_S <= late_s <= _LONGEST_SUBMISSION_S


def _contradicts(task: RemoteTask, entry: Entry) -> bool:
    """Say whether *task* was asked for with other words than *entry*, or does not tell with which."""
    comparable = {name: asked for name, asked in entry.asked.items() if asked != FILE}
    return any(digest(task.task_input.get(name)) != asked for name, asked in comparable.items())
