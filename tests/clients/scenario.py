"""The scenario that every client plays: submit, poll until the task has ended, return the URL of the result.

Each client's script is called with one argument, a JSON object: how to reach the server (`command`, `args` and `env`,
or `url`), its `transport`, and the arguments of the paid call as `request`. It prints one JSON object: `protocol`, the
protocol version that was agreed on, and `result`.
"""

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

Answer = dict[str, Any]


class Step(NamedTuple):
    """What an agent does next: call a tool, or, when *tool* is None, reply with *text*."""

    tool: str | None
    arguments: Answer
    text: str = ""


def next_step(answer: Answer | None, request: Answer) -> Step:
    """Return what a sensible model does after the last tool's *answer*; None before the first call."""
    if answer is None:
        return Step("midjourney_upscale", request)
    if answer["status"] == "completed":
        return Step(None, {}, answer["result_urls"][0])
    return Step("get_task", {"task_id": answer["task_id"]})


async def run_scenario(call: Callable[[str, Answer], Awaitable[Answer]], request: Answer) -> str:
    """Play the scenario with *call*, which calls a tool and returns its structured answer; return the result's URL."""
    step = next_step(None, request)
    while step.tool:
        step = next_step(await call(step.tool, step.arguments), request)
    return step.text


def parse_answer(content: Any) -> Answer:
    """Return the answer from a framework's form of a tool's result: text, or blocks of which the first is text."""
    found: Any = json.loads(content) if isinstance(content, str) else content
    if "status" in found:
        return found
    return parse_answer(found["text"] if "text" in found else found[0])


def target() -> Answer:
    """Return the JSON object that the script was called with."""
    return json.loads(sys.argv[1])


def report(protocol: str, result: str) -> None:
    """Print the outcome."""
    print(json.dumps({"protocol": protocol, "result": result}))
