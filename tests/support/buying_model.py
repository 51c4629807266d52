"""A small world to buy in: clocks that a test sets, a sandbox that keeps their time, and services that can be killed.

Time passes only where the test or a pause says so. A service reads its clocks in every transaction of the ledger that
writes, so the number of such reads is a moment that a test can name: the service is killed there, its caller leaves, or
a clock jumps.
"""

import asyncio
import contextvars
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from pydantic import SecretStr

from piapi_mcp.errors import OutcomeUnknownError, PiAPIError
from piapi_mcp.ledger.sqlite import SQLiteLedger
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.sandbox import server as sandbox_server
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.routes import SandboxApp
from piapi_mcp.sandbox.server import SandboxServer
from piapi_mcp.sandbox.state import Task as PiAPITask
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.image import ImageUpscale
from piapi_mcp.tasks.midjourney import MidjourneyUpscale
from piapi_mcp.tasks.request import SubmitOptions, Upscale
from piapi_mcp.tasks.service import TaskService
from piapi_mcp.tasks.video import VideoUpscale
from tests.support.media_files import make_clip, make_image
from tests.support.services import GRID

_NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
_STEP_TIMEOUT_S = 60.0

Name = Literal["mj1", "mj2", "video", "image-a", "image-b"]
NAMES: tuple[Name, ...] = ("mj1", "mj2", "video", "image-a", "image-b")
InterruptKind = Literal["kill", "abandon", "steady", "wall"]


class Killed(BaseException):
    """The service was killed: nothing it does has an effect on the ledger any more."""


@dataclass
class Clocks:
    """Real time, and how far this machine's clocks are ahead of it, in seconds."""

    now_s: float = _NOON
    wall_ahead_s: float = 0.0
    steady_ahead_s: float = 0.0

    def wall_s(self) -> float:
        """Return Unix time by this machine's clock."""
        return self.now_s + self.wall_ahead_s

    def steady_s(self) -> float:
        """Return the time by which leases are measured."""
        return self.now_s + self.steady_ahead_s

    async def sleep(self, seconds: float) -> None:
        """Let time pass instead of waiting."""
        self.now_s += seconds
        await asyncio.sleep(0)


@dataclass
class Sandbox:
    """A sandbox that keeps the time of `clocks`, with a view of what its accounts bought."""

    clocks: Clocks
    base_url: str
    control: SandboxControl
    app: SandboxApp

    def tasks(self) -> dict[str, PiAPITask]:
        """Return the tasks that accounts submitted, by id."""
        return {task.task_id: task for task in list(self.app.state.tasks.values()) if task.owner}


@contextmanager
def open_sandbox() -> Generator[Sandbox]:
    """Serve a sandbox until the end of the block; `time.time` follows its clocks meanwhile."""
    clocks, apps = Clocks(), list[SandboxApp]()

    def keep(*arguments: Any) -> SandboxApp:
        apps.append(SandboxApp(*arguments))
        return apps[-1]

    with patch.object(sandbox_server, "SandboxApp", keep):
        server = SandboxServer(clock=lambda: datetime.fromtimestamp(clocks.now_s, UTC))
        server.start()
    control = SandboxControl(server.base_url)
    try:
        with patch.object(time, "time", clocks.wall_s):
            yield Sandbox(clocks, server.base_url, control, apps[0])
    finally:
        control.close()
        server.stop()


@dataclass(frozen=True)
class Interrupt:
    """What happens when a service reads its clocks for the *at*-th time since the step began."""

    at: int
    kind: InterruptKind
    seconds: float = 0.0


