"""Every fault that the sandbox can make, at every step, for every paid tool: what is bought, what the agent is told.

Run by the tests against the committed table, and by `benchmarks/fault_matrix.py`, which writes that table.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import SecretStr

from piapi_mcp.errors import PiAPIError
from piapi_mcp.ledger.sqlite import SQLiteLedger
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.image import ImageUpscale
from piapi_mcp.tasks.midjourney import MidjourneyUpscale
from piapi_mcp.tasks.models import Task
from piapi_mcp.tasks.request import SubmitOptions
from piapi_mcp.tasks.service import TaskService
from piapi_mcp.tasks.video import VideoUpscale
from tests.support.media_files import make_clip, make_image

Tool = Literal["midjourney_upscale", "video_upscale", "image_upscale"]
TOOLS: tuple[Tool, ...] = get_args(Tool)
KEY = SecretStr("sandbox-matrix-key")
HTML = "<html><h1>Bad gateway</h1></html>"

BAD_GATEWAY = {"kind": "answer", "status": 502, "body": HTML}
PAGE = {"kind": "answer", "status": 200, "body": HTML}
AFTER = {"when": "after"}
RETRY_AFTER = {"headers": {"retry-after": "7"}}

# step, name of the fault: how the sandbox is told to make it
FAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("before connecting", "connection refused"): {},
    ("before it is taken", "connection cut"): {"route": "create", "kind": "cut"},
    ("before it is taken", "500"): {"route": "create", "kind": "answer", "status": 500},
    ("before it is taken", "502 page"): {"route": "create"} | BAD_GATEWAY,
    ("before it is taken", "504"): {"route": "create", "kind": "answer", "status": 504},
    ("before it is taken", "401"): {"route": "create", "kind": "answer", "status": 401},
    ("before it is taken", "402"): {"route": "create", "kind": "answer", "status": 402},
    ("before it is taken", "413"): {"route": "create", "kind": "answer", "status": 413},
    ("before it is taken", "429, Retry-After 7"): {"route": "create"} | {"kind": "answer", "status": 429} | RETRY_AFTER,
    ("before it is taken", "page as success"): {"route": "create"} | PAGE,
    ("after it is taken", "connection cut"): {"route": "create", "kind": "cut"} | AFTER,
    ("after it is taken", "502 page"): {"route": "create"} | BAD_GATEWAY | AFTER,
    ("after it is taken", "504"): {"route": "create", "kind": "answer", "status": 504} | AFTER,
    ("after it is taken", "page as success"): {"route": "create"} | PAGE | AFTER,
    ("after it is taken", "reply too late"): {"route": "create", "kind": "delay", "delay_s": 3} | AFTER,
    ("in the reply", "connection cut"): {"route": "create", "kind": "cut", "when": "midway"},
    ("while it runs", "task fails"): {
        "route": "create",
        "kind": "fail_task",
        "error": {"code": 10000, "message": "no"},
    },
    ("at a look", "connection cut"): {"route": "read", "kind": "cut", "times": 4},
    ("at a look", "cut in the reply"): {"route": "read", "kind": "cut", "when": "midway", "times": 4},
    ("at a look", "502 page"): {"route": "read", "times": 4} | BAD_GATEWAY,
    ("at a look", "429, Retry-After 7"): {"route": "read", "kind": "answer", "status": 429} | RETRY_AFTER,
    ("at a look", "page as success"): {"route": "read", "times": 4} | PAGE,
    ("at every look", "502 page"): {"route": "read", "times": 10_000} | BAD_GATEWAY,
}

COLUMNS = ("step", "fault", "tool", "bought", "the agent is told", "bought after asking again", "then told", "id known")


@dataclass(frozen=True)
class Cell:
    """One fault at one step for one tool."""

    step: str
    fault: str
    tool: Tool


CELLS = [Cell(step, fault, tool) for step, fault in FAULTS for tool in TOOLS]


async def no_pause(_seconds: float) -> None:
    """Stand in for pauses."""


async def run_cell(cell: Cell, sandbox: SandboxControl, base_url: str, folder: Path) -> tuple[str, ...]:
    """Buy once under the fault, ask once more for the same without it, and return the cell's row."""
    sandbox.reset(does_work=False, polls=2)
    plan = dict(FAULTS[(cell.step, cell.fault)])
    waits = cell.step in ("at a look", "at every look", "while it runs")
    service = open_service(base_url if plan else "http://127.0.0.1:1", base_url, folder)
    try:
        if plan:
            # The look at a Midjourney task's parent comes before the submission, and is not what is meant.
            skip = 1 if plan["route"] == "read" and cell.tool == "midjourney_upscale" else 0
            sandbox.fault(**plan, skip=skip)
        first = await attempt(service, cell.tool, folder, wait_s=6 if cell.step != "at every look" else 1, waits=waits)
        bought = paid(sandbox)
    finally:
        await service.close()
    sandbox.set(polls=1)
    sandbox.clear_faults()
    service = open_service(base_url, base_url, folder)
    try:
        second = await attempt(service, cell.tool, folder, wait_s=6, waits=False)
        bought_then = paid(sandbox)
        listed = {line.task_id for line in (await service.list_tasks(limit=20)).tasks}
    finally:
        await service.close()
    ids = set(bought_then)
    told = " ".join([*first[1:], *second[1:]])
    known = "-" if not ids else "yes" if all(task_id in told and task_id in listed for task_id in ids) else "NO"
    return (cell.step, cell.fault, cell.tool, str(len(bought)), first[0], str(len(bought_then)), second[0], known)


