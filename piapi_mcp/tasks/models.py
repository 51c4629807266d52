"""How a task stands, as an agent reads it: the one model that every answer about a task is made of."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer

from piapi_mcp.formatting import dollars
from piapi_mcp.piapi.catalog import RESULTS_KEPT_DAYS
from piapi_mcp.piapi.models import COMPLETED, FAILED, RemoteTask

Usd = Annotated[Decimal, PlainSerializer(float, return_type=float)]
"""Dollars: exact inside, a plain JSON number outside."""


class Task(BaseModel):
    """How a task stands. What is not known is absent."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    task_id: str | None = None
    """Pass it to get_task. Absent after a dry run."""

    status: str
    """pending, staged or processing while it runs; completed or failed at its end; dry_run: nothing was bought."""

    progress_percent: int | None = None
    """0 to 100, where PiAPI tells it."""

    result_urls: list[str] | None = None
    """Links to the finished files."""

    quoted_usd: Usd | None = None
    """Price in US dollars: what PiAPI set aside, or its list price; absent when it is not known."""

    charged_usd: Usd | None = None
    """What PiAPI really took, in US dollars, once the task has ended."""

    error: str | None = None
    """Why it failed, in PiAPI's words."""

    logs: list[str] | None = None
    """PiAPI's log of the task; often names the true cause of a failure."""

    notes: list[str] | None = None
    """What else to know about this task."""

    created_at: datetime | None = None
    """When PiAPI accepted it."""

    started_at: datetime | None = None
    """When work on it began."""

    ended_at: datetime | None = None
    """When it ended."""

    next_step: str
    """What to do now."""


class TaskLine(BaseModel):
    """A task in a list. What is not known is absent."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    task_id: str | None = None
    """Pass it to get_task, or to midjourney_upscale as origin_task_id. Absent while nobody knows it."""

    status: str
    """As in get_task; unknown: nobody can say whether it was bought."""

    product: str
    """PiAPI's model, such as midjourney."""

    what: str | None = None
    """What was asked for."""

    usd: Usd | None = None
    """What it cost, or its list price while it runs, in US dollars."""

    created_at: datetime | None = None
    """When it was submitted."""


class TaskList(BaseModel):
    """Tasks of the account, newest first."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    tasks: list[TaskLine]
    """The tasks, those that were not submitted here included."""

    next_step: str
    """What to do now."""


class SavedFile(BaseModel):
    """One saved file. What is not known is absent."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    path: str
    """Where it lies."""

    width_px: int | None = None
    """Width in pixels."""

    height_px: int | None = None
    """Height in pixels."""

    size_bytes: int
    """Size of the file."""

    note: str | None = None
    """What is not as it should be."""


class SavedResult(BaseModel):
    """The files of a task."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    task_id: str
    """The task."""

    files: list[SavedFile]
    """Everything that it resulted in."""

    next_step: str
    """What to do now."""


class AccountInfo(BaseModel):
    """The account that pays. What is not known is absent."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    balance_usd: Usd | None = None
    """What can be spent, in US dollars."""

    frozen_usd: Usd | None = None
    """What is set aside for tasks that run, in US dollars."""

    plan: str | None = None
    """PiAPI's plan."""

    max_concurrent_tasks: int | None = None
    """How many tasks the plan lets run at once."""

    spent_today_usd: Usd
    """What this server's tasks of today (UTC) cost or may cost, in US dollars."""

    daily_budget_usd: Usd | None = None
    """The operator's limit for a day, in US dollars."""


def describe_dry_run(quoted_usd: Decimal | None, unpriced: str, notes: tuple[str, ...], *, is_bought: bool) -> Task:
    """Return what agents read of a task that was checked and priced, not bought; *is_bought*: not now, but before."""
    if is_bought:
        text = (
            "The same request was submitted before: without dry_run it answers with that task and costs nothing more."
        )
        return Task(status="dry_run", quoted_usd=quoted_usd, notes=list(notes) or None, next_step=text)
    price = f"the price is not known ({unpriced})" if quoted_usd is None else f"it would cost {dollars(quoted_usd)}"
    return Task(
        status="dry_run",
        quoted_usd=quoted_usd,
        notes=list(notes) or None,
        next_step=f"Nothing was bought; {price}. Call again without dry_run to buy it.",
    )


def describe_task(
    remote: RemoteTask, *, can_save: bool, quoted_usd: Decimal | None = None, notes: tuple[str, ...] = ()
) -> Task:
    """Return *remote* as agents read it; *can_save* tells whether results can be saved from here."""
    return Task(
        task_id=remote.task_id,
        status=remote.status,
        progress_percent=remote.progress_percent,
        result_urls=list(remote.result_urls) or None,
        quoted_usd=quoted_usd if quoted_usd is not None else remote.frozen_usd,
        # While a task runs, what PiAPI calls consumed may still be given back.
        charged_usd=remote.consumed_usd if remote.is_done else None,
        error=remote.error,
        logs=list(remote.logs) or None,
        notes=list(notes) or None,
        created_at=remote.created_at,
        started_at=remote.started_at,
        ended_at=remote.ended_at,
        next_step=_next_step(remote, can_save=can_save),
    )


def _next_step(remote: RemoteTask, *, can_save: bool) -> str:
    if remote.status == COMPLETED:
        return _next_step_of_completed(remote, can_save=can_save)
    if remote.is_cancelled:
        return "It was cancelled. Submit again only if the user still wants it."
    if remote.status == FAILED and remote.consumed_usd:
        return f"It failed, and PiAPI shows a charge of {dollars(remote.consumed_usd)}: tell the user error and logs."
    if remote.status == FAILED:
        return "It failed and was not charged: tell the user error and logs; mend the cause before submitting again."
    return "It is running: call get_task with this task_id, again until it has ended; do not submit again."


def _next_step_of_completed(remote: RemoteTask, *, can_save: bool) -> str:
    kept = f"PiAPI deletes results after about {RESULTS_KEPT_DAYS} days"
    if remote.result_urls and can_save:
        return f"Give the user the links in result_urls, and call save_result if they want the files: {kept}."
    if remote.result_urls:
        return f"Give the user the links in result_urls, to be downloaded soon: {kept}."
    if remote.result_base64 and can_save:
        return f"Call save_result to write the result to the user's disk: {kept}."
    if remote.result_base64:
        return "PiAPI gave no link to the result: tell the user to download it in PiAPI's workspace."
    return "PiAPI calls it completed but gave no result yet: call get_task again in some seconds."
