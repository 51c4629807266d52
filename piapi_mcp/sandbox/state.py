"""What the sandbox remembers: accounts, tasks, settings, planned misbehaviour, and what it was asked."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from piapi_mcp.sandbox.fixtures import SAMPLES, Version

POINTS_PER_USD = 10_000_000
NOT_YET = "0001-01-01T00:00:00Z"

Route = Literal["create", "read", "cancel", "account", "history", "upload", "result"]


@dataclass
class Settings:
    """How the sandbox behaves; each field can be set through the control routes."""

    pending_s: float = 0.3
    """How long a task stays pending, in seconds."""
    processing_s: float = 1.0
    """How long it is processed at least, in seconds; the real work may take longer."""
    polls: int | None = None
    """Instead of by the clock, tasks advance as they are read: this many reads until completed."""
    does_work: bool = True
    """False: results are placeholders and videos are not opened (60 frames), for tests of everything but the work."""
    balance_points: int = 10 * POINTS_PER_USD
    """What a new account can spend."""
    max_concurrent_tasks: int = 5
    """What the plan lets run at once."""
    plan: Literal["free", "creator"] = "creator"
    """Every account's plan; the free one may not upload."""
    capitalised: bool = False
    """Statuses as the schema spells them, not as the live service does."""
    bare_task_ids: bool = False
    """Answer a submission with nothing but the task id, as the video page shows it."""
    camel_case_history: bool = False
    """History rows in the other spelling that clients have seen."""
    null_outputs: bool = False
    """Show `output` as null, even of a task that has completed."""
    midjourney_withdrawn: bool = False
    """Refuse Midjourney altogether."""


@dataclass
class Fault:
    """One planned misbehaviour of a route."""

    route: Route
    kind: Literal["answer", "delay", "cut", "fail_task"]
    when: Literal["before", "after", "midway"] = "before"
    """Before the request takes effect, after it, or in the middle of the reply."""
    times: int = 1
    """For how many requests."""
    skip: int = 0
    """How many requests pass first."""
    status: int = 500
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    delay_s: float = 0.0
    error: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of a task that fails."""
    logs: list[str] = field(default_factory=list[str])
    """Of a task that fails."""


@dataclass
class Task:
    """One task of an account."""

    task_id: str
    owner: str
    model: str
    task_type: str
    task_input: Mapping[str, Any]
    config: Mapping[str, Any]
    price_points: int
    status: str = "pending"
    progress: int = 0
    output: dict[str, Any] = field(default_factory=dict[str, Any])
    actions: tuple[str, ...] = ()
    version: Version | None = None
    """Of Midjourney."""
    is_grid: bool = False
    file: Path | None = None
    """The result."""
    consumed_points: int = 0
    logs: list[str] = field(default_factory=list[str])
    error: dict[str, Any] = field(default_factory=dict[str, Any])
    planned_failure: Fault | None = None
    polls: int = 0
    created_at: str = NOT_YET
    started_at: str = NOT_YET
    ended_at: str = NOT_YET

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self.status in ("completed", "failed")

    def start(self, at: str) -> None:
        """Take it from pending to processing."""
        if self.status == "pending":
            self.status, self.started_at = "processing", at

    def advance(self, percent: int) -> None:
        """Note that so much of it is done; it ends by `Account.settle` alone."""
        if self.status == "processing":
            self.progress = max(self.progress, min(99, percent))


@dataclass
class Account:
    """What belongs to one key."""

    balance_points: int
    frozen_points: int = 0

    def freeze(self, points: int) -> None:
        """Set the price of a new task aside."""
        self.balance_points -= points
        self.frozen_points += points

    def settle(self, task: Task, status: Literal["completed", "failed"], at: str) -> None:
        """End *task*: take its price if it completed, give it back if not."""
        if task.is_done:
            return
        task.status, task.ended_at = status, at
        self.frozen_points -= task.price_points
        if status == "completed":
            task.consumed_points, task.progress = task.price_points, 100
        else:
            self.balance_points += task.price_points
            task.logs.append("restored frozen points")


@dataclass
class World:
    """Everything, from one reset to the next."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    settings: Settings = field(default_factory=Settings)
    faults: list[Fault] = field(default_factory=list[Fault])
    accounts: dict[str, Account] = field(default_factory=dict[str, Account])
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """What was asked, in order; never a key."""

    def now(self) -> str:
        """Return the time as PiAPI writes it."""
        return _spell(self.clock())

    def account(self, key: str) -> Account:
        """Return the account of *key*, made now if it is new."""
        return self.accounts.setdefault(key, Account(self.settings.balance_points))

    def task(self, key: str, task_id: str) -> Task | None:
        """Return a task that *key* may see."""
        task = self.tasks.get(task_id)
        return task if task and task.owner in (key, "") else None

    def tasks_of(self, key: str) -> list[Task]:
        """Return the tasks that *key* may see, newest first."""
        return [task for task in reversed(self.tasks.values()) if task.owner in (key, "")]

    def running(self, key: str) -> int:
        """Return how many of the key's tasks have not ended."""
        return sum(not task.is_done for task in self.tasks.values() if task.owner == key)

    def take_faults(self, route: Route) -> list[Fault]:
        """Return what is planned for this request of *route*, and count it."""
        due = list[Fault]()
        for fault in self.faults:
            if fault.route != route or fault.times <= 0:
                continue
            if fault.skip > 0:
                fault.skip -= 1
            else:
                fault.times -= 1
                due.append(fault)
        return due

    def add_samples(self, base_url: str, folder: Path) -> None:
        """Put the sample Midjourney tasks into every account's history."""
        yesterday = _spell(self.clock() - timedelta(days=1))
        for sample in SAMPLES:
            self.tasks[sample.task_id] = Task(
                task_id=sample.task_id,
                owner="",
                model="midjourney",
                task_type="imagine" if sample.is_grid else "upscale",
                task_input={"prompt": f"hills at four times of day --v {sample.version}"},
                config={},
                price_points=0,
                status="completed",
                progress=100,
                output={
                    "image_url": f"{base_url}/results/{sample.file_name}",
                    "temporary_image_urls": [f"{base_url}/results/{name}" for name in sample.quadrant_names] or None,
                },
                actions=sample.actions,
                version=sample.version,
                is_grid=sample.is_grid,
                file=folder / sample.file_name,
                created_at=yesterday,
                started_at=yesterday,
                ended_at=yesterday,
            )

    def describe(self) -> list[dict[str, Any]]:
        """Return all tasks that accounts submitted, for the control routes."""
        return [
            {"task_id": task.task_id, "model": task.model, "status": task.status, "polls": task.polls}
            for task in self.tasks.values()
            if task.owner
        ]


def _spell(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def new_task_id() -> str:
    """Return an id for a task."""
    return str(uuid.uuid4())


def settings_dict(settings: Settings) -> dict[str, Any]:
    """Return *settings* as JSON."""
    return asdict(settings)
