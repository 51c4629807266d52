"""Recovery: finding the task of a submission that got no usable answer, in PiAPI's task history.

Nothing here is submitted. A task is taken for the lost one only if it cannot be any other.
"""

import asyncio
import contextlib
import hashlib

from piapi_mcp.errors import LedgerError, PiAPIError
from piapi_mcp.ledger.ledger import Ledger, Submission
from piapi_mcp.piapi.catalog import PRODUCTS
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.piapi.models import HistoryRow, RemoteTask
from piapi_mcp.piapi.retry import Sleep, retry

_SEARCH_PAUSES_S = (1.0, 2.0)
"""Pauses between searches of the history: a task may appear in it a little late."""
_CLOCK_SKEW_S = 30.0
_LONGEST_SUBMISSION_S = 180.0
_MAX_CANDIDATES = 10
FILE = "file"
"""Stands in the ledger for a file that was sent, in place of a digest."""


class Recovery:
    """Searches PiAPI's history for lost submissions of one account."""

    def __init__(self, client: PiAPIClient, ledger: Ledger, *, sleep: Sleep = asyncio.sleep) -> None:
        self._client = client
        self._ledger = ledger
        self._sleep = sleep

    async def find(self, submission: Submission, *, once: bool = False) -> RemoteTask | None:
        """Return the task that a submission became, and record it; None if no task certainly is it.

        Args:
            submission: A submission whose outcome is unknown.
            once: Search once, instead of several times for a task that appears late.
        """

        async def search() -> RemoteTask | None:
            with contextlib.suppress(PiAPIError):  # history or ledger cannot be read now; the next search may succeed
                return await self._search(submission)
            return None

        pauses_s = () if once else _SEARCH_PAUSES_S
        return await retry(search, pauses_s=pauses_s, sleep=self._sleep, is_final=lambda task: task is not None)

    async def _search(self, submission: Submission) -> RemoteTask | None:
        task = await self._choose(submission, await self._candidates(submission))
        if task is not None:
            with contextlib.suppress(LedgerError):  # the task was found, whether or not it can be recorded
                await self._ledger.record_task(submission.id, task.task_id, frozen_usd=task.frozen_usd)
        return task

    async def _candidates(self, submission: Submission) -> list[RemoteTask]:
        """Return the tasks that may be the lost one: of its time and product, and with its input."""
        rows = await self._client.read_history(
            page_size=100,
            model=next((product.history_model for product in PRODUCTS if product.model == submission.model), None),
            since_s=int(submission.created_at - _CLOCK_SKEW_S),
        )
        near = [
            row for row in rows if _is_near(row, submission) and await self._ledger.find_by_task(row.task_id) is None
        ]
        tasks = [await self._client.read_task(row.task_id) for row in near[:_MAX_CANDIDATES]]
        product = (submission.model, submission.task_type)
        return [task for task in tasks if (task.model, task.task_type) == product and _has_same_input(task, submission)]

    async def _choose(self, submission: Submission, candidates: list[RemoteTask]) -> RemoteTask | None:
        """Return the candidate that must be the lost task, if there is one."""
        if FILE not in submission.input_digests.values():  # PiAPI echoes the whole input, and it was compared
            return candidates[0] if candidates else None
        # Files are not echoed: the task is certain only while there is one candidate and one lost submission.
        lost = await self._ledger.recent(limit=_MAX_CANDIDATES, states=("unknown", "submitting"))
        rivals = [
            other
            for other in lost
            if other.id != submission.id
            and other.model == submission.model
            and abs(other.created_at - submission.created_at) < _LONGEST_SUBMISSION_S
        ]
        return candidates[0] if len(candidates) == 1 and not rivals else None


def digest(value: object) -> str:
    """Return what the ledger keeps of a short field of the input. URLs may contain secrets, so it is not the value."""
    return hashlib.sha256(str(value).encode()).hexdigest()[:16]


def _is_near(row: HistoryRow, submission: Submission) -> bool:
    """Whether *row* was accepted when the submission was made."""
    if row.created_at is None:
        return True  # the history was already queried for this time
    late_s = row.created_at.timestamp() - submission.created_at
    return -_CLOCK_SKEW_S <= late_s <= _LONGEST_SUBMISSION_S


def _has_same_input(task: RemoteTask, submission: Submission) -> bool:
    """Whether PiAPI echoes for *task* every field that can be compared, as it was submitted."""
    comparable = {name: value for name, value in submission.input_digests.items() if value != FILE}
    return all(digest(task.task_input.get(name)) == value for name, value in comparable.items())
