"""The state of the sandbox: accounts, tasks, settings, faults, and the log of requests."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from piapi_mcp.sandbox.fixtures import SAMPLES, Version

POINTS_PER_USD = 10_000_000  # [R 2026-11] captured replies
NOT_YET = "0001-01-01T00:00:00Z"  # [D/R 2026-11] the times in `meta`: Go's zero time

_ACCOUNT_NAMESPACE = uuid.UUID("f1f3a5a0-2d53-4f0e-8f0a-6a0f5a0c7b2e")

Route = Literal["create", "read", "cancel", "account", "history", "upload", "result"]

FaultKind = Literal["answer", "stream", "delay", "cut", "fail_task"]


@dataclass
class Settings:
    """How the sandbox behaves; every field can be changed through the control routes."""

    pending_s: float = 0.3
    """How long a task stays pending, in seconds."""
    processing_s: float = 1.0
    """How long a task is processing at least, in seconds; the real work may take longer."""
    polls: int | None = None
    """If set, tasks advance when they are read, not with time: a task completes at this many reads."""
    does_work: bool = True
    """If false, results are empty files, and media is not probed: a video has 60 frames, an image 500x500 px."""
    balance_points: int = 10 * POINTS_PER_USD
    """The balance of a new account, in points."""
    max_concurrent_tasks: int = 5
    """How many tasks of an account may be unfinished at a time."""
    plan: Literal["free", "creator"] = "creator"
    """The plan of every account; the free plan does not include uploads."""
    capitalised: bool = False
    """Capitalise statuses, as PiAPI's schema does and the live service does not."""
    bare_task_ids: bool = False
    """Answer a submission with the task id alone, as the video upscale page shows it."""
    camel_case_history: bool = False
    """Spell the fields of history rows in camel case, which some clients have seen."""
    null_outputs: bool = False
    """Show `output` as null, even in a completed task."""
    midjourney_withdrawn: bool = False
    """Refuse every Midjourney request."""
    config_echo: Literal["full", "none", "refused"] = "full"
    """What becomes of `config`: "full" echoes it as it was sent, with the secret; "none" leaves it out of replies;
    "refused" echoes it, but refuses a `webhook_config` that has a secret and no endpoint."""
    input_echo: Literal["full", "none"] = "full"
    """What replies show of `input`: "full" echoes it, except media sent as base64; "none" shows an empty object."""
    frozen_points: int | None = None
    """If set, tasks report this as `frozen` instead of their price, in points. The account is not affected."""
    consumed_points: int | None = None
    """If set, completed tasks report this as their charge instead of their price, in points: those that completed
    earlier too. The account is not affected."""
    history_lag: int = 0
    """How many of an account's newest tasks the history does not show yet; the samples are always shown."""
    unreadable_tasks: list[str] = field(default_factory=list[str])
    """Ids of tasks whose reads are answered with 500."""
    reads_until_visible: int = 0
    """How many reads of each submitted task are answered as if the task did not exist."""
    shows_account_id: bool = True
    """Whether the account info has the field `account_id`."""
    clock_offset_s: float = 0.0
    """How far the service's clock is ahead of the real one, in seconds; negative means behind. It sets the times of
    tasks and webhooks, and the header `Date` of every reply. A change of the clock leaves earlier times as they are."""


@dataclass
class Fault:
    """A fault to inject into a route."""

    route: Route
    kind: FaultKind
    """Send another answer, send an answer of any length, delay the reply, close the connection, or create a task that
    fails."""
    when: Literal["before", "after", "midway"] = "before"
    """Before the request takes effect, after it, or in the middle of the reply."""
    times: int = 1
    """How many requests it affects."""
    skip: int = 0
    """How many requests it lets pass first."""
    status: int = 500
    """HTTP status of an `answer` or a `stream`."""
    body: str = ""
    """Body of an `answer`; a `stream` repeats it. After the request that created a task, `{task_id}` in it becomes the
    id of that task."""
    bytes: int = 0
    """Length of the body of a `stream`, in bytes; the last repetition is cut off there."""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """Headers of an `answer` or a `stream`."""
    delay_s: float = 0.0
    """Length of a `delay`, in seconds."""
    error: dict[str, Any] = field(default_factory=dict[str, Any])
    """`error` of the task that fails."""
    logs: list[str] = field(default_factory=list[str])
    """`logs` of the task that fails."""

    def __post_init__(self) -> None:
        if self.kind == "stream" and not self.body:
            raise ValueError("a stream needs a body to repeat")


