"""What agents read: the result models of the tools, whose fields' docstrings become their schemas."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer

Usd = Annotated[Decimal, PlainSerializer(float, return_type=float)]
"""Dollars: exact inside, a plain JSON number outside."""


class Task(BaseModel):
    """The state of a task. What is not known is absent."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    task_id: str | None = None
    """Pass it to get_task. Absent after a dry run."""

    status: str
    """pending, staged or processing while it runs; completed or failed at the end; dry_run: nothing was bought."""

    progress_percent: int | None = None
    """0 to 100, where PiAPI reports it."""

    result_urls: list[str] | None = None
    """Links to the finished files."""

    bought_now: bool | None = None
    """Of a submission: whether this call bought the task; false: it was bought before, and nothing was charged now."""

    quoted_usd: Usd | None = None
    """Price before buying, in US dollars; absent when it is not known."""

    at_most_usd: Usd | None = None
    """Instead of quoted_usd: the most that the task may cost, in US dollars."""

    frozen_usd: Usd | None = None
    """What PiAPI reserved for the task while it runs, in US dollars."""

    charged_usd: Usd | None = None
    """What PiAPI charged, in US dollars, once the task has ended."""

    error: str | None = None
    """Why it failed, in PiAPI's words."""

    logs: list[str] | None = None
    """PiAPI's log of the task; often names the cause of a failure."""

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
    """Pass it to get_task, or to midjourney_upscale as origin_task_id. Absent while it is not known."""

    status: str
    """As in get_task; submitting: being submitted now; unknown: the task may or may not have been bought."""

    product: str
    """PiAPI's model, such as midjourney."""

    what: str | None = None
    """What was submitted."""

    usd: Usd | None = None
    """What it cost or may cost, in US dollars."""

    created_at: datetime | None = None
    """When it was submitted."""


class TaskList(BaseModel):
    """Tasks of the account, newest first."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    tasks: list[TaskLine]
    """The tasks, including those that were not submitted through this server."""

    next_step: str
    """What to do now."""


class SavedFile(BaseModel):
    """One saved file. What is not known is absent."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    path: str
    """Full path of the file."""

    width_px: int | None = None
    """Width in pixels."""

    height_px: int | None = None
    """Height in pixels."""

    size_bytes: int
    """Size of the file."""

    note: str | None = None
    """What differs from what was expected."""


class SavedResult(BaseModel):
    """The saved files of a task."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    task_id: str
    """The task."""

    files: list[SavedFile]
    """All files of its result."""

    next_step: str
    """What to do now."""


class AccountInfo(BaseModel):
    """The account that pays. What is not known is absent."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    balance_usd: Usd | None = None
    """What can be spent, in US dollars."""

    frozen_usd: Usd | None = None
    """What is frozen for running tasks, in US dollars."""

    plan: str | None = None
    """PiAPI's plan."""

    max_concurrent_tasks: int | None = None
    """How many tasks the plan allows to run at once."""

    spent_today_usd: Usd
    """What today's (UTC) tasks of this server cost or may cost, in US dollars."""

    daily_budget_usd: Usd | None = None
    """The operator's limit for a day, in US dollars."""
