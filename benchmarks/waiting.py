"""Measure how soon the end of a task is seen, how many polls that costs, and what the ledger adds to a submission.

    python -m benchmarks.waiting [--long]

Run from the checkout. With --long, a task of a minute is measured too. Prints PASS or FAIL for each target.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from piapi_mcp.ledger.ledger import New, NewSubmission
from piapi_mcp.ledger.sqlite import SQLiteLedger
from piapi_mcp.piapi.catalog import MIDJOURNEY_UPSCALE
from piapi_mcp.piapi.client import PiAPIClient
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.sandbox.server import SandboxServer
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.midjourney import MidjourneyUpscale
from piapi_mcp.tasks.request import SubmitOptions
from piapi_mcp.tasks.service import TaskService, open_service

GRID = Sample("6", is_grid=True).task_id
MAX_LATE_S = {3: 0.5, 60: 4.0}
MAX_POLLS = {3: 25, 60: 25}
MAX_LEDGER_MS = 5.0
SUBMISSIONS = 60


def report(name: str, value: float, limit: float, unit: str) -> bool:
    """Print one figure against its target."""
    print(f"{'PASS' if value <= limit else 'FAIL'}  {name}: {value:.2f} {unit} (at most {limit:g} {unit})")
    return value <= limit


async def wait_for_one(service: TaskService, control: SandboxControl, seconds: int) -> bool:
    """Submit a task that takes *seconds*, wait for it as an agent does, and report lateness and polls."""
    control.reset(does_work=False, pending_s=seconds / 2, processing_s=seconds / 2)
    task = await service.submit(MidjourneyUpscale(GRID, "3"), SubmitOptions(allow_repeat=True))
    polls_before = len(control.requests("read"))
    while task.status not in ("completed", "failed") and task.task_id:
        task = await service.get(task.task_id, wait_s=45)
    seen_at = time.time()
    if task.ended_at is None:
        raise RuntimeError("the sandbox did not say when the task ended")
    late_s = seen_at - task.ended_at.timestamp()
    polls = len(control.requests("read")) - polls_before
    late = report(f"a task of {seconds} s is seen done", late_s, MAX_LATE_S[seconds], "s late")
    return report(f"a task of {seconds} s costs", polls, MAX_POLLS[seconds], "polls") and late


async def wait_for_many(service: TaskService, control: SandboxControl) -> bool:
    """Let a hundred calls wait for one task, and compare the polls with those of a single call."""
    polls: list[int] = []
    for calls in (1, 100):
        control.reset(does_work=False, pending_s=1, processing_s=2)
        task = await service.submit(MidjourneyUpscale(GRID, "3"), SubmitOptions(allow_repeat=True))
        before = len(control.requests("read"))
        await asyncio.gather(*(service.get(task.task_id or "", wait_s=20) for _ in range(calls)))
        polls.append(len(control.requests("read")) - before)
    return report("100 calls that wait for one task cost, above one call", polls[1] - polls[0], 1, "polls")


async def ledger_cost(base_url: str, folder: Path, control: SandboxControl, key: Any) -> bool:
    """Report what the ledger adds to a submission, measured in turn with submissions without it."""
    control.reset(does_work=False, max_concurrent_tasks=10_000)
    client = PiAPIClient(key, base_url=base_url)
    ledger = SQLiteLedger(folder / "bench.sqlite3", identity="bench")

    async def without_ledger(_number: int) -> None:
        await client.create_task(MIDJOURNEY_UPSCALE, {"origin_task_id": GRID, "index": "3"})

    async def with_ledger(number: int) -> None:
        new = NewSubmission(f"{number}", "midjourney", "upscale", "bench", {}, None)
        claim = await ledger.claim(new, admit=lambda _spent_usd: None)
        if not isinstance(claim, New):
            raise TypeError(claim)
        task = await client.create_task(MIDJOURNEY_UPSCALE, {"origin_task_id": GRID, "index": "3"})
        await ledger.record_task(claim.submission.id, task.task_id)

    async def timed(work: Callable[[int], Any], number: int) -> float:
        start = time.perf_counter()
        await work(number)
        return (time.perf_counter() - start) * 1000

    pairs = [(await timed(with_ledger, number), await timed(without_ledger, number)) for number in range(SUBMISSIONS)]
    await client.close()
    await ledger.close()
    print(f"      a submission takes {statistics.median(b for _, b in pairs):.1f} ms without the ledger (median)")
    return report("the ledger adds", statistics.median(a - b for a, b in pairs), MAX_LEDGER_MS, "ms")


async def measure(base_url: str, folder: Path, lengths: list[int]) -> bool:
    """Run everything and return whether every target is met."""
    environ = {"PIAPI_API_KEY": "sandbox-bench", "PIAPI_BASE_URL": base_url, "PIAPI_STATE_DIR": str(folder)}
    settings = Settings.from_env(environ)
    if settings.api_key is None:
        raise RuntimeError("no key")
    control = SandboxControl(base_url)
    service = open_service(settings, settings.api_key)
    passed = [await wait_for_one(service, control, seconds) for seconds in lengths]
    passed.append(await wait_for_many(service, control))
    passed.append(await ledger_cost(base_url, folder, control, settings.api_key))
    await service.close()
    control.close()
    return all(passed)


def main() -> int:
    """Measure, print, and return 0 if every target is met."""
    lengths = [3, 60] if "--long" in sys.argv else [3]
    with SandboxServer() as server, tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(measure(server.base_url, Path(folder), lengths)) else 1


if __name__ == "__main__":
    sys.exit(main())
