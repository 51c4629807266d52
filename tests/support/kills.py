"""`kill -9` of a real server at a random moment of a submission, then the same request to a new one.

Run a few times by the tests, and many times by `benchmarks/kills.py`.
"""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, TextContent

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from tests.support.messages import INITIALIZE

COMMAND = [sys.executable, "-m", "piapi_mcp"]
TOOL = "midjourney_upscale"
ARGUMENTS = {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "3"}


@dataclass(frozen=True)
class Outcome:
    """What one kill left behind."""

    bought: int
    """Tasks at PiAPI in the end: one at most."""
    told: str
    """What the agent was told by the new server."""
    is_lost: bool
    """Whether a bought task is not known to the agent in the end."""


def environment(base_url: str, folder: Path) -> dict[str, str]:
    """Return what a client's configuration hands to the server."""
    return {"PIAPI_API_KEY": "sandbox-kill-key", "PIAPI_BASE_URL": base_url, "PIAPI_STATE_DIR": str(folder)}


async def kill_once(sandbox: SandboxControl, base_url: str, folder: Path, *, after_s: float) -> Outcome:
    """Kill a server *after_s* seconds after it was asked to submit, then ask a new one for the same."""
    sandbox.reset(does_work=False)
    sandbox.fault("create", "delay", delay_s=0.03)
    sandbox.fault("create", "delay", delay_s=0.03, when="after")
    await asyncio.to_thread(_submit_and_kill, environment(base_url, folder), after_s)
    server = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=environment(base_url, folder))
    async with Client(server) as client:
        answer = await client.call_tool(TOOL, ARGUMENTS)
        listed = await client.call_tool("list_tasks", {"limit": 50})
    ids = [task["task_id"] for task in sandbox.tasks()]
    known = _text(answer) + _text(listed)
    return Outcome(len(ids), _in_short(answer), is_lost=not all(task_id in known for task_id in ids))


def _submit_and_kill(env: dict[str, str], after_s: float) -> None:
    with subprocess.Popen(COMMAND, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        if server.stdin is None or server.stdout is None:
            raise RuntimeError("no pipes")
        server.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
        server.stdin.flush()
        server.stdout.readline()
        params = {"name": TOOL, "arguments": ARGUMENTS}
        call: dict[str, Any] = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}
        server.stdin.write(json.dumps(call).encode() + b"\n")
        server.stdin.flush()
        try:
            server.wait(after_s)  # it does not end by itself: this is the moment of the kill
        except subprocess.TimeoutExpired:
            server.kill()


def _text(result: CallToolResult) -> str:
    return " ".join(part.text for part in result.content if isinstance(part, TextContent))


def _in_short(answer: CallToolResult) -> str:
    text = _text(answer)
    if answer.is_error:
        return "unknown, with what to do" if "Call list_tasks" in text else f"unclear: {text}"
    return "the task already bought" if "nothing was bought now" in text else "a new task"


def summary(outcomes: list[Outcome]) -> str:
    """Return the counts of *outcomes* in one line."""
    told = ", ".join(f"{count} x {what}" for what, count in sorted(Counter(o.told for o in outcomes).items()))
    doubled = sum(outcome.bought > 1 for outcome in outcomes)
    lost = sum(outcome.is_lost for outcome in outcomes)
    return f"{len(outcomes)} kills: {doubled} doubled, {lost} lost; the agent was answered with {told}"
