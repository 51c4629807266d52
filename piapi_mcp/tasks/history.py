"""The account's tasks: what the ledger knows of them joined with what PiAPI's history shows."""

import asyncio
import contextlib
from datetime import UTC, datetime
from decimal import Decimal

from piapi_mcp.ledger.sqlite import Entry, Ledger
from piapi_mcp.piapi.catalog import PRODUCTS
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.piapi.models import HistoryRow
from piapi_mcp.tasks.models import TaskLine, TaskList
from piapi_mcp.tasks.recovery import Recovery

_RECOVERY_S = 15.0
_MAX_RECOVERED = 10
_SMALLEST_PAGE = 10  # [D] user task history page: page_size 10 to 100
_MODELS = {product.history_model: product.model for product in PRODUCTS}
_WHAT = {"imagine": "imagine (a grid to upscale from)"}  # [D] the result of imagine is a grid of four
# What the ledger calls a state, in PiAPI's words.
_STATUS = {"submitting": "unknown", "submitted": "pending", "done": "completed", "failed": "failed"}


async def list_tasks(client: PiAPIClient, ledger: Ledger, *, limit: int, status: str | None) -> TaskList:
    """Return the newest *limit* tasks, those of *status* only where given.

    Raises:
        LedgerError: The ledger cannot be read.
        RefusedError: PiAPI does not show the history to this key.
        UnreachableError: PiAPI gave no usable answer.
    """
    recovery = Recovery(client, ledger)
    await ledger.adopt_orphans()
    with contextlib.suppress(TimeoutError):  # what could not be looked for now is looked for at the next call
        async with asyncio.timeout(_RECOVERY_S):
            for entry in await ledger.recent(limit=_MAX_RECOVERED, states=("unknown",)):
                await recovery.find(entry, patient=False)
    rows = await client.read_history(page_size=max(_SMALLEST_PAGE, limit))
    entries = [entry for entry in await ledger.recent(limit=limit) if entry.state != "refused"]
    by_id = {entry.task_id: entry for entry in entries if entry.task_id}
    listed = {row.task_id for row in rows}
    lines = [_line_of_row(row, by_id.get(row.task_id)) for row in rows]
    lines += [_line_of_entry(entry) for entry in entries if entry.task_id not in listed]
    lines = [line for line in lines if status in (None, line.status)]
    lines.sort(key=lambda line: line.created_at or datetime.min.replace(tzinfo=UTC), reverse=True)
    return TaskList(tasks=lines[:limit], next_step=_next_step(lines[:limit]))


def _line_of_row(row: HistoryRow, entry: Entry | None) -> TaskLine:
    return TaskLine(
        task_id=row.task_id,
        status=row.status,
        product=entry.model if entry else _MODELS.get(row.model or "", row.model or "unknown"),
        what=entry.summary if entry else _WHAT.get(row.action or "", row.action),
        usd=row.usage_usd if row.usage_usd is not None else _price(entry),
        created_at=row.created_at,
    )


def _line_of_entry(entry: Entry) -> TaskLine:
    return TaskLine(
        task_id=entry.task_id,
        status=_STATUS.get(entry.state, entry.state),
        product=entry.model,
        what=entry.summary,
        usd=_price(entry),
        created_at=datetime.fromtimestamp(entry.created_at, UTC),
    )


def _price(entry: Entry | None) -> Decimal | None:
    if entry is None:
        return None
    return entry.quoted_usd if entry.charged_usd is None else entry.charged_usd


def _next_step(lines: list[TaskLine]) -> str:
    if any(line.status == "unknown" for line in lines):
        return (
            "A submission of status unknown may have been bought. Call list_tasks again in a minute; if PiAPI's "
            "history still does not show it, tell the user what is at stake; only allow_repeat true buys it again."
        )
    return "Call get_task with a task_id for its result." if lines else "There is no such task."
