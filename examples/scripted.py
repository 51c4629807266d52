"""The script that replaces a real model, so that the examples run without keys.

A real model reads the tools' descriptions and the `next_step` of each answer, and makes the same decisions.
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


class Step(NamedTuple):
    """A tool call, or the final text if *tool* is None."""

    tool: str | None
    arguments: dict[str, Any]
    text: str = ""


def decide(answer: Any) -> Step:
    """Return the next step after a tool's *answer*, as the framework passes it to its model; None at first."""
    if answer is None:
        return Step("list_tasks", {"status": "completed"})
    facts = parse_answer(answer)
    if "tasks" in facts:
        grid = next(task for task in facts["tasks"] if "grid" in task.get("what", ""))
        return Step("midjourney_upscale", {"origin_task_id": grid["task_id"], "index": "3"})
    if facts["status"] == "completed":
        return Step(None, {}, f"Here it is: {facts['result_urls'][0]}")
    return Step("get_task", {"task_id": facts["task_id"]})


def parse_answer(answer: Any) -> dict[str, Any]:
    """Return the JSON object in *answer*, which is text or a list of content blocks that starts with text."""
    found: Any = json.loads(answer) if isinstance(answer, str) else answer
    if "next_step" in found:
        return found
    return parse_answer(found["text"] if "text" in found else found[0])


def command() -> str:
    """Return the full path of the server's command, because frameworks may not pass on the shell's PATH."""
    script = Path(sys.executable).with_name("piapi-mcp")
    return os.environ.get("PIAPI_MCP") or (str(script) if script.exists() else shutil.which("piapi-mcp") or "piapi-mcp")


@contextmanager
def sandbox() -> Generator[dict[str, str]]:
    """Run the sandbox, and yield the settings that make a server use it instead of PiAPI."""
    with (
        tempfile.TemporaryDirectory() as state,
        subprocess.Popen([command(), "sandbox"], stdout=subprocess.PIPE, text=True) as process,
    ):
        if process.stdout is None:
            raise RuntimeError("the sandbox was started without a pipe")
        try:
            url = process.stdout.readline().strip()
            yield {"PIAPI_BASE_URL": url, "PIAPI_API_KEY": "sandbox-example", "PIAPI_STATE_DIR": state}
        finally:
            process.terminate()
