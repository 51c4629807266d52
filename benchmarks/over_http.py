"""Measure what `get_task` costs over Streamable HTTP, against a minimal tool on the same SDK that reads the same task.

    python -m benchmarks.over_http [CALLS]

Run from the checkout. Both servers run in processes of their own, against one sandbox; calls go to them in turn, over 1
and over 32 connections. Then this project's server gets 20,000 calls, for its memory, and 500 waits at once. Prints
PASS or FAIL for each target.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.sandbox.server import SandboxServer
from tests.support.messages import ACCEPT, MODERN, modern

MAX_RATIO = 1.25
MAX_GROWTH_MIB = 8
"""During the second half of the calls: the caches (previews, callers) are full after the first."""
CALLS_FOR_MEMORY = 20_000
WAITS, KEYS = 500, 10
TASK_ID = Sample("6", is_grid=True).task_id

MINIMAL = """
import os, httpx
from mcp.server.mcpserver import MCPServer
server = MCPServer("minimal", log_level="WARNING")
http = httpx.AsyncClient(base_url=os.environ["PIAPI_BASE_URL"], headers={"x-api-key": "sandbox-bench"}, trust_env=False)
@server.tool()
async def get_task(task_id: str) -> dict:
    "Read a task."
    return (await http.get(f"/api/v1/task/{task_id}")).json()
import uvicorn, socket
listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listening.bind(("127.0.0.1", 0))
listening.listen()
import sys
print(f"minimal serves http://127.0.0.1:{listening.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
app = server.streamable_http_app(stateless_http=True)
uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run(sockets=[listening])
"""
PIAPI_MCP = [sys.executable, "-m", "piapi_mcp", "--transport", "streamable-http", "--port", "0"]


@contextmanager
def server(command: list[str], base_url: str, state: str) -> Generator[tuple[int, str]]:
    """Run *command* and yield its process id and the URL that it prints."""
    env = os.environ | {
        "PIAPI_BASE_URL": base_url,
        "PIAPI_API_KEY": "sandbox-bench",
        "PIAPI_STATE_DIR": state,
        "PIAPI_MCP_REQUESTS_PER_SECOND": "0",
    }
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        if process.stderr is None:
            raise RuntimeError("no pipe")
        url = process.stderr.readline().split()[2]
        try:
            yield process.pid, url
        finally:
            process.terminate()


def get_task(task_id: str, **arguments: Any) -> dict[str, Any]:
    """Return a call of get_task, in the era without handshake."""
    return modern("tools/call", name="get_task", arguments={"task_id": task_id} | arguments)


WITHOUT_WAIT: dict[str, Any] = {"wait_seconds": 0, "preview": False}
HEADERS = ACCEPT | {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "get_task"}


async def time_calls(url: str, count: int, connections: int, body: dict[str, Any]) -> float:
    """Make *count* calls over so many connections and return the seconds that they took."""
    numbers = iter(range(count))
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=60) as http:

        async def work() -> None:
            for _ in numbers:
                reply = await http.post(url, json=body, headers=HEADERS)
                if '"isError":true' in reply.raise_for_status().text or "completed" not in reply.text.lower():
                    raise RuntimeError(reply.text)

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(connections)))
        return time.perf_counter() - started


async def compare(piapi_mcp_url: str, minimal_url: str, count: int, connections: int) -> float:
    """Return how many times longer a call of this project's server takes: the median of rounds, calling in turn."""
    ratios: list[float] = []
    bodies = {piapi_mcp_url: get_task(TASK_ID, **WITHOUT_WAIT), minimal_url: get_task(TASK_ID)}
    for number in range(9):
        urls = [piapi_mcp_url, minimal_url] if number % 2 else [minimal_url, piapi_mcp_url]
        took_s = {url: await time_calls(url, count, connections, bodies[url]) for url in urls}
        ratios.append(took_s[piapi_mcp_url] / took_s[minimal_url])
    return statistics.median(ratios)


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def wait_at_once(url: str, base_url: str) -> tuple[float, int]:
    """Let many calls wait at once; return how late the last was answered, in seconds, and how many got the result."""
    control = SandboxControl(base_url)
    control.set(polls=10_000, max_concurrent_tasks=WAITS, does_work=False)
    submitted: list[tuple[str, str]] = []
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=WAITS), trust_env=False, timeout=90) as http:
        for number in range(WAITS):
            key = {"x-api-key": f"sandbox-wait-{number % KEYS}"}
            task_input = {"origin_task_id": TASK_ID, "index": str(number % 4 + 1)}
            body = {"model": "midjourney", "task_type": "upscale", "input": task_input}
            reply = await http.post(f"{base_url}/api/v1/task", json=body, headers=key)
            submitted.append((reply.json()["data"]["task_id"], key["x-api-key"]))

        async def wait(task_id: str, key: str) -> str:
            body = get_task(task_id, wait_seconds=40, preview=False)
            return (await http.post(url, json=body, headers=HEADERS | {"x-api-key": key})).text

        waiting = [asyncio.create_task(wait(*task)) for task in submitted]
        await asyncio.to_thread(control.wait_for, "read", times=WAITS, timeout_s=60)
        control.set(polls=1)
        ended = time.perf_counter()
        answers = await asyncio.gather(*waiting)
    control.close()
    return time.perf_counter() - ended, sum('"status":"completed"' in answer.replace("\\", "") for answer in answers)


def report(text: str, *, passed: bool) -> bool:
    """Print a figure with its verdict."""
    print(f"{'PASS' if passed else 'FAIL'}  {text}")
    return passed


async def main(count: int) -> bool:
    """Measure, and return whether every target is met."""
    with ExitStack() as stack:
        base_url = stack.enter_context(SandboxServer()).base_url
        state = stack.enter_context(tempfile.TemporaryDirectory())
        pid, url = stack.enter_context(server(PIAPI_MCP, base_url, state))
        _, minimal_url = stack.enter_context(server([sys.executable, "-c", MINIMAL], base_url, state))
        results: list[bool] = []
        for connections in (1, 32):
            ratio = await compare(url, minimal_url, count, connections)
            text = f"get_task over {connections} connections: {ratio:.2f} x a minimal tool (at most {MAX_RATIO})"
            results.append(report(text, passed=ratio <= MAX_RATIO))
        body = get_task(TASK_ID, **WITHOUT_WAIT)
        await time_calls(url, CALLS_FOR_MEMORY // 2, 32, body)
        half = memory_mib(pid)
        await time_calls(url, CALLS_FOR_MEMORY // 2, 32, body)
        end = memory_mib(pid)
        text = f"memory over {CALLS_FOR_MEMORY} calls: {half:.1f} MiB after half of them, {end:.1f} MiB at the end"
        results.append(report(text, passed=end - half <= MAX_GROWTH_MIB))
        late_s, completed = await wait_at_once(url, base_url)
        text = f"{WAITS} waits at once: {completed} answered with the result, the last {late_s:.1f} s late"
        results.append(report(text, passed=completed == WAITS))
    return all(results)


if __name__ == "__main__":
    sys.exit(not asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)))