def paid(sandbox: SandboxControl) -> list[str]:
    """Return the tasks that cost money: a failed one gives its price back."""
    return [task["task_id"] for task in sandbox.tasks() if task["status"] != "failed"]


def open_service(base_url: str, identity_url: str, folder: Path) -> TaskService:
    """Return a service as a new process would make it."""
    settings = Settings.from_env({"PIAPI_BASE_URL": base_url, "PIAPI_ALLOWED_DIRS": str(folder)})
    client = PiAPIClient(KEY, base_url=base_url, submit_timeout_s=1, sleep=no_pause)
    ledger = SQLiteLedger(folder / "ledger.sqlite3", identity=f"{identity_url} {KEY.get_secret_value()}")
    return TaskService(settings, client, ledger, sleep=no_pause)


async def attempt(service: TaskService, tool: Tool, folder: Path, *, wait_s: float, waits: bool) -> tuple[str, str]:
    """Call a paid tool as an agent does; return what it is told, in short and in full."""
    wait_s = wait_s if waits else 0
    clip, image = folder / "clip.mp4", folder / "image.png"
    if not clip.exists():
        clip.write_bytes(make_clip(width=64, height=64, frames=10))
        image.write_bytes(make_image())
    try:
        if tool == "midjourney_upscale":
            origin = Sample("6", is_grid=True).task_id
            task = await service.submit(MidjourneyUpscale(origin, "3"), SubmitOptions(wait_s=wait_s))
        elif tool == "video_upscale":
            task = await service.submit(VideoUpscale(str(clip)), SubmitOptions(wait_s=wait_s))
        else:
            task = await service.submit(ImageUpscale(str(image)), SubmitOptions(wait_s=wait_s))
    except PiAPIError as error:
        return in_short(error), str(error)
    return describe(task), task.model_dump_json()


def describe(task: Task) -> str:
    """Return the state of a task that was answered, and whether it is said to be an old one."""
    notes = " ".join(task.notes or ())
    origin = (
        "same task" if "nothing was bought now" in notes else "found again" if "found in its history" in notes else ""
    )
    return f"{task.status} ({origin})" if origin else task.status


def in_short(error: PiAPIError) -> str:
    """Return an error's name, and which of the promises about the money its text makes."""
    text = str(error)
    money = next(
        (short for pattern, short in MONEY.items() if re.search(pattern, text)),
        "SAYS NOTHING OF THE MONEY",
    )
    return f"{type(error).__name__}: {money}"


MONEY = {
    r"may have been bought.*do not submit it again.*Call list_tasks": "perhaps bought, call list_tasks",
    r"Nothing was submitted or charged": "not bought",
    r"Nothing was submitted": "not bought",
}


def table(rows: list[tuple[str, ...]]) -> str:
    """Return *rows* as a Markdown table."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
