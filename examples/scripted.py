"""What a sensible model does, in place of a real one, so that the examples run without any key.

A real model reads the tools' descriptions and the `next_step` of each answer, and decides the same.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

REQUEST = "Upscale the newest Midjourney grid in my account: its third image."


class Move(NamedTuple):
    """A call of a tool, or the last word when *tool* is None."""

    tool: str | None
    arguments: dict[str, Any]
    said: str = ""


def decide(answer: Any) -> Move:
    """Return the next move after a tool's *answer*, as the framework shows it to its model; None at the beginning."""
    if answer is None:
        return Move("list_tasks", {"status": "completed"})
    facts = read(answer)
    if "tasks" in facts:
        grid = next(task for task in facts["tasks"] if "grid" in task.get("what", ""))
        return Move("midjourney_upscale", {"origin_task_id": grid["task_id"], "index": "3"})
    if facts["status"] == "completed":
        return Move(None, {}, f"Here it is: {facts['result_urls'][0]}")
    return Move("get_task", {"task_id": facts["task_id"]})


def read(answer: Any) -> dict[str, Any]:
    """Return the facts in *answer*: text, or blocks of which the first is text."""
    found: Any = json.loads(answer) if isinstance(answer, str) else answer
    if "next_step" in found:
        return found
    return read(found["text"] if "text" in found else found[0])


def command() -> str:
    """Return the path of the server's command: frameworks do not know the shell's."""
    beside = Path(sys.executable).with_name("piapi-mcp")
    return os.environ.get("PIAPI_MCP") or (str(beside) if beside.exists() else shutil.which("piapi-mcp") or "piapi-mcp")


@contextmanager
def sandbox() -> Generator[dict[str, str]]:
    """Run the sandbox, and yield the settings that lead a server to it instead of to PiAPI."""
    with (
        tempfile.TemporaryDirectory() as state,
        subprocess.Popen([command(), "sandbox"], stdout=subprocess.PIPE, text=True) as process,
    ):
        if process.stdout is None:
            raise RuntimeError("no pipe")
        try:
            url = process.stdout.readline().strip()
            yield {"PIAPI_BASE_URL": url, "PIAPI_API_KEY": "sandbox-example", "PIAPI_STATE_DIR": state}
        finally:
            process.terminate()
