"""The server as operators run it: with several workers, mounted in another application, limited, and shut down."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from piapi_mcp.errors import SettingsError
from piapi_mcp.hosting.app import create_app
from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.settings import Settings
from tests.support import stdio_server
from tests.support.http_server import Era, HttpServer, call_tool, connect, environment, post, run_server
from tests.support.messages import ACCEPT, INITIALIZE
from tests.support.stdio_server import KEY, UPSCALE_ARGUMENTS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and inherited sockets are POSIX's")

MOUNTED = """
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.routing import Mount
from piapi_mcp.hosting.app import create_app

upscaling = create_app()

@asynccontextmanager
async def lifespan(app):
    async with upscaling.router.lifespan_context(upscaling):
        yield

app = Starlette(routes=[Mount("/tools", app=upscaling)], lifespan=lifespan)
"""


@contextmanager
def run_uvicorn(settings: Settings, *arguments: str, **variables: str) -> Generator[str]:
    """Run an ASGI server with *arguments* and yield its address; *variables* are added to its environment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "--fd",
            str(listening.fileno()),
            "--log-level",
            "warning",
            *arguments,
        ]
        env = environment(settings, **variables)
        with subprocess.Popen(command, env=env, pass_fds=[listening.fileno()]) as server:
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.terminate()


async def test_the_workers_of_any_asgi_server_share_the_ledger(settings: Settings) -> None:
    factory = ("--factory", "piapi_mcp.hosting.app:create_app", "--workers", "2")
    with run_uvicorn(settings, *factory, PIAPI_API_KEY=KEY, PIAPI_MCP_ACCESS_TOKEN="t0ken") as url:
        seen = set[str]()
        for era in ("auto", "legacy") * 3:
            async with connect(url, "streamable-http", era, authorization="Bearer t0ken") as client:
                seen.add((await call_tool(client, "midjourney_upscale", UPSCALE_ARGUMENTS))["task_id"])
    assert len(seen) == 1


async def test_it_works_mounted_in_another_application(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "mounted.py").write_text(MOUNTED)
    arguments = ("--app-dir", str(tmp_path), "mounted:app")
    with run_uvicorn(settings, *arguments, PIAPI_MCP_ALLOWED_HOSTS="mcp.example.com") as origin:
        url = f"{origin}/tools"
        async with connect(url, "streamable-http", "legacy", x_api_key=KEY) as client:
            over_http = await call_tool(client, "midjourney_upscale", UPSCALE_ARGUMENTS)
        async with connect(url, "sse", "legacy", x_api_key=KEY) as client:
            over_sse = await call_tool(client, "midjourney_upscale", UPSCALE_ARGUMENTS)
        named = post(url, INITIALIZE, host="mcp.example.com")
    assert over_http["task_id"] == over_sse["task_id"]
    assert named.status_code == 200


def test_the_factory_refuses_to_spend_its_key_for_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIAPI_API_KEY", KEY)
    with pytest.raises(
        SettingsError, match=r"^Under an ASGI server, anyone who can connect could spend money with PIAPI_API_KEY\."
    ):
        create_app()


def test_a_port_that_is_taken_is_refused_with_what_to_do(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*stdio_server.COMMAND, "--transport", "streamable-http", "--port", str(port)]
        done = subprocess.run(
            command, env=environment(settings), capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"piapi-mcp: The server cannot listen on 127.0.0.1:{port} (")
    assert done.stderr.endswith("Choose another --host or --port.\n")


def test_requests_that_are_too_large_are_refused_unread(http_server: HttpServer) -> None:
    def send(content: bytes | Iterable[bytes]) -> httpx.Response:
        return httpx.post(f"{http_server.url}/mcp", content=content, headers=ACCEPT, trust_env=False, timeout=30)

    reply, streamed = send(b"x" * (16 << 20)), send(b"x" * (1 << 20) for _ in range(16))
    assert (reply.status_code, streamed.status_code) == (413, 413)
    assert "larger than 15 MB" in reply.json()["error"]