@dataclass(frozen=True)
class Call:
    """A paid call to make."""

    service: int
    name: Name
    repeat: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a paid call ended."""

    kind: Literal["bought", "replay", "dry_run", "nothing", "unknown", "gone"]
    """`nothing`: an error by which nothing was bought; `gone`: the caller left, or the service was killed."""
    text: str = ""
    task_id: str | None = None

    @property
    def may_have_bought(self) -> bool:
        """Whether the call was allowed to buy a task."""
        return self.kind in ("bought", "unknown", "gone")


_current: contextvars.ContextVar["Service | None"] = contextvars.ContextVar("_current", default=None)


class Service:
    """A task service as a process has it; it can be killed."""

    def __init__(self, world: "World", key: str) -> None:
        self.key = key
        self.account = key.partition("~")[0]
        self.is_dead = False
        self.tasks = set[asyncio.Task[Any]]()
        """Everything that it has under way."""
        self.calls = set[asyncio.Task[Any]]()
        self._clocks = world.sandbox.clocks
        self._loop = world.loop
        self._reads = 0
        self._interrupts = dict[int, Interrupt]()
        base_url = world.sandbox.base_url
        self._client = PiAPIClient(SecretStr(key), base_url=base_url, submit_timeout_s=5, sleep=self._clocks.sleep)
        self._ledger = SQLiteLedger(
            world.path,
            identity=f"{base_url} {key}",
            clock=lambda: self._read(self._clocks.wall_s),
            steady_clock=lambda: self._read(self._clocks.steady_s),
        )
        self.service = TaskService(world.settings, self._client, self._ledger, sleep=self._clocks.sleep)

    def arm(self, interrupt: Interrupt | None) -> None:
        """Let *interrupt* happen in the step that begins now, and no other."""
        self._reads = 0
        self._interrupts = {interrupt.at: interrupt} if interrupt else {}

    def kill(self) -> None:
        """Kill it: its calls end, and nothing reaches the ledger any more."""
        self.is_dead = True
        for call in list(self.calls):
            self._loop.call_soon_threadsafe(call.cancel)

    async def dispose(self) -> None:
        """Free what it holds open; its callers and its ledger do not see that."""
        self.is_dead = True
        for task in list(self.tasks):
            task.cancel()
        while self.tasks:
            await asyncio.wait(self.tasks)
            await asyncio.sleep(0)
        await self._client.close()
        await self._ledger.close()

    def _read(self, clock: Callable[[], float]) -> float:
        self._reads += 1
        if interrupt := self._interrupts.pop(self._reads, None):
            self._interrupt(interrupt)
        if self.is_dead:
            raise Killed
        return clock()

    def _interrupt(self, interrupt: Interrupt) -> None:
        match interrupt.kind:
            case "kill":
                self.kill()
            case "abandon":
                for call in list(self.calls):
                    self._loop.call_soon_threadsafe(call.cancel)
            case "steady":
                self._clocks.steady_ahead_s += interrupt.seconds
            case "wall":
                self._clocks.wall_ahead_s += interrupt.seconds


@dataclass
class World:
    """The sandbox, one ledger file, and the services that share it; and what was wanted and told so far."""

    sandbox: Sandbox
    folder: Path
    budget_usd: Decimal | None = None
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    services: list[Service] = field(default_factory=list[Service])
    wanted: Counter[tuple[str, Name]] = field(default_factory=Counter[tuple[str, Name]])
    """By account and request: how many tasks, not counting failed ones, the calls so far allow."""
    told: dict[str, str] = field(default_factory=dict[str, str])
    """The account that was told each task id."""
    bought: set[str] = field(default_factory=set[str])
    """The ids that were answered as bought now."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "ledger.sqlite3"
        self.settings = Settings.from_env(
            {
                "PIAPI_API_KEY": "sandbox-unused",
                "PIAPI_BASE_URL": self.sandbox.base_url,
                "PIAPI_STATE_DIR": str(self.folder),
                "PIAPI_ALLOWED_DIRS": str(self.folder),
                "PIAPI_MIDJOURNEY_PRICE_USD": "0.01",
                **({"PIAPI_DAILY_BUDGET_USD": str(self.budget_usd)} if self.budget_usd is not None else {}),
            }
        )
        # The sandbox takes every video for 60 frames and every image for 500x500 px: so these cost what we quote.
        (self.folder / "video.mp4").write_bytes(make_clip(width=64, height=64, frames=60))
        (self.folder / "image-a.png").write_bytes(make_image(width=500, height=500))
        (self.folder / "image-b.jpg").write_bytes(make_image(width=500, height=500, image_format="JPEG"))
        self.loop = self.runner.get_loop()
        self.loop.set_task_factory(_own_task)
        # Exceptions of killed services that nobody waits for are of no interest.
        self.loop.set_exception_handler(lambda _loop, _context: None)

    def open(self, key: str) -> int:
        """Open another service, and return its number."""
        self.services.append(Service(self, key))
        return len(self.services) - 1

    def upscale(self, name: Name) -> Upscale:
        """Return the request called *name*."""
        match name:
            case "mj1" | "mj2":
                return MidjourneyUpscale(GRID, "1" if name == "mj1" else "2")
            case "video":
                return VideoUpscale(str(self.folder / "video.mp4"))
            case "image-a":
                return ImageUpscale(str(self.folder / "image-a.png"))
            case "image-b":
                return ImageUpscale(str(self.folder / "image-b.jpg"))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run *work* to its end, and everything that is under way as far as it comes meanwhile."""
        return self.runner.run(asyncio.wait_for(work, _STEP_TIMEOUT_S))

    async def call(self, service: Service, work: Coroutine[Any, Any, Any]) -> Any:
        """Make one call of a service; return its result or its exception."""
        context = contextvars.copy_context()
        context.run(_current.set, service)
        call = self.loop.create_task(work, context=context)
        service.calls.add(call)
        try:
            await asyncio.wait({call})
        finally:
            service.calls.discard(call)
        return asyncio.CancelledError() if call.cancelled() else call.exception() or call.result()

    async def submit(self, call: Call) -> Outcome:
        """Make a paid call."""
        service = self.services[call.service]
        options = SubmitOptions(allow_repeat=call.repeat, dry_run=call.dry_run)
        return outcome_of(await self.call(service, service.service.submit(self.upscale(call.name), options)))

    async def settle(self) -> None:
        """Let everything that is under way come to its end."""
        while under_way := [task for service in self.services for task in service.tasks]:
            await asyncio.wait(under_way)
            await asyncio.sleep(0)

    def is_settled(self) -> bool:
        """Whether nothing is under way."""
        return not any(service.tasks for service in self.services)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the ledger."""
        if not self.path.exists():
            return []
        db = sqlite3.connect(self.path)
        db.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in db.execute("SELECT * FROM submissions")]
        except sqlite3.OperationalError:  # no table yet
            return []
        finally:
            db.close()

    def close(self) -> None:
        """Free everything."""

        async def dispose() -> None:
            for service in self.services:
                await service.dispose()

        self.run(dispose())
        self.runner.close()


