"""How long a call waits: as long as the client allows, unless the operator or the call sets another limit."""

import asyncio

import pytest
from mcp import Client
from mcp.types import Implementation

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.server.build import build_server
from piapi_mcp.server.client_timeouts import wait_limits
from piapi_mcp.settings import Settings
from tests.support.http_server import Era, call_tool
from tests.support.stdio_server import UPSCALE_ARGUMENTS


@pytest.mark.parametrize(
    ("client", "setting_s", "requested_s", "wait_s"),
    [
        pytest.param("claude-ai", None, None, 25, id="most-clients"),
        pytest.param(None, None, None, 25, id="a-client-without-a-name"),
        pytest.param("claude-ai", None, 600, 45, id="longer-than-most-clients-wait"),
        pytest.param("claude-ai", None, 0, 0, id="not-at-all"),
        pytest.param("mcp", None, None, 3, id="the-sdk-that-impatient-clients-are-built-on"),
        pytest.param("mcp", None, 30, 30, id="a-call-that-names-a-wait"),
        pytest.param("OpenAI-Agents", None, 30, 4, id="an-impatient-client"),
        pytest.param("claude-ai", 100, None, 100, id="the-operators-default"),
        pytest.param("claude-ai", 100, 90, 90, id="within-the-operators-limit"),
        pytest.param("mcp", 5, 60, 45, id="beyond-the-operators-default"),
    ],
)
def test_a_wait_fits_the_client(
    client: str | None, setting_s: float | None, requested_s: float | None, wait_s: float
) -> None:
    assert wait_limits(client, setting_s=setting_s).apply(requested_s) == wait_s


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_the_name_that_a_client_sends_decides_how_long_a_call_waits(
    settings: Settings, sandbox: SandboxControl, era: Era
) -> None:
    sandbox.set(polls=10_000)
    longest_wait_s = asyncio.get_running_loop().create_future()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        del progress, message
        if not longest_wait_s.done():
            longest_wait_s.set_result(total)

    impatient = Implementation(name="openai-agents", version="1")
    async with Client(build_server(settings), mode=era, client_info=impatient) as client:
        task = await call_tool(client, "midjourney_upscale", UPSCALE_ARGUMENTS)
        arguments = {"task_id": task["task_id"]}
        waiting = asyncio.create_task(client.call_tool("get_task", arguments, progress_callback=on_progress))
        assert await asyncio.wait_for(longest_wait_s, 20) == 3.0
        waiting.cancel()
