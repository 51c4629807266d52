"""The server over HTTP as a team runs it: a subprocess, and clients on both transports."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, cast

import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.settings import Settings
from tests.support.stdio_server import PASSED_ON

COMMAND = [sys.executable, "-m", "piapi_mcp", "--transport", "streamable-http", "--port", "0"]
PAID = {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "3"}
OWN_KEY = "sandbox-s3cr3t-key"

Era = Literal["auto", "legacy"]


def environment(settings: Settings, **more: str) -> dict[str, str]:
    own = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return own | {"PIAPI_BASE_URL": settings.base_url, "PIAPI_STATE_DIR": str(settings.state_dir)} | more


@contextmanager
def start(settings: Settings, *arguments: str, **more: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """Run the server and yield it with its address."""
    env = environment(settings, **more)
    with subprocess.Popen([*COMMAND, *arguments], env=env, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        line = server.stderr.readline()
        assert line.startswith("piapi-mcp serves "), line
        try:
            yield server, line.split()[2].removesuffix("/mcp")
        finally:
            server.terminate()


@contextmanager
def serve(settings: Settings, *arguments: str, **more: str) -> Generator[str]:
    """Run the server and yield its address."""
    with start(settings, *arguments, **more) as (_, url):
        yield url


@asynccontextmanager
async def client(url: str, transport: str, era: Era, **headers: str) -> AsyncGenerator[Client]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(headers=named, timeout=60) as http:
        over_sse = sse_client(f"{url}/sse", headers=named)
        over_http = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(over_sse if transport == "sse" else over_http, mode=era) as connected:
            yield connected


async def call(connected: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await connected.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return cast("dict[str, Any]", result.structured_content)
