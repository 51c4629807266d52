"""What looking at a task costs over Streamable HTTP, against a bare tool of the SDK that asks PiAPI the same.

    python -m benchmarks.over_http [CALLS]

Both servers run in processes of their own, against one sandbox; calls go to them in turn, over 1 and over 32
connections. Then 20,000 calls and 500 waits at once go to ours, and its memory is read. Prints PASS or FAIL for each
target.
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

import httpx

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.sandbox.server import SandboxServer

MAX_RATIO = 1.25
MAX_GROWTH_MIB = 8
"""Over the second half of the calls; what is kept at most (previews, callers) is reached in the first."""
CALLS_FOR_MEMORY = 20_000
WAITS, KEYS = 500, 10
TASK_ID = Sample("6", is_grid=True).task_id

BARE = """
import os, httpx
from mcp.server.mcpserver import MCPServer
server = MCPServer("bare", log_level="WARNING")
http = httpx.AsyncClient(base_url=os.environ["PIAPI_BASE_URL"], headers={"x-api-key": "sandbox-bench"}, trust_env=False)
@server.tool()
async def get_task(task_id: str) -> dict:
    "Look at a task."
    return (await http.get(f"/api/v1/task/{task_id}")).json()
import uvicorn, socket
listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listening.bind(("127.0.0.1", 0))
listening.listen()
import sys
print(f"bare serves http://127.0.0.1:{listening.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
app = server.streamable_http_app(stateless_http=True)
uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run(sockets=[listening])
"""
OURS = [sys.executable, "-m", "piapi_mcp", "--transport", "streamable-http", "--port", "0"]


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


def message(task_id: str, *, wait_s: float | None = 0) -> dict[str, object]:
    """Return a call of get_task, in the era without handshake."""
    arguments = {"task_id": task_id} | ({} if wait_s is None else {"wait_seconds": wait_s, "preview": False})
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
    }
    params = {"name": "get_task", "arguments": arguments, "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


HEADERS = {
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": "get_task",
}


async def calls(url: str, count: int, connections: int, body: dict[str, object]) -> float:
    """Make *count* calls over so many connections and return the seconds that they took."""
    left = iter(range(count))
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=60) as http:

        async def work() -> None:
            for _ in left:
                reply = await http.post(url, json=body, headers=HEADERS)
                if '"isError":true' in reply.raise_for_status().text or "completed" not in reply.text.lower():
                    raise RuntimeError(reply.text)

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(connections)))
        return time.perf_counter() - started


async def ratio(ours: str, bare: str, count: int, connections: int) -> float:
    """Return how much longer a call of ours takes, as the median of rounds that go to both in turn."""
    ratios: list[float] = []
    for number in range(9):
        pair = [
            (ours, message(TASK_ID)),
            (bare, message(TASK_ID, wait_s=None)),
        ]
        took = {url: await calls(url, count, connections, body) for url, body in (pair if number % 2 else pair[::-1])}
        ratios.append(took[ours] / took[bare])
    return statistics.median(ratios)


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def waits(url: str, base_url: str) -> tuple[float, int]:
    """Let many calls wait at once; return how long after their tasks' end the last was answered, and how many were."""
    control = SandboxControl(base_url)
    control.set(polls=10_000, max_concurrent_tasks=WAITS, does_work=False)
    submitted: list[tuple[str, str]] = []
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=WAITS), trust_env=False, timeout=90) as http:
        for number in range(WAITS):
            key = {"x-api-key": f"sandbox-wait-{number % KEYS}"}
            asked = {"model": "midjourney", "task_type": "upscale"}
            asked_input = {"origin_task_id": TASK_ID, "index": str(number % 4 + 1)}
            reply = await http.post(f"{base_url}/api/v1/task", json=asked | {"input": asked_input}, headers=key)
            submitted.append((reply.json()["data"]["task_id"], key["x-api-key"]))

        async def wait(task_id: str, key: str) -> str:
            body = message(task_id, wait_s=40)
            return (await http.post(url, json=body, headers=HEADERS | {"x-api-key": key})).text

        waiting = [asyncio.create_task(wait(*task)) for task in submitted]
        await asyncio.to_thread(control.wait_for, "read", times=WAITS, timeout_s=60)
        control.set(polls=1)
        ended = time.perf_counter()
        answers = await asyncio.gather(*waiting)
    control.close()
    return time.perf_counter() - ended, sum('"status":"completed"' in answer.replace("\\", "") for answer in answers)


def verdict(text: str, *, is_reached: bool) -> bool:
    """Print a figure with its verdict."""
    print(f"{'PASS' if is_reached else 'FAIL'}  {text}")
    return is_reached


async def main(count: int) -> bool:
    """Measure, and return whether every target is reached."""
    with ExitStack() as stack:
        base_url = stack.enter_context(SandboxServer()).base_url
        state = stack.enter_context(tempfile.TemporaryDirectory())
        pid, ours = stack.enter_context(server(OURS, base_url, state))
        _, bare = stack.enter_context(server([sys.executable, "-c", BARE], base_url, state))
        results: list[bool] = []
        for connections in (1, 32):
            factor = await ratio(ours, bare, count, connections)
            text = f"get_task over {connections} connections: {factor:.2f} x a bare tool (target {MAX_RATIO})"
            results.append(verdict(text, is_reached=factor <= MAX_RATIO))
        await calls(ours, CALLS_FOR_MEMORY // 2, 32, message(TASK_ID))
        half = memory_mib(pid)
        await calls(ours, CALLS_FOR_MEMORY // 2, 32, message(TASK_ID))
        end = memory_mib(pid)
        text = f"memory over {CALLS_FOR_MEMORY} calls: {half:.1f} MiB after half of them, {end:.1f} at the end"
        results.append(verdict(text, is_reached=end - half <= MAX_GROWTH_MIB))
        late_s, completed = await waits(ours, base_url)
        text = f"{WAITS} waits at once: {completed} answered with the result, the last {late_s:.1f} s after the end"
        results.append(verdict(text, is_reached=completed == WAITS))
    return all(results)


if __name__ == "__main__":
    sys.exit(not asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)))