@dataclass
class Task:
    """A task of an account."""

    task_id: str
    owner: str
    """Name of the account that submitted it; empty for a sample, which belongs to every account."""
    model: str
    task_type: str
    task_input: Mapping[str, Any]
    config: Mapping[str, Any]
    price_points: int
    status: str = "pending"
    progress: int = 0
    """In percent."""
    output: dict[str, Any] = field(default_factory=dict[str, Any])
    actions: tuple[str, ...] = ()
    version: Version | None = None
    """Version of the Midjourney model."""
    is_grid: bool = False
    result_path: Path | None = None
    """File of the result, once there is one."""
    consumed_points: int = 0
    logs: list[str] = field(default_factory=list[str])
    error: dict[str, Any] = field(default_factory=dict[str, Any])
    injected_failure: Fault | None = None
    """The fault that makes it fail."""
    polls: int = 0
    """How often it was read while the setting `polls` was on."""
    hidden_reads: int = 0
    """How often it was read before it was visible; see the setting `reads_until_visible`."""
    created_at: str = NOT_YET
    started_at: str = NOT_YET
    ended_at: str = NOT_YET

    @property
    def is_done(self) -> bool:
        """Whether it has completed or failed."""
        return self.status in ("completed", "failed")

    def start(self, at: str) -> None:
        """Move a pending task to processing."""
        if self.status == "pending":
            self.status, self.started_at = "processing", at

    def advance(self, percent: int) -> None:
        """Raise the progress of a processing task to *percent*, at most 99; only `Account.settle` ends a task."""
        if self.status == "processing":
            self.progress = max(self.progress, min(99, percent))


@dataclass
class Account:
    """The points of one account."""

    balance_points: int
    frozen_points: int = 0

    def freeze(self, points: int) -> None:
        """Move the price of a new task from the balance to the frozen points."""
        self.balance_points -= points
        self.frozen_points += points

    def settle(self, task: Task, status: Literal["completed", "failed"], at: str) -> None:
        """End *task*: consume its price if it completed, return it to the balance if it failed."""
        if task.is_done:
            return
        task.status, task.ended_at = status, at
        self.frozen_points -= task.price_points
        if status == "completed":
            task.consumed_points, task.progress = task.price_points, 100
        else:
            self.balance_points += task.price_points
            task.logs.append("restored frozen points")  # [R 2026-11] a captured reply


@dataclass
class SandboxState:
    """Everything that the sandbox keeps from one reset to the next."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    settings: Settings = field(default_factory=Settings)
    faults: list[Fault] = field(default_factory=list[Fault])
    accounts: dict[str, Account] = field(default_factory=dict[str, Account])
    """Accounts by name."""
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    """Tasks by id, oldest first."""
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The log of requests, oldest first; it never contains a key."""

    def read_clock(self) -> datetime:
        """Return the current time by the service's clock."""
        return self.clock() + timedelta(seconds=self.settings.clock_offset_s)

    def now(self) -> str:
        """Return the current time by the service's clock, in PiAPI's format."""
        return _format_time(self.read_clock())

    def account(self, owner: str) -> Account:
        """Return the account named *owner*, creating it if it is new."""
        return self.accounts.setdefault(owner, Account(self.settings.balance_points))

    def find_task(self, owner: str, task_id: str) -> Task | None:
        """Return a task that the account *owner* may see; None if there is none."""
        task = self.tasks.get(task_id)
        return task if task and task.owner in (owner, "") else None

    def list_tasks(self, owner: str) -> list[Task]:
        """Return the tasks that the account *owner* may see, newest first."""
        return [task for task in reversed(self.tasks.values()) if task.owner in (owner, "")]

    def list_history(self, owner: str) -> list[Task]:
        """Return the tasks that the history of the account *owner* shows, newest first."""
        tasks = self.list_tasks(owner)
        late = [task.task_id for task in tasks if task.owner][: self.settings.history_lag]
        return [task for task in tasks if task.task_id not in late]

    def read_task(self, owner: str, task_id: str) -> Task | None:
        """Return a task that a read by the account *owner* finds, and count the read if the task is not visible yet."""
        task = self.find_task(owner, task_id)
        if task and task.owner and task.hidden_reads < self.settings.reads_until_visible:
            task.hidden_reads += 1
            return None
        return task

    def count_unfinished(self, owner: str) -> int:
        """Return how many tasks of the account *owner* are pending or processing."""
        return sum(not task.is_done for task in self.tasks.values() if task.owner == owner)

    def take_faults(self, route: Route) -> list[Fault]:
        """Return the faults for this request of *route*, and count the request against each of them."""
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
        """Add the sample Midjourney tasks, which every account sees."""
        yesterday = _format_time(self.read_clock() - timedelta(days=1))
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
                result_path=folder / sample.file_name,
                created_at=yesterday,
                started_at=yesterday,
                ended_at=yesterday,
            )

    def describe_submitted_tasks(self) -> list[dict[str, Any]]:
        """Return all tasks that accounts submitted, for the control routes."""
        return [
            {"task_id": task.task_id, "model": task.model, "status": task.status, "polls": task.polls}
            for task in self.tasks.values()
            if task.owner
        ]


def _format_time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def account_of_key(key: str) -> str:
    """Return the name of the account that *key* belongs to: the part of the key before the first `~`."""
    return key.partition("~")[0]


def account_id(owner: str) -> str:
    """Return the id of the account named *owner*; it never changes."""
    return str(uuid.uuid5(_ACCOUNT_NAMESPACE, owner))


def new_task_id() -> str:
    """Return a new id for a task."""
    return str(uuid.uuid4())
