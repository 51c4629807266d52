"""Recovery: finding the task of a submission that got no usable answer, in PiAPI's task history.

Nothing here is submitted. A task is taken for the lost one only if something proves it: the mark that it carries, the
input that PiAPI echoes, or, for a file that PiAPI does not echo, that it can be no other.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field

from piapi_mcp.errors import LedgerError, PiAPIError, TaskIdConflictError
from piapi_mcp.ledger.ledger import Ledger, Submission
from piapi_mcp.piapi.catalog import PRODUCTS
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.piapi.models import HistoryRow, RemoteTask
from piapi_mcp.piapi.retry import Sleep, retry

_SEARCH_PAUSES_S = (1.0, 2.0)
"""Pauses between searches of the history: a task may appear in it a little late."""
_PAGE_SIZE = 100  # [D 2026-11] user task history page: page_size is 10 to 100
_MAX_PAGES = 10
_MAX_READS = 50
"""How many tasks of the history one search reads."""
_SKEW_S = 30.0
"""How far PiAPI's times may be off after both clocks were compared: the `Date` header counts whole seconds."""
_CLOCK_SET_S = 26 * 3600.0
"""How far this machine's clock may have been set since a marked submission: by a wrong day and time zone."""
_LONGEST_SUBMISSION_S = 180.0
_FILE_PREFIX = "file"
"""Digests of files begin with it; version 0.1 wrote nothing else for a file."""


@dataclass
class _Candidates:
    """The tasks of the history that may be the lost one."""

    proven: list[RemoteTask] = field(default_factory=list[RemoteTask])
    """They carry the mark, or everything that was submitted, as PiAPI echoes it."""
    possible: list[RemoteTask] = field(default_factory=list[RemoteTask])
    """Nothing contradicts them, and nothing proves them."""
    unread: int = 0
    """How many could not be read."""


class Recovery:
    """Searches PiAPI's history for lost submissions of one account."""

    def __init__(self, client: PiAPIClient, ledger: Ledger, *, sleep: Sleep = asyncio.sleep) -> None:
        self._client = client
        self._ledger = ledger
        self._sleep = sleep
        self._one_search = asyncio.Lock()
        """One search at a time: each finds what the others search for, too."""

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
        async with self._one_search:
            found = await self._ledger.find_by_mark(submission.mark) if submission.mark else None
            if found and found.task_id:  # another search has found it
                return await self._client.read_task(found.task_id)
            return await self._search_history(submission)

    async def _search_history(self, submission: Submission) -> RemoteTask | None:
        candidates = await self._candidates(submission)
        certain = candidates.proven
        if not certain and await self._is_only_one(submission, candidates):
            certain = candidates.possible
        for task in certain:
            if await self._take(submission, task):
                return task
        return None

    async def _take(self, submission: Submission, task: RemoteTask) -> bool:
        """Record *task* for the submission; False if it belongs to another one."""
        try:
            return await self._ledger.record_task(submission.id, task.task_id, frozen_usd=task.frozen_usd)
        except TaskIdConflictError:  # another call or process was faster
            return False
        except LedgerError:
            return True  # the task was found, whether or not it can be recorded

    async def _take_for_its_own(self, task: RemoteTask) -> None:
        """Record a task for the submission whose mark it carries, if that is lost."""
        with contextlib.suppress(LedgerError):
            owner = await self._ledger.find_by_mark(task.mark or "")
            if owner and owner.state == "unknown":
                await self._take(owner, task)

    async def _candidates(self, submission: Submission) -> _Candidates:
        candidates = _Candidates()
        for row in await self._rows(submission):
            try:
                task = await self._client.read_task(row.task_id)
            except PiAPIError:
                candidates.unread += 1
                continue
            if submission.mark is not None and task.mark == submission.mark:
                return _Candidates(proven=[task])
            if task.mark is not None:
                await self._take_for_its_own(task)
                continue
            is_same_product = (task.model, task.task_type) == (submission.model, submission.task_type)
            if not is_same_product or not self._is_near(row, submission):
                continue
            if _is_proven(task, submission):
                candidates.proven.append(task)
            elif _is_possible(task, submission):
                candidates.possible.append(task)
        return candidates

    async def _rows(self, submission: Submission) -> list[HistoryRow]:
        """Return the rows of the time of the submission that the ledger does not know, nearest to it first."""
        model = next((product.history_model for product in PRODUCTS if product.model == submission.model), None)
        found: list[HistoryRow] = []
        for page in range(1, _MAX_PAGES + 1):
            since_s = int(self._submitted_at(submission) - self._skew_s(submission))
            rows = await self._client.read_history(page=page, page_size=_PAGE_SIZE, model=model, since_s=since_s)
            near = [row for row in rows if self._is_near(row, submission, self._skew_s(submission))]
            found += [row for row in near if await self._ledger.find_by_task(row.task_id) is None]
            if len(rows) < _PAGE_SIZE:
                break
        submitted_at = self._submitted_at(submission)
        found.sort(key=lambda row: abs(row.created_at.timestamp() - submitted_at) if row.created_at else 0.0)
        return found[:_MAX_READS]

    def _submitted_at(self, submission: Submission) -> float:
        """Return when the submission was made by PiAPI's clock, in Unix seconds."""
        return submission.created_at + self._client.clock_offset_s

    def _skew_s(self, submission: Submission) -> float:
        """Return how far from its time a submission's task is looked for: a mark proves it at any time."""
        return _SKEW_S if submission.mark is None else _CLOCK_SET_S

    def _is_near(self, row: HistoryRow, submission: Submission, skew_s: float = _SKEW_S) -> bool:
        """Whether *row* was accepted when the submission was made, give or take *skew_s* seconds."""
        if row.created_at is None:
            return True  # the history was already queried for this time
        late_s = row.created_at.timestamp() - self._submitted_at(submission)
        return -skew_s <= late_s <= _LONGEST_SUBMISSION_S + skew_s

    async def _is_only_one(self, submission: Submission, candidates: _Candidates) -> bool:
        """Whether the one possible task must be the lost one: there is no other task, and no other lost submission."""
        if len(candidates.possible) != 1 or candidates.unread:
            return False
        lost = await self._ledger.recent(limit=_MAX_READS, states=("unknown", "submitting"))
        return not any(
            other.id != submission.id
            and other.model == submission.model
            and abs(other.created_at - submission.created_at) < _LONGEST_SUBMISSION_S
            for other in lost
        )


def _is_proven(task: RemoteTask, submission: Submission) -> bool:
    """Whether PiAPI echoes for *task* the whole input as it was submitted, a file included."""
    return all(task.input_digests.get(name) == value for name, value in submission.input_digests.items())


def _is_possible(task: RemoteTask, submission: Submission) -> bool:
    """Whether *task* may be the submission of a file that PiAPI does not echo: same options, no URL, expected price."""
    files = {name for name, value in submission.input_digests.items() if value.startswith(_FILE_PREFIX)}
    options = {name: value for name, value in submission.input_digests.items() if name not in files}
    if not files or files & task.url_fields or submission.quoted_usd is None or task.frozen_usd is None:
        return False
    if submission.is_upper_bound:
        is_expected_price = 0 < task.frozen_usd <= submission.quoted_usd
    else:
        is_expected_price = task.frozen_usd == submission.quoted_usd
    return is_expected_price and all(task.input_digests.get(name) == value for name, value in options.items())
