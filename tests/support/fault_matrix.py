"""Every fault that the sandbox can make, at every step, for every paid tool: what was bought and what was answered.

The tests compare the rows with the committed table; `benchmarks/fault_matrix.py` writes that table.
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


def refusal(status: int, message: str, data: str = "null") -> dict[str, Any]:
    """Return an answer in PiAPI's own envelope."""
    body = f'{{"code": {status}, "message": "{message}", "data": {data}}}'
    return {"kind": "answer", "status": status, "body": body}


RETRY_AFTER = {"headers": {"retry-after": "7"}}

# (step, name of the fault): the fault, as `SandboxControl.fault` takes it; empty: PiAPI is not there at all.
FAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("before connecting", "connection refused"): {},
    ("before PiAPI accepts it", "connection cut"): {"route": "create", "kind": "cut"},
    ("before PiAPI accepts it", "500"): {"route": "create", "kind": "answer", "status": 500},
    ("before PiAPI accepts it", "502 page"): {"route": "create"} | BAD_GATEWAY,
    ("before PiAPI accepts it", "504"): {"route": "create", "kind": "answer", "status": 504},
    ("before PiAPI accepts it", "refused, 401"): {"route": "create"} | refusal(401, "failed to verify api key"),
    ("before PiAPI accepts it", "refused, 402"): {"route": "create"} | refusal(402, "insufficient credits"),
    ("before PiAPI accepts it", "refused, 413"): {"route": "create"} | refusal(413, "task input too large"),
    ("before PiAPI accepts it", "401 of a gateway"): {"route": "create", "kind": "answer", "status": 401},
    ("before PiAPI accepts it", "413 of a gateway"): {"route": "create", "kind": "answer", "status": 413},
    ("before PiAPI accepts it", "429, Retry-After 7"): {"route": "create"}
    | {"kind": "answer", "status": 429}
    | RETRY_AFTER,
    ("before PiAPI accepts it", "page as success"): {"route": "create"} | PAGE,
    ("after PiAPI accepted it", "connection cut"): {"route": "create", "kind": "cut"} | AFTER,
    ("after PiAPI accepted it", "502 page"): {"route": "create"} | BAD_GATEWAY | AFTER,
    ("after PiAPI accepted it", "503, workers"): {"route": "create"}
    | refusal(503, "insufficient workers, task queued")
    | AFTER,
    ("after PiAPI accepted it", "408"): {"route": "create"} | refusal(408, "task input too large") | AFTER,
    ("after PiAPI accepted it", "302"): {"route": "create", "kind": "answer", "status": 302} | AFTER,
    ("after PiAPI accepted it", "403, words"): {"route": "create"} | refusal(403, "api key cache") | AFTER,
    ("after PiAPI accepted it", "400 with its id"): {"route": "create"}
    | refusal(400, "busy", '{"task_id": "{task_id}"}')
    | AFTER,
    ("after PiAPI accepted it", "504"): {"route": "create", "kind": "answer", "status": 504} | AFTER,
    ("after PiAPI accepted it", "page as success"): {"route": "create"} | PAGE | AFTER,
    ("after PiAPI accepted it", "reply too late"): {"route": "create", "kind": "delay", "delay_s": 3} | AFTER,
    ("within the reply", "connection cut"): {"route": "create", "kind": "cut", "when": "midway"},
    ("while it runs", "task fails"): {
        "route": "create",
        "kind": "fail_task",
        "error": {"code": 10000, "message": "no"},
    },
    ("at a poll", "connection cut"): {"route": "read", "kind": "cut", "times": 4},
    ("at a poll", "cut within the reply"): {"route": "read", "kind": "cut", "when": "midway", "times": 4},
    ("at a poll", "502 page"): {"route": "read", "times": 4} | BAD_GATEWAY,
    ("at a poll", "429, Retry-After 7"): {"route": "read", "kind": "answer", "status": 429} | RETRY_AFTER,
    ("at a poll", "page as success"): {"route": "read", "times": 4} | PAGE,
    ("at a poll", "404"): {"route": "read"} | refusal(404, "task not found"),
    ("at every poll", "502 page"): {"route": "read", "times": 10_000} | BAD_GATEWAY,
}

COLUMNS = ("step", "fault", "tool", "bought", "answer", "bought after a repeat", "answer to the repeat", "id known")


