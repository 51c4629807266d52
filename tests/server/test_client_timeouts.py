"""How long a call waits: what the client allows, unless the operator or the call says otherwise."""

from typing import Any

import pytest
from mcp import Client
from mcp.types import Implementation

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.server.build import build_server
from piapi_mcp.server.client_timeouts import wait_limits
from piapi_mcp.settings import Settings
from tests.support.http_server import call


@pytest.mark.parametrize(
    ("client", "setting_s", "asked_s", "wait_s"),
    [
        pytest.param("claude-ai", None, None, 25, id="most-clients"),
        pytest.param(None, None, None, 25, id="a-client-without-a-name"),
        pytest.param("claude-ai", None, 600, 45, id="longer-than-most-clients-wait"),
        pytest.param("claude-ai", None, 0, 0, id="not-at-all"),
        pytest.param("mcp", None, None, 3, id="the-sdk-that-hasty-clients-are-built-on"),
        pytest.param("mcp", None, 30, 30, id="who-asks-means-it"),
        pytest.param("OpenAI-Agents", None, 30, 4, id="a-hasty-client"),
        pytest.param("claude-ai", 100, None, 100, id="as-the-operator-says"),
        pytest.param("claude-ai", 100, 90, 90, id="as-the-operator-lets"),
        pytest.param("mcp", 5, 60, 45, id="the-operator-says-the-usual"),
    ],
)
def test_a_wait_fits_the_client(
    client: str | None, setting_s: float | None, asked_s: float | None, wait_s: float
) -> None:
    assert wait_limits(client, setting_s=setting_s).apply(asked_s) == wait_s


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_the_client_says_who_it_is(settings: Settings, sandbox: SandboxControl, era: Any) -> None:
    sandbox.set(polls=10_000)
    totals: list[float | None] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        del progress, message
        totals.append(total)

    hasty = Implementation(name="openai-agents", version="1")
    async with Client(build_server(settings), mode=era, client_info=hasty) as connected:
        paid = {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "1"}
        task = await call(connected, "midjourney_upscale", paid)
        await connected.call_tool("get_task", {"task_id": task["task_id"]}, progress_callback=note)
    assert set(totals) == {3.0}
