"""Lose the replies of many submissions at once, and count how many tasks are found again and how many are confused.

    python -m benchmarks.recovery [COUNT]

Every reply to a submission is cut after PiAPI, played by the sandbox, has accepted it. A task counts as confused if the
caller gets one that was submitted with another mark than its own. The exit status is 1 if any is lost or confused.
"""

import asyncio
import re
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import httpx
from pydantic import SecretStr

from piapi_mcp.errors import PiAPIError
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.server import SandboxServer
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.image import ImageUpscale
from piapi_mcp.tasks.request import SubmitOptions
from piapi_mcp.tasks.service import TaskService, open_service
from tests.support.media_files import make_image

KEY = SecretStr("sandbox-recovery")
AT_ONCE = 50


async def submit(service: TaskService, path: Path) -> str | None:
    """Submit an image, again and again until its task is known, and return its id; None after five attempts."""
    for _ in range(5):
        try:
            return (await service.submit(ImageUpscale(str(path)), SubmitOptions())).task_id
        except PiAPIError:
            continue
    return None


async def run(base_url: str, folder: Path, count: int) -> list[str | None]:
    """Submit *count* different images, some at once, and return the task id of each."""
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(make_image() + number.to_bytes(4, "big"))  # differ behind their end
    settings = Settings.from_env(
        {"PIAPI_BASE_URL": base_url, "PIAPI_STATE_DIR": str(folder), "PIAPI_ALLOWED_DIRS": str(folder)}
    )
    service = open_service(settings, KEY)
    ids: list[str | None] = []
    for start in range(0, count, AT_ONCE):
        ids += await asyncio.gather(*(submit(service, path) for path in paths[start : start + AT_ONCE]))
    await service.close()
    return ids


def submitted_marks(ledger: Path) -> dict[str, str]:
    """Return the mark that each image was submitted with, by the image's name."""
    with closing(sqlite3.connect(ledger)) as db:
        rows = db.execute("SELECT summary, mark FROM submissions").fetchall()
    return {re.findall(r"[0-9]+\.png", summary)[0]: mark for summary, mark in rows}


def received_mark(http: httpx.Client, task_id: str) -> str:
    """Return the mark that PiAPI received with a task."""
    return http.get(f"/api/v1/task/{task_id}").json()["data"]["config"]["webhook_config"]["secret"]


def main() -> int:
    """Run it and return the exit status."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with SandboxServer() as server, tempfile.TemporaryDirectory() as folder:
        control = SandboxControl(server.base_url)
        control.reset(does_work=False, max_concurrent_tasks=10 * count, balance_points=10**12)
        control.fault("create", "cut", when="after", times=count)
        ids = asyncio.run(run(server.base_url, Path(folder), count))
        bought = [task["task_id"] for task in control.tasks()]
        found = {f"{number}.png": task_id for number, task_id in enumerate(ids) if task_id}
        marks = submitted_marks(Path(folder) / "ledger.sqlite3")
        headers = {"x-api-key": KEY.get_secret_value()}
        with httpx.Client(base_url=server.base_url, headers=headers, trust_env=False) as http:
            confused = sum(received_mark(http, task_id) != marks[name] for name, task_id in found.items())
        control.close()
    lost = count - len(found)
    print(f"{count} lost replies: {len(found)} found again, {lost} lost, {confused} confused, {len(bought)} bought")
    return 1 if lost or confused or len(bought) != count else 0


if __name__ == "__main__":
    sys.exit(main())