def test_a_caller_that_sends_too_many_requests_is_told_when_to_come_again(settings: Settings) -> None:
    with run_server(settings, PIAPI_MCP_REQUESTS_PER_SECOND="0.1") as server:
        first, second = (post(server.url, INITIALIZE, x_api_key="sandbox-a") for _ in range(2))
        another = post(server.url, INITIALIZE, x_api_key="sandbox-b")
        health = [httpx.get(f"{server.url}/healthz", trust_env=False).status_code for _ in range(5)]
    assert (first.status_code, second.status_code, another.status_code) == (200, 429, 200)
    assert 1 <= int(second.headers["retry-after"]) <= 10
    assert "0.1 requests a second" in second.json()["error"]
    assert health == [200] * 5


async def test_a_key_can_wait_in_only_so_many_calls_at_once(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(polls=10_000)
    with run_server(settings, PIAPI_MCP_REQUESTS_PER_SECOND="0") as server:
        async with (
            connect(server.url, "sse", "legacy", x_api_key="sandbox-a") as one,
            connect(server.url, "sse", "legacy", x_api_key="sandbox-b") as another,
        ):
            task_id = (await call_tool(one, "midjourney_upscale", UPSCALE_ARGUMENTS))["task_id"]
            arguments = {"task_id": task_id, "wait_seconds": 40}
            waits = [asyncio.create_task(one.call_tool("get_task", arguments)) for _ in range(101)]
            done, waiting = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            without_wait = await call_tool(one, "get_task", {"task_id": task_id, "wait_seconds": 0})
            of_another = await call_tool(another, "midjourney_upscale", UPSCALE_ARGUMENTS | {"wait_seconds": 1})
            for wait in waiting:
                wait.cancel()
    refused = done.pop().result()
    assert refused.is_error
    assert "100 calls of this key are waiting for tasks" in str(refused.content)
    assert without_wait["task_id"] == task_id
    assert "task_id" in of_another


async def test_sigterm_lets_running_calls_of_every_transport_and_era_be_answered(
    settings: Settings, sandbox: SandboxControl
) -> None:
    sandbox.set(polls=10_000)
    clients: tuple[tuple[str, Era], ...] = (
        ("streamable-http", "auto"),
        ("streamable-http", "legacy"),
        ("sse", "legacy"),
    )
    with run_server(settings, PIAPI_API_KEY=KEY) as server:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(connect(server.url, "sse", "legacy"))  # one that calls nothing
            connected = [await stack.enter_async_context(connect(server.url, *client)) for client in clients]
            submitted = [
                await call_tool(client, "midjourney_upscale", UPSCALE_ARGUMENTS | {"index": index})
                for client, index in zip(connected, "123", strict=True)
            ]
            task_ids = [task["task_id"] for task in submitted]
            waiting = [
                asyncio.create_task(call_tool(client, "get_task", {"task_id": task_id, "wait_seconds": 40}))
                for client, task_id in zip(connected, task_ids, strict=True)
            ]
            await asyncio.to_thread(wait_until_polled, sandbox, task_ids)
            server.process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*waiting)
            await asyncio.to_thread(server.process.wait, 10)
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
    assert [answer["task_id"] for answer in answers] == task_ids
    assert all(answer["status"] in ("pending", "processing") for answer in answers)
    assert server.process.returncode == -signal.SIGTERM


def wait_until_polled(sandbox: SandboxControl, task_ids: list[str]) -> None:
    """Return as soon as each of the tasks has been read."""

    def polled() -> set[str]:
        return {request["path"].rsplit("/", 1)[1] for request in sandbox.requests("read")}

    while not set(task_ids) <= polled():
        sandbox.wait_for("read", times=len(sandbox.requests("read")) + 1)


def test_sigterm_lets_a_submission_that_was_sent_be_answered(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.fault("create", "delay", delay_s=1.0)
    params = {"name": "midjourney_upscale", "arguments": UPSCALE_ARGUMENTS}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    with run_server(settings, PIAPI_API_KEY=KEY) as server, ThreadPoolExecutor() as pool:
        reply = pool.submit(post, server.url, message)
        sandbox.wait_for("create")
        server.process.send_signal(signal.SIGTERM)
        text = reply.result().text
        assert server.process.wait(10) == -signal.SIGTERM
    assert sandbox.tasks()[0]["task_id"] in text
