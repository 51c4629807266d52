"""A smoke test of an installed server: over stdio, from the handshake to a finished task, with nothing but Python.

    python packaging/smoke.py COMMAND [ARGUMENT ...]

COMMAND starts the server, such as `.venv/bin/piapi-mcp --sandbox`. It is started twice before: where nothing has been
compiled to bytecode yet, the first start shows what that costs.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

_ENDING_S = 30.0


class Connection:
    """Speaks to a server over its standard streams."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self._server = server
        self._number = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request and return its result."""
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        if self._server.stdin is None or self._server.stdout is None:
            raise RuntimeError("no pipes")
        self._server.stdin.write(json.dumps(message) + "\n")
        self._server.stdin.flush()
        while line := self._server.stdout.readline():
            answer = json.loads(line)
            if answer.get("id") == self._number:
                return answer["result"]
        raise RuntimeError("the server has ended")

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its structured answer."""
        result = self.ask("tools/call", name=tool, arguments=arguments)
        if result.get("isError"):
            raise RuntimeError(result["content"][0]["text"])
        return result["structuredContent"]


def smoke(command: list[str], *, env: Mapping[str, str] | None = None) -> str:
    """Start *command*, go the whole way, and return what was seen.

    Raises:
        RuntimeError, KeyError, ValueError: It did not go as it should.
    """
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as server:
        try:
            return _go(Connection(server))
        finally:
            _end(server)


def _go(server: Connection) -> str:
    client = {"name": "smoke", "version": "1"}
    hello = server.ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
    tools = len(server.ask("tools/list")["tools"])
    task = _buy(server)
    while task["status"] != "completed":
        task = server.call("get_task", task_id=task["task_id"], wait_seconds=20)
        if task["status"] == "failed":
            raise RuntimeError(task)
    return f"{hello['serverInfo']['name']} {hello['serverInfo']['version']}, {tools} tools, {task['result_urls'][0]}"


def _buy(server: Connection) -> dict[str, Any]:
    """Upscale the first of the listed Midjourney tasks that allows it: grids do, upscaled images do not."""
    why = "no task is listed"
    for listed in server.call("list_tasks", limit=100)["tasks"]:
        try:
            return server.call("midjourney_upscale", origin_task_id=listed["task_id"], index="1")
        except RuntimeError as error:
            why = str(error)
    raise RuntimeError(why)


def start_s(command: list[str]) -> float:
    """Return the seconds from the start of *command* to its answer to `initialize`."""
    started = time.monotonic()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as server:
        client = {"name": "smoke", "version": "1"}
        Connection(server).ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
        took_s = time.monotonic() - started
        _end(server)
    return took_s


def _end(server: "subprocess.Popen[str]") -> None:
    """Say good-bye as the specification has it: by closing the server's input."""
    try:
        server.communicate(timeout=_ENDING_S)
    except subprocess.TimeoutExpired:
        server.kill()
        raise


def main(command: list[str]) -> int:
    """Start *command* twice and go the whole way, and return the exit status."""
    first_s, second_s = start_s(command), start_s(command)
    print(f"first start {first_s:.2f} s, second {second_s:.2f} s: {first_s / second_s:.2f} x")
    print(smoke(command))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
