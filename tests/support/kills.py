"""`kill -9` of a real server at some moment of a submission, then the same request to a new server.

Run a few times by the tests, and many times by `benchmarks/kills.py`.
"""

import asyncio
import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, TextContent

from piapi_mcp.sandbox.control_client import SandboxControl
from tests.support.messages import INITIALIZE
from tests.support.stdio_server import COMMAND, UPSCALE_ARGUMENTS, inherited_environment

TOOL = "midjourney_upscale"


@dataclass(frozen=True)
class Outcome:
    """What one kill left behind."""

    bought: int
    """How many tasks PiAPI has in the end; more than one is a double purchase."""
    told: str
    """What the new server answered, in a few words."""
    is_lost: bool
    """Whether a bought task's id is missing from the new server's answers."""


def environment(base_url: str, folder: Path) -> dict[str, str]:
    """Return the environment in which a client starts the server."""
    settings = {"PIAPI_API_KEY": "sandbox-kill-key", "PIAPI_BASE_URL": base_url, "PIAPI_STATE_DIR": str(folder)}
    return inherited_environment() | settings


async def kill_once(sandbox: SandboxControl, base_url: str, folder: Path, *, after_s: float) -> Outcome:
    """Kill a server *after_s* seconds after it got a paid call, then send the same call to a new server."""
    sandbox.reset(does_work=False)
    # PiAPI takes a moment before and after it accepts a task, so that kills fall there too.
    sandbox.fault("create", "delay", delay_s=0.03)
    sandbox.fault("create", "delay", delay_s=0.03, when="after")
    env = environment(base_url, folder)
    await asyncio.to_thread(_call_and_kill, env, after_s)
    async with Client(StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=env)) as client:
        answer = await client.call_tool(TOOL, UPSCALE_ARGUMENTS)
        listed = await client.call_tool("list_tasks", {"limit": 50})
    ids = [task["task_id"] for task in sandbox.tasks()]
    answered = _text(answer) + _text(listed)
    return Outcome(len(ids), _summarize(answer), is_lost=not all(task_id in answered for task_id in ids))


def _call_and_kill(env: dict[str, str], after_s: float) -> None:
    with subprocess.Popen(COMMAND, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        if server.stdin is None or server.stdout is None:
            raise RuntimeError("no pipes")
        server.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
        server.stdin.flush()
        server.stdout.readline()
        params = {"name": TOOL, "arguments": UPSCALE_ARGUMENTS}
        call: dict[str, Any] = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}
        server.stdin.write(json.dumps(call).encode() + b"\n")
        server.stdin.flush()
        try:
            server.wait(after_s)  # a server does not end by itself, so the time always runs out
        except subprocess.TimeoutExpired:
            server.kill()


def _text(result: CallToolResult) -> str:
    return " ".join(part.text for part in result.content if isinstance(part, TextContent))


def _summarize(answer: CallToolResult) -> str:
    text = _text(answer)
    if answer.is_error:
        return "unknown, with what to do" if "Call list_tasks" in text else f"unclear: {text}"
    return "the task already bought" if "nothing was bought now" in text else "a new task"


def summary(outcomes: list[Outcome]) -> str:
    """Return the counts of *outcomes* in one line."""
    told = ", ".join(f"{count} x {answer}" for answer, count in sorted(Counter(o.told for o in outcomes).items()))
    doubled = sum(outcome.bought > 1 for outcome in outcomes)
    lost = sum(outcome.is_lost for outcome in outcomes)
    return f"{len(outcomes)} kills: {doubled} doubled, {lost} lost; the new servers answered: {told}"
