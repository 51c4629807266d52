"""Smoke test of an installed server over stdio, from the handshake to a completed task, without any libraries.

    python packaging/smoke.py COMMAND [ARGUMENT ...]

COMMAND starts the server, for example `.venv/bin/piapi-mcp --sandbox`. Before the test it is started twice and timed:
if the installation holds no bytecode yet, the first start includes compiling it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

_EXIT_TIMEOUT_S = 30.0


class Connection:
    """An MCP connection to a server over its standard streams."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self._server = server
        self._number = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request and return its result."""
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        if self._server.stdin is None or self._server.stdout is None:
            raise RuntimeError("the server was started without pipes")
        self._server.stdin.write(json.dumps(message) + "\n")
        self._server.stdin.flush()
        while line := self._server.stdout.readline():
            answer = json.loads(line)
            if answer.get("id") == self._number:
                return answer["result"]
        raise RuntimeError("the server exited without an answer")

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its structured content."""
        result = self.ask("tools/call", name=tool, arguments=arguments)
        if result.get("isError"):
            raise RuntimeError(result["content"][0]["text"])
        return result["structuredContent"]


def smoke(command: list[str], *, env: Mapping[str, str] | None = None) -> str:
    """Start *command*, upscale a Midjourney image, and return a summary.

    Raises:
        RuntimeError, KeyError, ValueError: A step failed, or an answer has another form than expected.
    """
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as server:
        try:
            return _run(Connection(server))
        finally:
            _stop(server)


def _run(server: Connection) -> str:
    client = {"name": "smoke", "version": "1"}
    hello = server.ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
    tools = len(server.ask("tools/list")["tools"])
    task = _submit(server)
    while task["status"] != "completed":
        task = server.call("get_task", task_id=task["task_id"], wait_seconds=20)
        if task["status"] == "failed":
            raise RuntimeError(task)
    return f"{hello['serverInfo']['name']} {hello['serverInfo']['version']}, {tools} tools, {task['result_urls'][0]}"


def _submit(server: Connection) -> dict[str, Any]:
    """Upscale the first listed Midjourney task that can be: grids can, upscaled images cannot."""
    failure = "no task is listed"
    for listed in server.call("list_tasks", limit=100)["tasks"]:
        try:
            return server.call("midjourney_upscale", origin_task_id=listed["task_id"], index="1")
        except RuntimeError as error:
            failure = str(error)
    raise RuntimeError(failure)


def measure_start_s(command: list[str]) -> float:
    """Return the seconds from starting *command* to its answer to `initialize`."""
    started = time.monotonic()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as server:
        client = {"name": "smoke", "version": "1"}
        Connection(server).ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
        took_s = time.monotonic() - started
        _stop(server)
    return took_s


def _stop(server: "subprocess.Popen[str]") -> None:
    """Stop the server as the MCP specification says: by closing its input."""
    try:
        server.communicate(timeout=_EXIT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        raise


def main(command: list[str]) -> int:
    """Time two starts of *command*, run the smoke test, and return the exit status."""
    first_s, second_s = measure_start_s(command), measure_start_s(command)
    print(f"first start {first_s:.2f} s, second {second_s:.2f} s: {first_s / second_s:.2f} x")
    print(smoke(command))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
