"""Two keys on one server, one ledger, and possibly one thief: over every tool, nothing leaks."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client

from piapi_mcp.sandbox.control_client import SandboxControl
from piapi_mcp.sandbox.fixtures import Sample
from piapi_mcp.server.tools import build_tools
from piapi_mcp.settings import Settings
from tests.support.http_server import client, serve
from tests.support.media_files import make_clip

VICTIM, THIEF = "sandbox-victim-k3y", "sandbox-thief-k3y"
SECRET = "wh-s3cr3t"
PAID = {"origin_task_id": Sample("6", is_grid=True).task_id, "index": "4"}
OVER_HTTP = [tool.name for tool in build_tools(local_files=False)]


@asynccontextmanager
async def both(settings: Settings, transport: str = "streamable-http") -> AsyncGenerator[tuple[Client, Client, str]]:
    """Connect the victim and the thief to one server, and yield the id of a task that the victim bought."""
    with serve(settings, PIAPI_MCP_REQUESTS_PER_SECOND="0") as url:
        async with (
            client(url, transport, "auto", x_api_key=VICTIM) as victim,
            client(url, transport, "auto", x_api_key=THIEF) as thief,
        ):
            hook = {"webhook_endpoint": "https://hook.example.com", "webhook_secret": SECRET}
            bought = await victim.call_tool("midjourney_upscale", PAID | hook)
            assert bought.structured_content is not None
            yield victim, thief, bought.structured_content["task_id"]


def attempts(task_id: str, image: str) -> dict[str, dict[str, Any]]:
    """Return, for each tool, the call by which a thief would get at the task."""
    return {
        "midjourney_upscale": {"origin_task_id": task_id, "index": "subtle"},
        "video_upscale": {"video": "/etc/passwd"},
        "image_upscale": {"image": image},
        "get_task": {"task_id": task_id, "wait_seconds": 1},
        "cancel_task": {"task_id": task_id},
        "list_tasks": {"limit": 100, "status": "unknown"},
        "get_account": {},
    }


@pytest.mark.parametrize("transport", ["streamable-http", "sse"])
@pytest.mark.parametrize("tool", OVER_HTTP)
async def test_no_tool_shows_or_touches_the_task_of_another_key(
    settings: Settings, sandbox: SandboxControl, tool: str, transport: str
) -> None:
    sandbox.set(polls=10_000)
    async with both(settings, transport) as (victim, thief, task_id):
        call = attempts(task_id, f"file://{settings.state_dir}/ledger.sqlite3")[tool]
        answer = json.dumps([block.model_dump(mode="json") for block in (await thief.call_tool(tool, call)).content])
        after = (await victim.call_tool("get_task", {"task_id": task_id, "wait_seconds": 0})).structured_content
    assert VICTIM not in answer
    assert SECRET not in answer
    # Beyond the id that the thief brought along, nothing of the task comes back.
    assert "hook.example.com" not in answer
    assert answer.count(task_id) <= json.dumps(call).count(task_id)
    assert after is not None
    assert after["status"] in ("pending", "processing")
    assert len(sandbox.tasks()) == 1


async def test_every_tool_is_tried() -> None:
    assert list(attempts("", "")) == OVER_HTTP


async def test_the_same_request_of_another_key_is_another_purchase(settings: Settings, sandbox: SandboxControl) -> None:
    async with both(settings) as (_victim, thief, task_id):
        own = await thief.call_tool("midjourney_upscale", PAID)
        again = await thief.call_tool("midjourney_upscale", PAID)
    assert own.structured_content is not None
    assert again.structured_content is not None
    assert own.structured_content["task_id"] != task_id
    assert again.structured_content["task_id"] == own.structured_content["task_id"]
    assert "notes" not in own.structured_content
    assert len(sandbox.tasks()) == 2


async def test_an_outcome_that_is_unknown_is_known_to_its_key_alone(
    settings: Settings, sandbox: SandboxControl
) -> None:
    with serve(settings) as url:
        async with client(url, "streamable-http", "auto", x_api_key=VICTIM) as victim:
            sandbox.fault("create", "cut", when="before", times=1)
            sandbox.fault("history", "answer", status=503, times=50)
            lost = await victim.call_tool("midjourney_upscale", PAID)
            sandbox.clear_faults()
            seen = await victim.call_tool("list_tasks", {"status": "unknown"})
        async with client(url, "streamable-http", "auto", x_api_key=THIEF) as thief:
            unseen = await thief.call_tool("list_tasks", {"status": "unknown"})
    assert lost.is_error
    assert "unknown" in str(seen.content)
    assert not (unseen.structured_content or {"tasks": []})["tasks"]


async def test_a_budget_is_each_keys_own(settings: Settings, sandbox: SandboxControl) -> None:
    sandbox.set(does_work=True)
    clips = [make_clip(width=64, height=64, frames=frames) for frames in (10, 11)]
    videos = [f"data:video/mp4;base64,{base64.b64encode(clip).decode()}" for clip in clips]
    with serve(settings, PIAPI_DAILY_BUDGET_USD="0.004") as url:
        async with (
            client(url, "streamable-http", "auto", x_api_key=VICTIM) as victim,
            client(url, "streamable-http", "auto", x_api_key=THIEF) as thief,
        ):
            bought = await victim.call_tool("video_upscale", {"video": videos[0]})
            refused = await victim.call_tool("video_upscale", {"video": videos[1]})
            other = await thief.call_tool("video_upscale", {"video": videos[1]})
            account = await thief.call_tool("get_account", {})
    assert not bought.is_error
    assert refused.is_error
    assert not other.is_error
    assert account.structured_content is not None
    assert account.structured_content["spent_today_usd"] == pytest.approx(0.0033)


async def test_keys_that_call_at_the_same_time_get_their_own_answers(settings: Settings) -> None:
    keys = [f"sandbox-tenant-{number}" for number in range(8)]
    with serve(settings, PIAPI_MCP_REQUESTS_PER_SECOND="0") as url:

        async def buy(key: str) -> str:
            async with client(url, "streamable-http", "auto", x_api_key=key) as own:
                bought = await own.call_tool("midjourney_upscale", PAID)
                assert bought.structured_content is not None
                task_id = bought.structured_content["task_id"]
                seen = await own.call_tool("get_task", {"task_id": task_id, "wait_seconds": 0})
                assert not seen.is_error
                return task_id

        task_ids = await asyncio.gather(*map(buy, keys))
    assert len(set(task_ids)) == len(keys)
