"""The server as operators run it: with more workers, inside another application, bounded, and ended without loss."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.settings import Settings
from tests.support.http_server import OWN_KEY, PAID, Era, call, client, environment, serve, start
from tests.support.messages import ACCEPT, INITIALIZE

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
def uvicorn(settings: Settings, *arguments: str, **more: str) -> Generator[str]:
    """Run an ASGI server and yield its address."""
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
        env = environment(settings, **more)
        with subprocess.Popen(command, env=env, pass_fds=[listening.fileno()]) as server:
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.terminate()


async def test_any_asgi_server_serves_it_with_more_workers(settings: Settings) -> None:
    factory = ("--factory", "piapi_mcp.hosting.app:create_app", "--workers", "2")
    with uvicorn(settings, *factory, PIAPI_API_KEY=OWN_KEY, PIAPI_MCP_ACCESS_TOKEN="t0ken") as url:
        seen = set[str]()
        for era in ("auto", "legacy") * 3:
            async with client(url, "streamable-http", era, authorization="Bearer t0ken") as connected:
                seen.add((await call(connected, "midjourney_upscale", PAID))["task_id"])
    assert len(seen) == 1  # the workers share the ledger


async def test_another_application_mounts_it(settings: Settings, tmp_path: Any) -> None:
    (tmp_path / "mounted.py").write_text(MOUNTED)
    with uvicorn(settings, "--app-dir", str(tmp_path), "mounted:app", PIAPI_MCP_ALLOWED_HOSTS="mcp.example.com") as url:
        async with client(f"{url}/tools", "streamable-http", "legacy", x_api_key=OWN_KEY) as connected:
            over_http = await call(connected, "midjourney_upscale", PAID)
        async with client(f"{url}/tools", "sse", "legacy", x_api_key=OWN_KEY) as connected:
            over_sse = await call(connected, "midjourney_upscale", PAID)
        named = httpx.post(
            f"{url}/tools/mcp", json=INITIALIZE, headers=ACCEPT | {"host": "mcp.example.com"}, trust_env=False
        )
    assert over_http["task_id"] == over_sse["task_id"]
    assert named.status_code == 200


def test_a_factory_that_would_spend_its_key_for_anybody_makes_nothing(settings: Settings) -> None:
    command = [sys.executable, "-c", "from piapi_mcp.hosting.app import create_app; create_app()"]
    env = environment(settings, PIAPI_API_KEY=OWN_KEY)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert (
        "SettingsError: Under an ASGI server, anyone who can connect could spend money with PIAPI_API_KEY."
        in done.stderr
    )


def test_requests_that_are_too_large_are_refused_unread(settings: Settings) -> None:
    with serve(settings, PIAPI_API_KEY=OWN_KEY) as url:
        reply = httpx.post(f"{url}/mcp", content=b"x" * (16 << 20), headers=ACCEPT, trust_env=False, timeout=30)
        pieces = (b"x" * (1 << 20) for _ in range(16))
        streamed = httpx.post(f"{url}/mcp", content=pieces, headers=ACCEPT, trust_env=False, timeout=30)
    assert (reply.status_code, streamed.status_code) == (413, 413)
    assert "larger than 15 MB" in reply.json()["error"]


def test_a_caller_that_asks_too_often_is_told_when_to_come_again(settings: Settings) -> None:
    with serve(settings, PIAPI_MCP_REQUESTS_PER_SECOND="0.1") as url, httpx.Client(trust_env=False) as http:

        def ask(key: str) -> httpx.Response:
            return http.post(f"{url}/mcp", json=INITIALIZE, headers=ACCEPT | {"x-api-key": key})

        first, second, another = ask("sandbox-a"), ask("sandbox-a"), ask("sandbox-b")
        alive = [http.get(f"{url}/healthz").status_code for _ in range(5)]
    assert (first.status_code, second.status_code, another.status_code) == (200, 429, 200)
    assert 1 <= int(second.headers["retry-after"]) <= 10
    assert "0.1 requests a second" in second.json()["error"]
    assert alive == [200] * 5


async def test_only_so_many_calls_of_a_key_wait_at_once(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(polls=10_000)
    with serve(settings, PIAPI_MCP_REQUESTS_PER_SECOND="0") as url:
        async with (
            client(url, "sse", "legacy", x_api_key="sandbox-a") as a,
            client(url, "sse", "legacy", x_api_key="sandbox-b") as b,
        ):
            task_id = (await call(a, "midjourney_upscale", PAID))["task_id"]
            waits = [
                asyncio.create_task(a.call_tool("get_task", {"task_id": task_id, "wait_seconds": 40}))
                for _ in range(101)
            ]
            done, waiting = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            looked = await call(a, "get_task", {"task_id": task_id, "wait_seconds": 0})
            other = await call(b, "midjourney_upscale", PAID | {"wait_seconds": 1})
            for wait in waiting:
                wait.cancel()
    refused = done.pop().result()
    assert refused.is_error
    assert "100 calls of this key wait for tasks already" in str(refused.content)
    assert looked["task_id"] == task_id
    assert "task_id" in other


@pytest.mark.parametrize(
    ("transport", "era"), [("streamable-http", "auto"), ("streamable-http", "legacy"), ("sse", "legacy")]
)
async def test_told_to_end_it_answers_the_calls_that_run(
    settings: Settings, sandbox: SandboxControl, transport: str, era: Era
) -> None:
    sandbox.set(polls=10_000)
    with start(settings, PIAPI_API_KEY=OWN_KEY) as (server, url):
        async with client(url, "sse", "legacy"), client(url, transport, era) as connected:
            task_id = (await call(connected, "midjourney_upscale", PAID))["task_id"]
            waiting = asyncio.create_task(call(connected, "get_task", {"task_id": task_id, "wait_seconds": 40}))
            await asyncio.to_thread(sandbox.wait_for, "read", times=2)
            server.send_signal(signal.SIGTERM)
            answer = await waiting
            await asyncio.to_thread(server.wait, 10)
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])))
    assert answer["task_id"] == task_id
    assert answer["status"] in ("pending", "processing")
    assert server.returncode == -signal.SIGTERM


def test_told_to_end_it_finishes_the_purchase_that_is_under_way(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.fault("create", "delay", delay_s=1.0)
    replies: list[dict[str, Any]] = []

    def buy(url: str) -> None:
        params = {"name": "midjourney_upscale", "arguments": PAID}
        message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
        with httpx.stream("POST", f"{url}/mcp", json=message, headers=ACCEPT, trust_env=False, timeout=30) as reply:
            replies.append({"text": "".join(reply.iter_text())})

    with start(settings, PIAPI_API_KEY=OWN_KEY) as (server, url):
        buying = threading.Thread(target=buy, args=[url])
        buying.start()
        sandbox.wait_for("create")
        server.send_signal(signal.SIGTERM)
        buying.join()
        assert server.wait(10) == -signal.SIGTERM
    assert sandbox.tasks()[0]["task_id"] in replies[0]["text"]