@dataclass(frozen=True)
class Cell:
    """One fault at one step for one tool."""

    step: str
    fault: str
    tool: Tool


CELLS = [Cell(step, fault, tool) for step, fault in FAULTS for tool in TOOLS]


async def no_pause(_seconds: float) -> None:
    """Replace the pauses between retries."""


async def run_cell(cell: Cell, sandbox: SandboxControl, base_url: str, folder: Path) -> tuple[str, ...]:
    """Submit once under the fault and once more without it, and return the cell's row."""
    sandbox.reset(does_work=False, polls=2)
    fault = dict(FAULTS[(cell.step, cell.fault)])
    wait_s = {"at a poll": 6.0, "while it runs": 6.0, "at every poll": 1.0}.get(cell.step, 0.0)
    service = open_service(base_url if fault else "http://127.0.0.1:1", base_url, folder)
    try:
        if fault:
            # A Midjourney task's parent is read before the submission; that read is not the poll that shall fail.
            skip = 1 if fault["route"] == "read" and cell.tool == "midjourney_upscale" else 0
            sandbox.fault(**fault, skip=skip)
        first = await submit(service, cell.tool, folder, wait_s=wait_s)
        bought = charged_task_ids(sandbox)
    finally:
        await service.close()
    sandbox.set(polls=1)
    sandbox.clear_faults()
    service = open_service(base_url, base_url, folder)
    try:
        repeat = await submit(service, cell.tool, folder, wait_s=0)
        bought_in_the_end = charged_task_ids(sandbox)
        listed = {task.task_id for task in (await service.list_tasks(limit=20)).tasks}
    finally:
        await service.close()
    answered = f"{first.text} {repeat.text}"
    known = all(task_id in answered and task_id in listed for task_id in bought_in_the_end)
    id_known = "-" if not bought_in_the_end else "yes" if known else "NO"
    in_the_end = (str(len(bought_in_the_end)), repeat.summary, id_known)
    return (cell.step, cell.fault, cell.tool, str(len(bought)), first.summary, *in_the_end)


def charged_task_ids(sandbox: SandboxControl) -> list[str]:
    """Return the tasks that cost money: PiAPI refunds a failed one."""
    return [task["task_id"] for task in sandbox.tasks() if task["status"] != "failed"]


def open_service(base_url: str, identity_url: str, folder: Path) -> TaskService:
    """Return a service as a new process would make it."""
    settings = Settings.from_env({"PIAPI_BASE_URL": base_url, "PIAPI_ALLOWED_DIRS": str(folder)})
    client = PiAPIClient(KEY, base_url=base_url, submit_timeout_s=1, sleep=no_pause)
    ledger = SQLiteLedger(folder / "ledger.sqlite3", identity=f"{identity_url} {KEY.get_secret_value()}")
    return TaskService(settings, client, ledger, sleep=no_pause)


@dataclass(frozen=True)
class Answer:
    """What an agent got for a paid call."""

    summary: str
    """In a few words, for the table."""
    text: str
    """In full."""


async def submit(service: TaskService, tool: Tool, folder: Path, *, wait_s: float) -> Answer:
    """Call a paid tool as an agent does."""
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
        return Answer(summarize_error(error), str(error))
    return Answer(summarize_task(task), task.model_dump_json())


def summarize_task(task: Task) -> str:
    """Return the status of a task that was answered, and whether the answer says that it is an earlier one."""
    notes = " ".join(task.notes or ())
    if "nothing was bought now" in notes:
        return f"{task.status} (same task)"
    return f"{task.status} (found again)" if "found in its history" in notes else task.status


def summarize_error(error: PiAPIError) -> str:
    """Return an error's name, and which of the promises about the money its text makes."""
    text = str(error)
    money = (summary for pattern, summary in MONEY.items() if re.search(pattern, text))
    return f"{type(error).__name__}: {next(money, 'SAYS NOTHING OF THE MONEY')}"


MONEY = {
    r"may have been bought.*do not submit it again.*Call list_tasks": "perhaps bought, call list_tasks",
    r"Nothing was submitted or charged": "not bought",
    r"Nothing was submitted": "not bought",
}


def table(rows: list[tuple[str, ...]]) -> str:
    """Return *rows* as a Markdown table."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