def outcome_of(result: Any) -> Outcome:
    """Return how a paid call ended, given its result or its exception."""
    if isinstance(result, asyncio.CancelledError | Killed):
        return Outcome("gone")
    if isinstance(result, OutcomeUnknownError):
        return Outcome("unknown", str(result))
    if isinstance(result, PiAPIError):
        return Outcome("nothing", f"{type(result).__name__}: {result}")
    if isinstance(result, BaseException):
        raise result
    if result.status == "dry_run":
        return Outcome("dry_run", result.next_step)
    return Outcome("bought" if result.bought_now else "replay", " ".join(result.notes or ()), result.task_id)


def request_of(task: PiAPITask) -> str:
    """Return the request that a task of the sandbox was submitted for; it does not keep which image."""
    if task.model == "midjourney":
        return f"mj{task.task_input['index']}"
    return "video" if "video" in task.model else "image"


def group_of(name: Name) -> str:
    """Return what `request_of` returns for the tasks of a request."""
    return name.partition("-")[0]


def mark_of(task: PiAPITask) -> str | None:
    """Return the mark that the submission of *task* carried."""
    webhook: dict[str, str] = task.config.get("webhook_config") or {}
    return webhook.get("secret") or None


def _own_task(
    loop: asyncio.AbstractEventLoop, work: Any, *, context: contextvars.Context | None = None, **options: Any
) -> asyncio.Task[Any]:
    """Create a task, and note which service it belongs to."""
    task = asyncio.Task(work, loop=loop, context=context, **options)
    owner = context.get(_current) if context is not None else _current.get()
    if owner is not None:
        owner.tasks.add(task)
        task.add_done_callback(owner.tasks.discard)
    return task
