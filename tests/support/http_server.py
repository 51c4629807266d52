"""The server over HTTP as a team runs it: a subprocess, and clients on both transports."""

import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import httpx
import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from piapi_mcp.settings import Settings
from tests.support import stdio_server
from tests.support.messages import ACCEPT
from tests.support.stdio_server import inherited_environment

COMMAND = [*stdio_server.COMMAND, "--transport", "streamable-http", "--port", "0"]
Era = Literal["auto", "legacy"]


@dataclass(frozen=True)
class HttpServer:
    """A running server."""

    url: str
    """Without the path of a transport."""
    process: subprocess.Popen[str]
    settings: Settings
    """Where its PiAPI and its ledger are."""


def environment(settings: Settings, **variables: str) -> dict[str, str]:
    """Return the environment of a server without a key of its own, with *settings*, then *variables*."""
    own = {"PIAPI_BASE_URL": settings.base_url, "PIAPI_STATE_DIR": str(settings.state_dir)}
    return inherited_environment() | own | variables


@contextmanager
def run_server(settings: Settings, *arguments: str, **variables: str) -> Generator[HttpServer]:
    """Run a server with *arguments* on a free port; *variables* are added to its environment."""
    command = [*COMMAND, *arguments]
    with subprocess.Popen(command, env=environment(settings, **variables), stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        line = server.stderr.readline()
        assert line.startswith("piapi-mcp serves "), line
        try:
            yield HttpServer(line.split()[2].removesuffix("/mcp"), server, settings)
        finally:
            server.terminate()


@contextmanager
def run_shared_server(base_url: str, folder: Path, *arguments: str, **variables: str) -> Generator[HttpServer]:
    """Run a server for many tests: its ledger is in *folder*, and the number of requests is not limited."""
    settings = Settings.from_env({"PIAPI_BASE_URL": base_url, "PIAPI_STATE_DIR": str(folder)})
    with run_server(settings, *arguments, PIAPI_MCP_REQUESTS_PER_SECOND="0", **variables) as server:
        yield server


def post(url: str, message: dict[str, Any], **headers: str) -> httpx.Response:
    """Post *message* to `/mcp` without a client; `_` in the name of a header stands for `-`."""
    return httpx.post(f"{url}/mcp", json=message, headers=ACCEPT | _spell(headers), trust_env=False, timeout=30)


@asynccontextmanager
async def connect(url: str, transport: str, era: Era, **headers: str) -> AsyncGenerator[Client]:
    """Connect a client that sends *headers* with each request; `_` in a name stands for `-`."""
    spelled = _spell(headers)
    async with httpx2.AsyncClient(headers=spelled, timeout=60) as http:
        over_sse = sse_client(f"{url}/sse", headers=spelled)
        over_http = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(over_sse if transport == "sse" else over_http, mode=era) as client:
            yield client


async def call_tool(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a tool that must succeed, and return its structured answer."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return cast("dict[str, Any]", result.structured_content)


def _spell(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
