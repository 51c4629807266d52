"""The way that every client goes: submit, look until the task has ended, take the result.

Each client's script is called with one argument, a JSON object: how to reach the server (`command`, `args` and `env`,
or `url`), its `transport`, and the `order` to buy. It prints one JSON object: `protocol` and `result`.
"""

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

Answer = dict[str, Any]


class Move(NamedTuple):
    """What an agent does next: call a tool, or say the result when *tool* is None."""

    tool: str | None
    arguments: Answer
    said: str = ""


def next_move(answer: Answer | None, order: Answer) -> Move:
    """Return what a sensible model does after the last tool's *answer*; None before the first call."""
    if answer is None:
        return Move("midjourney_upscale", order)
    if answer["status"] == "completed":
        return Move(None, {}, answer["result_urls"][0])
    return Move("get_task", {"task_id": answer["task_id"]})


async def go(call: Callable[[str, Answer], Awaitable[Answer]], order: Answer) -> str:
    """Go the whole way with *call*, which calls a tool and returns its structured answer, and return the result."""
    move = next_move(None, order)
    while move.tool:
        move = next_move(await call(move.tool, move.arguments), order)
    return move.said


def parse_answer(content: Any) -> Answer:
    """Return the answer in what a framework makes of a tool's result: text, or blocks of which the first is text."""
    found: Any = json.loads(content) if isinstance(content, str) else content
    if "status" in found:
        return found
    return parse_answer(found["text"] if "text" in found else found[0])


def target() -> Answer:
    """Return what the script was called with."""
    return json.loads(sys.argv[1])


def report(protocol: str, result: str) -> None:
    """Print what came of it."""
    print(json.dumps({"protocol": protocol, "result": result}))
