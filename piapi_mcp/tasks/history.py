"""The account's tasks: PiAPI's history joined with what the ledger knows."""

import asyncio
import contextlib
from datetime import UTC, datetime

from piapi_mcp.errors import LedgerError
from piapi_mcp.ledger.ledger import Ledger, State, Submission
from piapi_mcp.piapi.catalog import PRODUCTS
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.piapi.models import HistoryRow
from piapi_mcp.tasks.models import TaskLine, TaskList
from piapi_mcp.tasks.recovery import Recovery

_RECOVERY_TIMEOUT_S = 15.0
_MAX_RECOVERED = 10
_SMALLEST_PAGE = 10  # [D 2026-11] user task history page: page_size is 10 to 100
_MODELS = {product.history_model: product.model for product in PRODUCTS}
_DESCRIPTIONS = {"imagine": "imagine (a grid to upscale from)"}  # [D 2026-11] imagine page: its result is a grid
_STATUSES: dict[State, str] = {
    "submitting": "submitting",
    "submitted": "pending",
    "done": "completed",
    "failed": "failed",
    "unknown": "unknown",
}
"""The ledger's states in PiAPI's words; refused submissions are not listed."""


async def list_tasks(
    client: PiAPIClient, ledger: Ledger, recovery: Recovery, *, limit: int, status: str | None
) -> TaskList:
    """Return the newest *limit* tasks, only those of *status* where given. Lost submissions are searched for first.

    Without a ledger that can be used, these are the tasks of PiAPI's history alone.

    Raises:
        RefusedError: PiAPI does not show the history to this key.
        UnreachableError: PiAPI gave no usable answer.
    """
    submissions: list[Submission] = []
    with contextlib.suppress(LedgerError):
        await _recover_lost(ledger, recovery)
        submissions = await ledger.recent(limit=limit, states=_states(status))
    rows = await client.read_history(page_size=max(_SMALLEST_PAGE, limit))
    by_task = {submission.task_id: submission for submission in submissions if submission.task_id}
    in_history = {row.task_id for row in rows}
    lines = [_line_of_row(row, by_task.get(row.task_id)) for row in rows]
    lines += [_line_of_submission(found) for found in submissions if found.task_id not in in_history]
    lines = [line for line in lines if status in (None, line.status)]
    lines.sort(key=lambda line: line.created_at or datetime.min.replace(tzinfo=UTC), reverse=True)
    return TaskList(tasks=lines[:limit], next_step=_next_step(lines[:limit]))


def _states(status: str | None) -> tuple[State, ...]:
    """Return the ledger's states that a status asks for, so that newer rows of others do not hide them."""
    return tuple(state for state, name in _STATUSES.items() if status in (None, name)) or tuple(_STATUSES)


async def _recover_lost(ledger: Ledger, recovery: Recovery) -> None:
    """Search for lost submissions; those that time does not allow for are left to the next call."""
    await ledger.expire_leases()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_RECOVERY_TIMEOUT_S):
            for submission in await ledger.recent(limit=_MAX_RECOVERED, states=("unknown",)):
                await recovery.find(submission, once=True)


def _line_of_row(row: HistoryRow, submission: Submission | None) -> TaskLine:
    return TaskLine(
        task_id=row.task_id,
        status=row.status,
        product=submission.model if submission else _MODELS.get(row.model or "", row.model or "unknown"),
        what=submission.summary if submission else _DESCRIPTIONS.get(row.action or "", row.action),
        usd=row.usage_usd if row.usage_usd is not None or submission is None else submission.cost_usd,
        created_at=row.created_at,
    )


def _line_of_submission(submission: Submission) -> TaskLine:
    return TaskLine(
        task_id=submission.task_id,
        status=_STATUSES[submission.state],
        product=submission.model,
        what=submission.summary,
        usd=submission.cost_usd,
        created_at=datetime.fromtimestamp(submission.created_at, UTC),
    )


def _next_step(lines: list[TaskLine]) -> str:
    if any(line.status == "unknown" for line in lines):
        return (
            "A submission of status unknown may have been bought. Call list_tasks again in a minute; if PiAPI's "
            "history still does not show it, tell the user what is at stake; only allow_repeat true buys it again."
        )
    return "Call get_task with a task_id for its result." if lines else "There is no such task."
